"""Turns a take's image strip into a movie strip and back, where it lies."""

from __future__ import annotations

from pathlib import Path

import bpy

from . import compat
from .errors import SceneError
from .strip import take_strip

# What the artist may have set of a strip, beside its place.
_SETTINGS = (
    *("lock", "mute", "color_tag", "blend_type", "blend_alpha", "use_flip_x", "use_flip_y"),
    *("color_saturation", "color_multiply", "multiply_alpha", "alpha_mode", "strobe"),
    *("use_reverse_frames",),
)
_FRAMING = (
    *("offset_x", "offset_y", "scale_x", "scale_y", "rotation", "origin", "filter"),
    *("min_x", "max_x", "min_y", "max_y"),
)


def replace_strip(
    edit: bpy.types.Scene,
    old: bpy.types.bpy_struct,
    files: list[Path],
    shot: dict,
    movie: Path | None,
) -> bpy.types.bpy_struct:
    """Put a strip of the same take in the place of ``old``: its ``movie``, or else its ``files``.

    Name, channel, cuts, settings and animation stay. Raises SceneError where something hangs on the
    strip that would be lost; nothing is then changed.
    """
    strips = edit.sequence_editor.strips
    if old.name not in strips:
        raise SceneError(f"The strip '{old.name}' lies in a meta strip: open it (Tab) first.")
    hanging = [each.name for each in strips if _takes_in(each, old)]
    if len(old.modifiers) or hanging:
        what = "modifiers" if len(old.modifiers) else f"the effect '{hanging[0]}'"
        raise SceneError(f"The strip '{old.name}' carries {what}: take that off it first.")
    name, channel = old.name, old.channel
    seen, begins = compat.strip_range(old), compat.content_start(old)
    room = 1 + max(strip.channel for strip in strips)
    new = take_strip(edit, name, files, room, {**shot, "start": begins}, movie)
    compat.set_strip_range(new, *seen)
    for source, target, names in (
        (old, new, _SETTINGS),
        (old.transform, new.transform, _FRAMING),
        (old.crop, new.crop, _FRAMING),
    ):
        for setting in names:
            if hasattr(source, setting) and hasattr(target, setting):
                setattr(target, setting, getattr(source, setting))
    _hand_over_animation(edit, old, new)
    strips.remove(old)
    new.channel, new.name = channel, name
    return new


def _hand_over_animation(
    edit: bpy.types.Scene, old: bpy.types.bpy_struct, new: bpy.types.bpy_struct
) -> None:
    """Let what animates ``old`` animate ``new``; Blender would delete it along with the strip."""
    animation = edit.animation_data
    if animation is None:
        return
    was, becomes = old.path_from_id(), new.path_from_id()
    for curve in [*compat.fcurves_of(animation.action, animation.action_slot), *animation.drivers]:
        if curve.data_path.startswith(was):
            curve.data_path = becomes + curve.data_path.removeprefix(was)


def _takes_in(effect: bpy.types.bpy_struct, strip: bpy.types.bpy_struct) -> bool:
    return any(each.name == strip.name for each in compat.effect_inputs(effect))
