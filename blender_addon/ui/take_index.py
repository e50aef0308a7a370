"""The takes and shots that the lists show: read when something has changed, never while drawing."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..errors import AnimaticError
from ..scene.camera_background import is_behind
from ..scene.compat import show_in_sequencer
from ..scene.review import REVIEWED, review_of
from ..scene.shots import Shot, find_shots
from ..scene.strip import edit_scene
from ..shot.takes import TakeOnDisk, find_takes
from . import guides_report, previews, shot_states
from .asked import finished_runs
from .redraw import redraw

_on_disk: list[TakeOnDisk] = []
_seen: tuple | None = None


def take_at(folder: str) -> TakeOnDisk | None:
    """The take in ``folder``, as it was last read."""
    return next((take for take in _on_disk if str(take.folder) == folder), None)


def of_shot(take: TakeOnDisk) -> list[TakeOnDisk]:
    """All takes of the shot of ``take``."""
    return [each for each in _on_disk if (each.scene, each.shot) == (take.scene, take.shot)]


def all_takes() -> list[TakeOnDisk]:
    """The takes of the open file, oldest first."""
    return list(_on_disk)


def shot_camera(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The camera of the shot on screen."""
    shots = find_shots(scene)
    return scene.objects.get(shots[_current(scene, shots)].camera) if shots else None


def strips_of_takes() -> dict[Path, list[bpy.types.Strip]]:
    """The strips of all scenes but reviews by the take that they show."""
    found: dict[Path, list[bpy.types.Strip]] = {}
    for scene in bpy.data.scenes:
        for folder, strips in strips_in(scene).items():
            found.setdefault(folder, []).extend(strips)
    return found


def strips_in(scene: bpy.types.Scene) -> dict[Path, list[bpy.types.Strip]]:
    """As ``strips_of_takes``, of one scene; none of a review's."""
    found: dict[Path, list[bpy.types.Strip]] = {}
    editor = scene.sequence_editor if REVIEWED not in scene else None
    for strip in editor.strips_all if editor is not None else ():
        if strip.type == "IMAGE":
            folder = _folder(strip.directory, bpy.data.filepath)
        elif strip.type == "MOVIE":
            folder = _folder(f"{strip.filepath}/", bpy.data.filepath)
        else:
            continue
        found.setdefault(folder, []).append(strip)
    return found


def read_disk() -> None:
    """Read the takes of the open file anew, and show what has changed."""
    global _on_disk, _seen
    _seen = None  # opening a file has emptied the lists, which go with the window manager
    try:
        runs = [run.resolve() for run in finished_runs(bpy.context)]
    except AnimaticError:
        runs = []  # the pattern in the preferences is wrong: Generate says so
    # Takes from before the file was saved, or from the command line, are elsewhere.
    placed = dict.fromkeys(_run_of(folder) for folder in strips_of_takes())
    _on_disk = find_takes([*(run for run in placed if run not in runs), *runs])
    guides_report.remember_takes(_newest(bpy.context.scene))
    refresh()


def _newest(scene: bpy.types.Scene) -> list[TakeOnDisk]:
    """The newest take of each shot of ``scene``."""
    by_shot = {take.shot: take for take in _on_disk if take.scene == scene.name}
    return list(by_shot.values())


def refresh() -> None:
    """Bring the lists up to date where the scene, the playhead or a strip has changed."""
    global _seen
    scene = bpy.context.scene
    shots = find_shots(scene)
    current = _current(scene, shots)
    strips = strips_of_takes() if _on_disk else {}
    shown, span = _on_top(strips), _span(scene, shots, current)
    takes = tuple(take.folder for take in _on_disk)
    made = Counter((take.scene, take.shot) for take in _on_disk)
    states = tuple(
        shot_states.state_of(scene.name, shot.name, made[scene.name, shot.name]) for shot in shots
    )
    movies = {folder for folder, at in strips.items() if any(s.type == "MOVIE" for s in at)}
    camera = scene.objects.get(shots[current].camera) if shots else None
    more = (_reviewed(scene), is_behind(camera), tuple(sorted(movies)))
    seen = (scene.name, tuple(shots), current, span, tuple(sorted(shown)), takes, states, more)
    if seen == _seen:
        return
    _seen = seen
    _fill(scene, shots, current, span, shown)
    lists = bpy.context.window_manager.animatic
    for row, state in zip(lists.shots, states, strict=True):
        row.state = state.name
    if lists.review and not more[0]:
        _back_to_edit(scene)
    lists.review, lists.behind_camera, _ = more
    for row in lists.takes:
        row.is_movie = Path(row.folder) in movies
    redraw()


