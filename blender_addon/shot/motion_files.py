"""Which motion a run needs, and in which files among its guides it is kept: from each scene frame
between clip frames to the clip frames beside it, and from clip frame to clip frame. No bpy.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from .timing import ClipTiming

SIDES = ("before", "after")
MOTION = "motion"
"""The folder of the motion of scene frames between clip frames, among the guides."""
STEADY = "deflicker"
"""The folder of the motion from clip frame to clip frame, among the guides."""

Wanted: TypeAlias = dict[Fraction, dict[int, Path]]
"""By the time that motion is from, in scene frames: the files, by the clip frame it is to."""


def motion_name(index: int, side: str) -> str:
    """The file of the motion from scene frame ``start + index`` to the clip frame on ``side``."""
    return f"{index + 1:04d}_{side}.png"


def sides_of(timing: ClipTiming, scene_frame: int) -> dict[int, str]:
    """Return the clip frames beside a scene frame that lies on none, and the names of their files.

    After the last clip frame there is only that one.
    """
    before, _ = timing.position(scene_frame)
    index = scene_frame - timing.start
    sides = zip((before, before + 1), SIDES, strict=True)
    return {k: motion_name(index, side) for k, side in sides if k < timing.frames}


def wanted_between(timing: ClipTiming, guides: Path) -> Wanted:
    """Return the motion of all scene frames that lie on no clip frame."""
    return {
        Fraction(frame): {k: guides / MOTION / n for k, n in sides_of(timing, frame).items()}
        for frame, _, _ in timing.between()
    }


def wanted_beside(timing: ClipTiming, guides: Path) -> Wanted:
    """Return the motion of all clip frames to those before and after them."""
    return {
        timing.scene_time(k): {
            other: guides / STEADY / f"{k + 1:04d}_{other + 1:04d}.png"
            for other in (k - 1, k + 1)
            if 0 <= other < timing.frames
        }
        for k in range(timing.frames)
        if timing.frames > 1
    }
