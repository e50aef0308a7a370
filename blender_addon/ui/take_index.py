"""The takes and shots that the lists show: read when something has changed, never while drawing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
from .asked import finished_runs, takes_are_own
from .lists import AnimaticLists, new_lists
from .redraw import open_scenes, redraw
from .take_homes import Home, find_homes

_on_disk: list[TakeOnDisk] = []
_own: frozenset[Path] = frozenset()
_homes: dict[Path, Home] = {}
_homes_of: tuple | None = None
_seen: dict[int, tuple] = {}  # by the session_uid of each scene that a window shows


def take_at(folder: str) -> TakeOnDisk | None:
    """The take in ``folder``, as it was last read."""
    return next((take for take in _on_disk if str(take.folder) == folder), None)


def of_shot(take: TakeOnDisk) -> list[TakeOnDisk]:
    """All takes of the shot of ``take``."""
    homes = take_homes()
    return [each for each in _on_disk if homes[each.folder] == homes.get(take.folder)]


def scene_of(take: TakeOnDisk, context: bpy.types.Context) -> bpy.types.Scene:
    """The scene that ``take`` is a take of; the open one where that is gone."""
    home = take_homes().get(take.folder)
    return bpy.data.scenes.get(home.scene if home is not None else take.scene, context.scene)


def shot_name(take: TakeOnDisk) -> str:
    """What the shot of ``take`` is called now."""
    home = take_homes().get(take.folder)
    return home.shot if home is not None else take.shot


def take_homes() -> dict[Path, Home]:
    """The shot of each take by the take's folder, as scenes and markers are named now."""
    global _homes, _homes_of
    if not _on_disk:
        return {}
    scenes = [scene for scene in bpy.data.scenes if scene.library is None]
    shots = {scene.name: tuple(find_shots(scene)) for scene in scenes}
    edits = {scene.name: edit for scene in scenes if (edit := edit_scene(scene)) is not None}
    edited = {name: frozenset(strips_in(edit)) for name, edit in edits.items()}
    seen = (tuple(take.folder for take in _on_disk), _own, shots, edited)
    if seen != _homes_of:
        _homes_of = seen
        _homes = find_homes(_on_disk, shots, edited, _own)
    return _homes


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
    global _on_disk, _own, _homes_of
    _seen.clear()  # opening a file has emptied the lists, which go with the window manager
    _homes_of = None  # a take may have been written anew in its folder
    try:
        runs = [run.resolve() for run in finished_runs(bpy.context)]
    except AnimaticError:
        runs = []  # the pattern in the preferences is wrong: Generate says so
    # Takes from before the file was saved, or from the command line, are elsewhere.
    placed = dict.fromkeys(_run_of(folder) for folder in strips_of_takes())
    _on_disk = find_takes([*(run for run in placed if run not in runs), *runs])
    own = set(runs) if takes_are_own(bpy.context) else set()
    _own = frozenset(take.folder for take in _on_disk if _run_of(take.folder) in own)
    homes = take_homes()
    newest = {homes[take.folder]: take for take in _on_disk}
    for scene in bpy.data.scenes:
        of_scene = [take for home, take in newest.items() if home.scene == scene.name]
        guides_report.remember_takes(scene, of_scene)
    refresh()


def refresh() -> None:
    """Bring the lists up to date where a scene, its playhead or a strip has changed."""
    strips = strips_of_takes() if _on_disk else {}
    homes = take_homes()
    shown = _on_top(strips, homes)
    movies = {folder for folder, at in strips.items() if any(s.type == "MOVIE" for s in at)}
    # Each, for its own panel: they may lie in two windows.
    changed = [_refresh(scene, homes, shown, movies) for scene in open_scenes()]
    if any(changed):
        redraw()


def _refresh(
    scene: bpy.types.Scene, homes: Mapping[Path, Home], shown: set[Path], movies: set[Path]
) -> bool:
    """Bring the lists of one scene up to date; return whether something has changed."""
    shots = find_shots(scene)
    current = _current(scene, shots)
    span = _span(scene, shots, current)
    mine = [(homes[take.folder], take) for take in _on_disk]
    mine = [(home, take) for home, take in mine if home.scene == scene.name]
    made = Counter(home.number for home, _ in mine)
    states = tuple(
        shot_states.state_of(scene.name, shot.name, made[number])
        for number, shot in enumerate(shots)
    )
    camera = scene.objects.get(shots[current].camera) if shots else None
    more = (_reviewed(scene), is_behind(camera), tuple(sorted(movies)))
    takes = tuple((home, take.folder) for home, take in mine)
    seen = (scene.name, tuple(shots), current, span, tuple(sorted(shown)), takes, states, more)
    if seen == _seen.get(scene.session_uid):
        return False
    _seen[scene.session_uid] = seen
    lists = new_lists(scene)
    _fill(lists, shots, current, span, shown, mine)
    for row, state in zip(lists.shots, states, strict=True):
        row.state = state.name
    if lists.review and not more[0]:
        _back_to_edit(scene)
    lists.review, lists.behind_camera, _ = more
    for row in lists.takes:
        row.is_movie = Path(row.folder) in movies
    return True


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


def _on_top(strips: dict[Path, list[bpy.types.Strip]], homes: Mapping[Path, Home]) -> set[Path]:
    """The take of each shot that is seen: the topmost of those that are not muted."""
    seen: dict[Home, tuple[int, Path]] = {}
    for take in _on_disk:
        for strip in strips.get(take.folder, ()):
            home = homes[take.folder]
            if not strip.mute and strip.channel > seen.get(home, (0,))[0]:
                seen[home] = (strip.channel, take.folder)
    return {folder for _, folder in seen.values()}


def _fill(
    lists: AnimaticLists,
    shots: list[Shot],
    current: int,
    span: str,
    shown: set[Path],
    mine: list[tuple[Home, TakeOnDisk]],
) -> None:
    lists.shots.clear()
    for number, shot in enumerate(shots):
        row = lists.shots.add()
        row.name, row.start, row.end = shot.name, shot.start, shot.end
        made = [take for home, take in mine if home.number == number]
        row.takes = len(made)
        row.icon = _icon(next((t for t in made if t.folder in shown), made[-1])) if made else 0
    lists.span = span
    active = lists.takes[lists.takes_index].folder if _has_active(lists) else ""
    lists.takes.clear()
    here = [(home, take) for home, take in mine if home.number == current]
    for home, take in reversed(here):  # the newest is looked for most
        row = lists.takes.add()
        row.name, row.folder, row.seed = take.label, str(take.folder), str(take.seed)
        row.once = take.shot if take.shot != home.shot else ""
        row.shown = take.folder in shown
        row.icon = _icon(take)
    folders = [row.folder for row in lists.takes]
    lists.takes_index = folders.index(active) if active in folders else 0


def _icon(take: TakeOnDisk) -> int:
    return previews.thumbnail(take.folder / "frames" / "0001.png")


def _has_active(lists: AnimaticLists) -> bool:
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
    _seen.clear()
    bpy.app.handlers.save_post.remove(_on_file)
    bpy.app.handlers.load_post.remove(_on_file)