def _back_to_edit(scene: bpy.types.Scene) -> None:
    """Undo takes a review away, too, but leaves the Video Sequencer with no scene at all."""
    edit = edit_scene(scene)
    if edit is not None:
        show_in_sequencer(edit)


def _current(scene: bpy.types.Scene, shots: list[Shot]) -> int:
    """The place of the shot on screen; 0 where there is none."""
    frame = scene.frame_current
    return next((i for i, shot in enumerate(shots) if shot.start <= frame <= shot.end), 0)


def _reviewed(scene: bpy.types.Scene) -> str:
    """What the review scene shows, in words; "" without one."""
    room = review_of(scene)
    if room is None or room.sequence_editor is None:
        return ""
    texts = [strip for strip in room.sequence_editor.strips if strip.type == "TEXT"]
    return " | ".join(strip.text for strip in sorted(texts, key=lambda strip: strip.channel))


def _span(scene: bpy.types.Scene, shots: list[Shot], current: int) -> str:
    """The frames that Generate makes, in words."""
    settings = scene.animatic
    if settings.use_range:
        return f"{settings.range_start} to {settings.range_end}"
    return f"{shots[current].start} to {shots[current].end}" if shots else ""


def _on_top(strips: dict[Path, list[bpy.types.Strip]]) -> set[Path]:
    """The take of each shot that is seen: the topmost of those that are not muted."""
    seen: dict[tuple[str, str], tuple[int, Path]] = {}
    for take in _on_disk:
        for strip in strips.get(take.folder, ()):
            shot = (take.scene, take.shot)
            if not strip.mute and strip.channel > seen.get(shot, (0,))[0]:
                seen[shot] = (strip.channel, take.folder)
    return {folder for _, folder in seen.values()}


def _fill(
    scene: bpy.types.Scene, shots: list[Shot], current: int, span: str, shown: set[Path]
) -> None:
    lists = bpy.context.window_manager.animatic
    lists.shots.clear()
    for shot in shots:
        row = lists.shots.add()
        row.name, row.start, row.end = shot.name, shot.start, shot.end
        made = [t for t in _on_disk if (t.scene, t.shot) == (scene.name, shot.name)]
        row.takes = len(made)
        row.icon = _icon(next((t for t in made if t.folder in shown), made[-1])) if made else 0
    lists.span = span
    active = lists.takes[lists.takes_index].folder if _has_active(lists) else ""
    lists.takes.clear()
    name = shots[current].name if shots else ""
    mine = [take for take in _on_disk if (take.scene, take.shot) == (scene.name, name)]
    for take in reversed(mine):  # the newest is looked for most
        row = lists.takes.add()
        row.name, row.folder, row.seed = take.label, str(take.folder), str(take.seed)
        row.shown = take.folder in shown
        row.icon = _icon(take)
    folders = [row.folder for row in lists.takes]
    lists.takes_index = folders.index(active) if active in folders else 0


def _icon(take: TakeOnDisk) -> int:
    return previews.thumbnail(take.folder / "frames" / "0001.png")


def _has_active(lists: bpy.types.PropertyGroup) -> bool:
    return 0 <= lists.takes_index < len(lists.takes)


@lru_cache(maxsize=1024)
def _folder(directory: str, _blend: str) -> Path:
    """The take's folder of a strip's ``directory``; relative ones depend on the open file."""
    return Path(bpy.path.abspath(directory)).resolve().parent


def _run_of(take: Path) -> Path:
    """The run's folder of a take's: the same for its first take, the one above for the others."""
    return take if (take / "request.json").is_file() else take.parent


@persistent
def _on_file(*_arguments: object) -> None:
    read_disk()


def register() -> None:
    """Look whenever a file is opened or saved."""
    bpy.app.handlers.load_post.append(_on_file)
    bpy.app.handlers.save_post.append(_on_file)


def unregister() -> None:
    """Look no more."""
    global _seen
    _seen = None
    bpy.app.handlers.save_post.remove(_on_file)
    bpy.app.handlers.load_post.remove(_on_file)
