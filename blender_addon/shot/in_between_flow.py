"""Motion between two clip frames from the optical flow that was measured between them; numpy only.

For where the scene tells none: meshes made anew at each frame, takes without a scene. A ``flow`` is
uint16 [H, W, 4] as engine/flow.py writes it: the way from each pixel of the earlier clip frame to
the later one in x and y, and of the later one to the earlier. Both are carried to the time between
them; what they do not agree on is trusted little, since one of the frames does not see it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .in_between import Floats, Seen, encode_motion, feathered, fill

STEPS, ZERO = 32, 32768
_AGREE = 1.0
"""Pixels by which two flows of one point may differ for half the trust."""
_LEAST = 0.3
"""Weight that flows carried to a pixel must have for it to be known."""
_UNSURE = 0.1
"""Trust that is left where they do not agree at all."""


def flow_motions(
    flow: NDArray[np.uint16], share: float
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return the motions to the clip frames before and after a time ``share`` (0 to 1) between."""
    ways = (flow.astype(np.float32) - ZERO) / STEPS
    forward, backward = ways[..., :2], ways[..., 2:]
    height, width = flow.shape[:2]
    rows, columns = np.indices((height, width), dtype=np.float32)
    carried = np.zeros((height, width, 2), np.float64)
    weights = np.zeros((height, width), np.float64)
    for way, back, part, sign in (
        (forward, backward, share, 1),
        (backward, forward, 1 - share, -1),
    ):
        agreed = _agreement(way, _at(back, columns + way[..., 0], rows + way[..., 1]))
        weight = agreed * (1 - part)
        x, y = columns + part * way[..., 0], rows + part * way[..., 1]
        for j in (0, 1):
            for i in (0, 1):
                left, top = np.floor(x).astype(np.int64) + i, np.floor(y).astype(np.int64) + j
                near = weight * (1 - np.abs(x - left)) * (1 - np.abs(y - top))
                inside = (left >= 0) & (left < width) & (top >= 0) & (top < height)
                place = (top[inside], left[inside])
                np.add.at(weights, place, near[inside])
                np.add.at(carried, place, sign * (way * near[..., None])[inside])
    # What no flow agrees on goes with what is around it: by itself it is noise.
    known = weights > _LEAST
    whole = (carried / np.where(known, weights, 1)[..., None]).astype(np.float32)
    whole = fill(whole, known) if known.any() else whole
    wall = Seen(np.ones((height, width)), np.ones((height, width)), np.zeros(known.shape, bool))
    motions = []
    for way, part, sign in ((forward, -share, 1), (backward, 1 - share, -1)):
        u, v = columns + part * whole[..., 0], rows + part * whole[..., 1]
        motion = encode_motion(u, v, np.ones((height, width)), wall)
        agreed = _agreement(whole, -sign * _at(way, u, v))
        # Where neither side is sure both count alike, and the frames fade.
        agreed = np.maximum(feathered(agreed.astype(np.float32)), _UNSURE)
        motion[..., 3] = np.rint(motion[..., 3] * agreed)
        motions.append(motion)
    return motions[0], motions[1]


def _at(way: Floats, x: Floats, y: Floats) -> Floats:
    """``way`` [H, W, 2] at places of the picture, to the nearest pixel."""
    height, width = way.shape[:2]
    row = np.rint(y).astype(np.int64).clip(0, height - 1)
    return way[row, np.rint(x).astype(np.int64).clip(0, width - 1)]


def _agreement(way: Floats, back: Floats) -> Floats:
    """How far a way and the one back are one point's, from 0 to 1."""
    apart = np.square(way + back).sum(axis=-1)
    return _AGREE**2 / (_AGREE**2 + apart)
