"""Places takes as image strips in an edit scene, in the open file or in a copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bpy

from . import compat
from .errors import SceneError

_OWNER = "animatic_shot_scene"


def write_strips(shot: dict, takes: Sequence[Sequence[Path]], out_blend: Path) -> dict:
    """Save the open file as ``out_blend`` with an edit scene that shows ``takes`` on ``shot``.

    ``shot`` and ``takes`` as for ``place_takes``. Returns ``{"out_blend", "scene", "strips":
    [{"name", "channel"}]}``.
    """
    scene = _shot_scene(shot["scene"])
    for take in takes:
        _files_per_scene_frame(take, shot)  # refused before anything is written
    bpy.context.preferences.filepaths.save_version = 0  # no shot.blend1
    # Saved once before there are strips, so that their paths can be relative to the new place.
    _save(out_blend)
    edit, strips = place_takes(scene, shot, takes)
    _save(out_blend)
    placed = [{"name": strip.name, "channel": strip.channel} for strip in strips]
    return {"out_blend": str(out_blend), "scene": edit.name, "strips": placed}


def place_takes(
    scene: bpy.types.Scene, shot: dict, takes: Sequence[Sequence[Path]]
) -> tuple[bpy.types.Scene, list[bpy.types.bpy_struct]]:
    """Add ``takes`` to the edit scene of ``scene``; return that scene and the new strips.

    ``shot`` is the shot object of the guides task, which says on which frames they belong; a take
    is its PNG files, one per clip frame (or per scene frame, where in-between frames were made),
    all in one folder. Each take is one strip, one element per scene frame; all but the first are
    muted. The edit scene is made once; later takes come on channels above the earlier ones, so that
    the newest is seen. ``scene`` itself gets no strip: that would replace its F12 render. Raises
    SceneError when frames are missing; nothing is then changed.
    """
    files = [_files_per_scene_frame(take, shot) for take in takes]
    edit = _edit_scene(scene)
    if edit is None:
        edit = _new_edit_scene(scene, shot)
    edit.frame_start = min(edit.frame_start, shot["start"])
    edit.frame_end = max(edit.frame_end, shot["end"])
    bottom = _free_channel(edit, shot["start"], shot["end"])
    strips = []
    for channel, paths in enumerate(files, start=bottom):
        name = f"{shot['name']} Take {channel}"
        strip = compat.new_image_strip(edit, name, paths, channel, shot["start"])
        strip.directory = _directory(paths[0].parent)
        strip.colorspace_settings.name = "sRGB"
        strip.mute = channel > bottom
        strips.append(strip)
    compat.show_in_sequencer(edit)
    return edit, strips


def _shot_scene(name: str) -> bpy.types.Scene:
    scene = bpy.data.scenes.get(name)
    if scene is None:
        raise SceneError(
            f"The file has no scene '{name}' any more: was it changed while the video was made?"
        )
    return scene


def _files_per_scene_frame(take: Sequence[Path], shot: dict) -> list[Path]:
    frame_map = shot["frame_map"]
    if shot.get("in_between") and len(take) == len(frame_map):
        frame_map = list(range(len(take)))
    folders = {path.parent for path in take}
    if len(take) <= max(frame_map) or len(folders) != 1:
        where = ", ".join(map(str, sorted(folders))) or "the take's folder"
        raise SceneError(
            f"{len(take)} frames in {where}; the shot needs {max(frame_map) + 1}, in one folder."
        )
    missing = [path.name for path in take if not path.is_file()]
    if missing:
        raise SceneError(f"{take[0].parent} lacks the files {', '.join(missing)}.")
    return [take[k] for k in frame_map]


def _edit_scene(scene: bpy.types.Scene) -> bpy.types.Scene | None:
    return next((other for other in bpy.data.scenes if other.get(_OWNER) == scene), None)


def _new_edit_scene(scene: bpy.types.Scene, shot: dict) -> bpy.types.Scene:
    edit = bpy.data.scenes.new(f"{scene.name} Edit")
    ours, theirs = edit.render, scene.render
    ours.fps, ours.fps_base = theirs.fps, theirs.fps_base
    ours.resolution_x, ours.resolution_y = shot["film"]["width"], shot["film"]["height"]
    ours.resolution_percentage = 100
    ours.pixel_aspect_x, ours.pixel_aspect_y = theirs.pixel_aspect_x, theirs.pixel_aspect_y
    edit.frame_start, edit.frame_end = shot["start"], shot["end"]
    edit.frame_set(shot["start"])
    compat.finished_pictures(edit)
    edit[_OWNER] = scene  # a pointer: it follows the scene when that is renamed
    return edit


def _free_channel(edit: bpy.types.Scene, start: int, end: int) -> int:
    """The lowest channel above all strips between two scene frames, both included."""
    if edit.sequence_editor is None:
        return 1
    used = []
    for other in edit.sequence_editor.strips:
        first, after = compat.strip_range(other)
        if first <= end and after > start:
            used.append(other.channel)
    return max(used, default=0) + 1


def _directory(folder: Path) -> str:
    if not bpy.data.filepath:
        return f"{folder}/"  # Blender makes it relative when the file is first saved
    try:
        return bpy.path.relpath(str(folder)) + "/"
    except ValueError:  # another drive on Windows
        return f"{folder}/"


def _save(path: Path) -> None:
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(path), relative_remap=True, check_existing=False)
    except RuntimeError as error:
        raise SceneError(f"{path} could not be written: {error}") from error
