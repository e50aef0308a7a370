"""A scene of its own in which one take is seen alone, or two beside each other.

The edit stays as it is: what is muted there, what the artist has cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy

from . import compat
from .strip import new_strip_scene, take_strip

REVIEWED = "animatic_reviewed"
"""The custom property of a review scene: a pointer to the scene that is reviewed."""
_OURS = "animatic_review"
_BACK = "animatic_back"
_LETTERS = 1 / 18  # of the height


@dataclass(frozen=True)
class Side:
    """What is seen on one side: a take's ``files``, one per scene frame; without, the render.

    ``shot`` is the shot object that it belongs to.
    """

    label: str
    shot: dict
    files: list[Path] | None


def open_review(
    scene: bpy.types.Scene, sides: Sequence[Side], workspace: bpy.types.WorkSpace | None
) -> bpy.types.Scene:
    """Show ``sides`` from left to right on their own frames of ``scene``; return the review scene.

    The Video Sequencer of ``workspace`` turns to it, where workspaces name a scene (5.0).
    """
    room = review_of(scene)
    shot = sides[0].shot
    if room is None:
        room = new_strip_scene(f"{scene.name} Review", scene, shot)
        room[REVIEWED] = scene
    else:
        _clear(room)
    width, height = shot["film"]["width"], shot["film"]["height"]
    room.render.resolution_x, room.render.resolution_y = width * len(sides), height
    room.frame_start = min(side.shot["start"] for side in sides)
    room.frame_end = max(side.shot["end"] for side in sides)
    room.frame_set(min(max(scene.frame_current, room.frame_start), room.frame_end))
    for index, side in enumerate(sides):
        strip = _place(room, scene, side, 1 + 2 * index)
        strip[_OURS] = True
        strip.transform.offset_x = round((index - (len(sides) - 1) / 2) * width)
        if side.files is not None:  # it was stretched over both sides
            strip.transform.scale_x /= len(sides)
        strip.mute = strip.select = False
        _label(room, side, 2 + 2 * index, (index + 0.5) / len(sides), height)
    _turn_to(room, workspace)
    return room


def review_of(scene: bpy.types.Scene) -> bpy.types.Scene | None:
    """The review scene of ``scene``, while there is one; ``scene`` itself where it is one.

    Before 5.0 the artist turns the window to it, since the Video Sequencer shows no other.
    """
    if REVIEWED in scene:
        return scene
    return next((other for other in bpy.data.scenes if other.get(REVIEWED) == scene), None)


def close_review(scene: bpy.types.Scene) -> None:
    """Go back to what the Video Sequencer showed before; remove the review scene.

    It stays where the artist has put strips of their own into it.
    """
    room = review_of(scene)
    if room is None:
        return
    for workspace in bpy.data.workspaces:
        if getattr(workspace, "sequencer_scene", None) == room:
            workspace.sequencer_scene = room.get(_BACK)
    _clear(room)
    if len(room.sequence_editor.strips):
        del room[REVIEWED]
    else:
        bpy.data.scenes.remove(room)


def _place(
    room: bpy.types.Scene, scene: bpy.types.Scene, side: Side, channel: int
) -> bpy.types.bpy_struct:
    if side.files is not None:
        return take_strip(room, side.label, side.files, channel, side.shot)
    span = (side.shot["start"], side.shot["end"])
    strip = compat.new_scene_strip(room, side.label, scene, channel, span)
    strip.scene_camera = scene.objects.get(side.shot["camera"])
    strip.blend_type = "ALPHA_OVER"
    return strip


def _label(room: bpy.types.Scene, side: Side, channel: int, x: float, height: int) -> None:
    span = (side.shot["start"], side.shot["end"])
    text = compat.new_text_strip(room, side.label, channel, span)
    text[_OURS] = True
    text.font_size = max(8.0, height * _LETTERS)
    text.anchor_x, text.anchor_y, text.alignment_x = "CENTER", "BOTTOM", "CENTER"
    text.location = (x, 0.02)
    text.use_box, text.box_color, text.box_margin = True, (0.0, 0.0, 0.0, 0.6), 0.005
    text.blend_type, text.select = "ALPHA_OVER", False


def _clear(room: bpy.types.Scene) -> None:
    strips = room.sequence_editor.strips
    for strip in [each for each in strips if each.get(_OURS)]:
        strips.remove(strip)


def _turn_to(room: bpy.types.Scene, workspace: bpy.types.WorkSpace | None) -> None:
    if workspace is None or not hasattr(workspace, "sequencer_scene"):
        return
    if workspace.sequencer_scene != room:
        room[_BACK] = workspace.sequencer_scene
        workspace.sequencer_scene = room
