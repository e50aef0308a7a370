"""The shot's own render as a strip beneath its takes, which are then laid over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bpy

from . import compat
from .errors import SceneError
from .strip import RENDER, strips_between


@dataclass(frozen=True)
class ShotInEdit:
    """A shot's takes in the edit: their ``strips``, and as ``shots`` a shot object for each.

    Oldest first. Their names differ where the shot was renamed, their frames where a part of it
    was made.
    """

    shots: list[dict]
    strips: list[bpy.types.bpy_struct]

    @property
    def span(self) -> tuple[int, int]:
        """The first and last frame of all its takes."""
        return min(shot["start"] for shot in self.shots), max(shot["end"] for shot in self.shots)


def lay_over(
    edit: bpy.types.Scene, scene: bpy.types.Scene, shots: Sequence[ShotInEdit], opacity: float
) -> None:
    """Put a strip of what ``scene`` renders beneath each of ``shots``; takes get ``opacity``.

    ``opacity`` is 0 to 1, ``shots`` are all that have takes in ``edit``. A strip that is there from
    before is kept; it grows to the frames of takes that came since. Raises SceneError where no
    channel beneath the takes is free.
    """
    for shot, renders in zip(shots, _renders(edit, shots), strict=True):
        first, last = shot.span
        below = min(strip.channel for strip in shot.strips)
        if renders:
            borders = [*(compat.strip_range(each)[0] for each in renders[1:]), last + 1]
            _reach(edit, renders[0], first, below)
            for render, border in zip(renders, borders, strict=True):
                _reach(edit, render, border, below)
        else:
            oldest = shot.shots[0]
            channel = _free_beneath(edit, first, last, below)
            name = f"{oldest['name']} Render"
            render = compat.new_scene_strip(edit, name, scene, channel, (first, last))
            render[RENDER] = oldest["name"]
            render.scene_camera = scene.objects.get(oldest["camera"])
        for strip in shot.strips:
            strip.blend_type, strip.blend_alpha = "ALPHA_OVER", opacity


def lay_bare(edit: bpy.types.Scene, shots: Sequence[ShotInEdit]) -> None:
    """Take the strips of ``lay_over`` away, and let the takes cover what is beneath them."""
    for shot, renders in zip(shots, _renders(edit, shots), strict=True):
        for render in renders:
            edit.sequence_editor.strips.remove(render)
        for strip in shot.strips if renders else ():
            strip.blend_alpha = 1.0


def _renders(
    edit: bpy.types.Scene, shots: Sequence[ShotInEdit]
) -> list[list[bpy.types.bpy_struct]]:
    """The strips of the render of each of ``shots``, in order of time.

    One where the artist has not cut it. Two shots may have one name: a strip is that one's with
    whose takes it has the most frames in common.
    """
    found: list[list[bpy.types.bpy_struct]] = [[] for _ in shots]
    for strip in sorted(edit.sequence_editor.strips, key=compat.strip_range):
        named = [
            (_common(strip, shot), -place)
            for place, shot in enumerate(shots)
            if any(each["name"] == strip.get(RENDER) for each in shot.shots)
        ]
        if named:
            found[-max(named)[1]].append(strip)
    return found


def _common(strip: bpy.types.bpy_struct, shot: ShotInEdit) -> int:
    """How many frames the two have in common."""
    first, after = compat.strip_range(strip)
    return max(0, min(after, shot.span[1] + 1) - max(first, shot.span[0]))


def _reach(edit: bpy.types.Scene, render: bpy.types.bpy_struct, border: int, below: int) -> None:
    """Let ``render`` be seen as far as the beginning of the frame ``border``; its content stays.

    Where something of the artist's is in its way there, it goes to another channel under ``below``.
    """
    begins, after = compat.strip_range(render)
    first, end = min(begins, border), max(after, border)
    if (first, end) == (begins, after):
        return
    others = [strip for strip in strips_between(edit, first, end - 1) if strip != render]
    if render.channel >= below or any(strip.channel == render.channel for strip in others):
        render.channel = _free_beneath(edit, first, end - 1, below)
    compat.set_strip_range(render, first, end)


def _free_beneath(edit: bpy.types.Scene, first: int, last: int, channel: int) -> int:
    """The highest channel below ``channel`` that is free between two frames, both included."""
    used = {strip.channel for strip in strips_between(edit, first, last)}
    free = [below for below in range(1, channel) if below not in used]
    if not free:
        raise SceneError(
            f"The scene {edit.name} has no free channel beneath the take: move its strip up by "
            "one in the Video Sequencer."
        )
    return free[-1]
