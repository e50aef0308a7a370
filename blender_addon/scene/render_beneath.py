"""The shot's own render as a strip beneath its takes, which are then laid over it."""

from __future__ import annotations

import bpy

from . import compat
from .errors import SceneError

_RENDER = "animatic_render"


def lay_over(
    edit: bpy.types.Scene,
    scene: bpy.types.Scene,
    shot: dict,
    takes: list[bpy.types.bpy_struct],
    opacity: float,
) -> None:
    """Put a strip of what ``scene`` renders beneath ``takes``; they get ``opacity``, 0 to 1.

    ``takes`` are the strips in ``edit`` of the takes of ``shot``, a shot object. A strip that is
    there from before is kept. Raises SceneError where no channel beneath them is free.
    """
    there = _render_of(edit, shot)
    if there is None:
        span = (shot["start"], shot["end"])
        channel = _free_beneath(edit, span, min(strip.channel for strip in takes))
        there = compat.new_scene_strip(edit, f"{shot['name']} Render", scene, channel, span)
        there[_RENDER] = shot["name"]
        there.scene_camera = scene.objects.get(shot["camera"])
    for strip in takes:
        strip.blend_type, strip.blend_alpha = "ALPHA_OVER", opacity


def lay_bare(edit: bpy.types.Scene, shot: dict, takes: list[bpy.types.bpy_struct]) -> None:
    """Take the strip of ``lay_over`` away, and let ``takes`` cover what is beneath them."""
    there = _render_of(edit, shot)
    if there is None:
        return
    edit.sequence_editor.strips.remove(there)
    for strip in takes:
        strip.blend_alpha = 1.0


def _render_of(edit: bpy.types.Scene, shot: dict) -> bpy.types.bpy_struct | None:
    strips = edit.sequence_editor.strips
    return next((strip for strip in strips if strip.get(_RENDER) == shot["name"]), None)


def _free_beneath(edit: bpy.types.Scene, span: tuple[int, int], channel: int) -> int:
    """The highest channel below ``channel`` that is free between two frames, both included."""
    used = set()
    for other in edit.sequence_editor.strips:
        first, after = compat.strip_range(other)
        if first <= span[1] and after > span[0]:
            used.add(other.channel)
    free = [below for below in range(1, channel) if below not in used]
    if not free:
        raise SceneError(
            f"The scene {edit.name} has no free channel beneath the take: move its strip up by "
            "one in the Video Sequencer."
        )
    return free[-1]
