"""Proposes clip frames to hold, from how a shot moves: its extremes, and even steps between.

The extremes are found as Douglas and Peucker (1973) simplify a line: the sample that lies farthest
from the straight course between two chosen ones is chosen next. A camera that turns back, stops or
changes its speed leaves that course there.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

# Of the whole movement's size; what strays less from an even course looks even.
TOLERANCE = 0.1
# SparseCtrl holds 16 frames well with four or five of them; farther apart the shapes drift.
STEPS_PER_CLIP = 4


def suggest_frames(path: NDArray[np.float64]) -> list[int]:
    """Return clip frames to hold, ascending, the first and the last among them.

    ``path`` [F, D] is camera and objects at each clip frame, in units where 1 is a large change in
    every column. Chosen frames are two or more apart, and no more than about a quarter of the clip.
    """
    count = len(path)
    chosen = {0, count - 1}
    _choose_extremes(path, 0, count - 1, chosen)
    _fill_gaps(chosen, max(2, math.ceil((count - 1) / STEPS_PER_CLIP)))
    return sorted(chosen)


def _choose_extremes(path: NDArray[np.float64], first: int, last: int, chosen: set[int]) -> None:
    """Add the frame that lies farthest from the even course from ``first`` to ``last``."""
    inside = np.arange(first + 2, last - 1)
    if not len(inside):
        return
    along = ((inside - first) / (last - first))[:, None]
    even = path[first] + along * (path[last] - path[first])
    off = np.linalg.norm(path[inside] - even, axis=1)
    farthest = int(inside[off.argmax()])
    if off.max() < TOLERANCE:
        return
    chosen.add(farthest)
    _choose_extremes(path, first, farthest, chosen)
    _choose_extremes(path, farthest, last, chosen)


def _fill_gaps(chosen: set[int], longest: int) -> None:
    marks = sorted(chosen)
    for first, last in itertools.pairwise(marks):
        parts = min(math.ceil((last - first) / longest), (last - first) // 2)
        chosen.update(first + round(k * (last - first) / parts) for k in range(1, parts))
