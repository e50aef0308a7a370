"""Places takes as strips in an edit scene, in the open file or in a copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import bpy

from ..shot.held_frames import per_scene_frame
from ..shot.in_between_files import video_name
from . import compat
from .errors import SceneError

_OWNER = "animatic_shot_scene"
SHOT = "animatic_shot"
"""The custom property that names the shot of a take's strip."""
REQUEST = "animatic_request"
"""The custom property with what was asked for, as in the take's request.json."""
# Channel 1 stays free for the shot's own render, over which a take may be laid.
_LOWEST = 2


def write_strips(shot: dict, takes: Sequence[Sequence[Path]], out_blend: Path) -> dict:
    """Save the open file as ``out_blend`` with an edit scene that shows ``takes`` on ``shot``.

    ``shot`` and ``takes`` as for ``place_takes``. Returns ``{"out_blend", "scene", "strips":
    [{"name", "channel"}]}``.
    """
    scene = _shot_scene(shot["scene"])
    for take in takes:
        per_scene_frame(take, shot)  # refused before anything is written
    bpy.context.preferences.filepaths.save_version = 0  # no shot.blend1
    # Saved once before there are strips, so that their paths can be relative to the new place.
    _save(out_blend)
    edit, strips = place_takes(scene, shot, takes)
    _save(out_blend)
    placed = [{"name": strip.name, "channel": strip.channel} for strip in strips]
    return {"out_blend": str(out_blend), "scene": edit.name, "strips": placed}


def place_takes(
    scene: bpy.types.Scene, shot: dict, takes: Sequence[Sequence[Path]], as_movies: bool = False
) -> tuple[bpy.types.Scene, list[bpy.types.bpy_struct]]:
    """Add ``takes`` to the edit scene of ``scene``; return that scene and the new strips.

    ``shot`` is the shot object of the guides task, which says on which frames they belong; a take
    is its PNG files, one per clip frame (or per scene frame, where in-between frames were made),
    all in one folder. Each take is one strip, one element per scene frame, or its video at the
    scene's rate with ``as_movies``, where it has one. All but the first are muted. The edit scene
    is made once; later takes come on channels above the earlier ones, which are muted where the
    new ones cover them, so that the newest alone is seen. ``scene`` itself gets no strip: that
    would replace its F12 render. Raises AnimaticError when frames are missing; nothing is then
    changed.
    """
    files = [per_scene_frame(take, shot) for take in takes]
    edit = edit_scene(scene)
    if edit is None:
        edit = _new_edit_scene(scene, shot)
    edit.frame_start = min(edit.frame_start, shot["start"])
    edit.frame_end = max(edit.frame_end, shot["end"])
    _mute_covered(edit, shot)
    bottom = max(_LOWEST, free_channel(edit, shot["start"], shot["end"]))
    strips = []
    number = 1 + len(_takes_of(edit, shot))
    for channel, paths in enumerate(files, start=bottom):
        name = f"{shot['name']} Take {number + channel - bottom}"
        movie = scene_video(paths, shot) if as_movies else None
        strip = take_strip(edit, name, paths, channel, shot, movie)
        strip.mute = channel > bottom
        strips.append(strip)
    compat.show_in_sequencer(edit)
    return edit, strips


def take_strip(
    edit: bpy.types.Scene,
    name: str,
    files: list[Path],
    channel: int,
    shot: dict,
    movie: Path | None = None,
) -> bpy.types.bpy_struct:
    """Place one take; ``files`` as of ``per_scene_frame``, or its ``movie`` instead."""
    if movie is not None:
        strip = compat.new_movie_strip(edit, name, movie, channel, shot["start"])
        strip.filepath = relative_path(movie)
    else:
        strip = compat.new_image_strip(edit, name, files, channel, shot["start"])
        strip.directory = f"{relative_path(files[0].parent)}/"
    strip.colorspace_settings.name = "sRGB"
    strip.blend_type = "ALPHA_OVER"
    strip[SHOT] = shot["name"]
    take = files[0].parent.parent
    places = (take / "request.json", take.parent / "request.json")
    request = next((place for place in places if place.is_file()), None)
    if request is not None:
        strip[REQUEST] = request.read_text(encoding="utf-8")
    return strip


def scene_video(files: Sequence[Path], shot: dict) -> Path | None:
    """The video at the scene's rate of the take whose pictures are ``files``, if it is there."""
    video = files[0].parent.parent / video_name(Fraction(shot["scene_fps"]))
    return video if video.is_file() else None


def _takes_of(edit: bpy.types.Scene, shot: dict) -> list[bpy.types.bpy_struct]:
    editor = edit.sequence_editor
    strips = editor.strips_all if editor is not None else ()
    return [strip for strip in strips if strip.get(SHOT) == shot["name"]]


def _mute_covered(edit: bpy.types.Scene, shot: dict) -> None:
    """Mute the earlier takes of a shot that show no frame beside the new one's."""
    for strip in _takes_of(edit, shot):
        first, after = compat.strip_range(strip)
        if shot["start"] <= first and after - 1 <= shot["end"]:
            strip.mute = True


def _shot_scene(name: str) -> bpy.types.Scene:
    scene = bpy.data.scenes.get(name)
    if scene is None:
        raise SceneError(
            f"The file has no scene '{name}' any more: was it changed while the video was made?"
        )
    return scene


def edit_scene(scene: bpy.types.Scene) -> bpy.types.Scene | None:
    """Return the scene in which the takes of ``scene`` are edited, if there is one."""
    return next((other for other in bpy.data.scenes if other.get(_OWNER) == scene), None)


def _new_edit_scene(scene: bpy.types.Scene, shot: dict) -> bpy.types.Scene:
    edit = new_strip_scene(f"{scene.name} Edit", scene, shot)
    edit[_OWNER] = scene  # a pointer: it follows the scene when that is renamed
    return edit


def new_strip_scene(name: str, scene: bpy.types.Scene, shot: dict) -> bpy.types.Scene:
    """Make a scene for strips of takes: the film's size, the rate of ``scene``, no look."""
    edit = bpy.data.scenes.new(name)
    ours, theirs = edit.render, scene.render
    ours.fps, ours.fps_base = theirs.fps, theirs.fps_base
    ours.resolution_x, ours.resolution_y = shot["film"]["width"], shot["film"]["height"]
    ours.resolution_percentage = 100
    ours.pixel_aspect_x, ours.pixel_aspect_y = theirs.pixel_aspect_x, theirs.pixel_aspect_y
    edit.frame_start, edit.frame_end = shot["start"], shot["end"]
    edit.frame_set(shot["start"])
    compat.finished_pictures(edit)
    return edit


def free_channel(edit: bpy.types.Scene, start: int, end: int) -> int:
    """The lowest channel above all strips between two scene frames, both included."""
    if edit.sequence_editor is None:
        return 1
    used = []
    for other in edit.sequence_editor.strips:
        first, after = compat.strip_range(other)
        if first <= end and after > start:
            used.append(other.channel)
    return max(used, default=0) + 1


def relative_path(path: Path) -> str:
    """Return ``path`` as Blender writes it: relative to the open file, where it has a place."""
    if not bpy.data.filepath:
        return str(path)  # Blender makes it relative when the file is first saved
    try:
        return bpy.path.relpath(str(path))
    except ValueError:  # another drive on Windows
        return str(path)


def _save(path: Path) -> None:
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(path), relative_remap=True, check_existing=False)
    except RuntimeError as error:
        raise SceneError(f"{path} could not be written: {error}") from error
