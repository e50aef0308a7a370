"""Places takes as strips in the file that is open. (scene/strip does it in a copy of a file.)"""

from __future__ import annotations

from pathlib import Path

import bpy

from ..scene import compat, strip

_OWNER = "animatic_shot_scene"


def place_takes(scene: bpy.types.Scene, shot: dict, out: Path, count: int) -> bpy.types.Scene:
    """Add the ``count`` takes in the folder ``out`` to the edit scene of ``scene``; return that.

    ``shot`` is the shot object of the guides task, which says on which frames they belong.

    The edit scene is made once; later takes come above the earlier ones, so that the newest is
    seen. ``scene`` itself gets no strip: that would replace its F12 render. Raises SceneError when
    frames are missing.
    """
    edit = _edit_scene(scene)
    bottom = 1 if edit is None else _free_channel(edit, shot["start"], shot["end"])
    names = [f"{shot['name']} Take {bottom + index}" for index in range(count)]
    takes = [{"name": name, "frames": _frames(out, index)} for index, name in enumerate(names)]
    files = [strip._files_per_scene_frame(take, shot["frame_map"]) for take in takes]
    if edit is None:
        edit = _new_edit_scene(scene, shot)
    edit.frame_start = min(edit.frame_start, shot["start"])
    edit.frame_end = max(edit.frame_end, shot["end"])
    for index, (name, paths) in enumerate(zip(names, files, strict=True)):
        made = compat.new_image_strip(edit, name, paths, bottom + index, shot["start"])
        made.directory = _directory(paths[0].parent)
        made.colorspace_settings.name = "sRGB"
        made.mute = index > 0
    compat.show_in_sequencer(edit)
    return edit


def _frames(out: Path, index: int) -> list[str]:
    # as shot/take_folder lays takes out
    folder = out if index == 0 else out / f"take-{index + 1:02d}"
    return [str(path) for path in sorted(folder.glob("frames/*.png"))]


def _edit_scene(scene: bpy.types.Scene) -> bpy.types.Scene | None:
    return next((other for other in bpy.data.scenes if other.get(_OWNER) == scene), None)


def _new_edit_scene(scene: bpy.types.Scene, shot: dict) -> bpy.types.Scene:
    edit = strip._new_edit_scene(scene, shot)
    edit[_OWNER] = scene  # a pointer: it follows the scene when that is renamed
    return edit


def _free_channel(edit: bpy.types.Scene, start: int, end: int) -> int:
    """The lowest channel above all strips between two scene frames, both included."""
    if edit.sequence_editor is None:
        return 1
    used = [
        other.channel
        for other in edit.sequence_editor.strips
        if other.frame_final_start <= end and other.frame_final_end > start
    ]
    return max(used, default=0) + 1


def _directory(folder: Path) -> str:
    if not bpy.data.filepath:
        return f"{folder}/"  # Blender makes it relative when the file is first saved
    try:
        return bpy.path.relpath(str(folder)) + "/"
    except ValueError:  # another drive on Windows
        return f"{folder}/"
