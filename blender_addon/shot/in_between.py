"""Pictures between two clip frames, made by moving both along exact motion; numpy only.

For a scene frame the scene tells where each point that it shows lies in a clip frame (u, v in
pixels, and planar Z). Whether the clip frame sees the point too is decided by depth, for each pixel
that a sample would touch, so that no colour comes from what stands in front. Both samples are
blended by their distance in time; what only one clip frame saw comes from that one.

A ``motion`` is uint16 [H, W, 4], kept as a PNG: the way to the sampled place in x and y (fixed
point around 32768, ``_steps`` per pixel), which of 4 x 4 pixels there show the same surface
(one bit each), and how far the sample is to be trusted (0 to 65535).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_ZERO = 32768
_ALL = 0xFFFF
_INNER = (1, 2)
_SLOPE = 2.5
"""Pixels by which a sample's 4 x 4 pixels may lie off the point, for the depth they may have."""
_SAME = 2e-3
"""Disparities that differ by this share are one surface, however level it is."""

_ENOUGH = 0.5
"""A sample that lies on its surface by this share is trusted in full."""
_BEFORE = 1.05
"""Times the disparity that a nearer surface has at least."""
_BESIDE = 1 / 48
"""Nearer than this part of the picture's shorter side to what stands before it, a sample ..."""
_MIXED = 1 / 8
"""... counts only so much: a picture's outlines are soft, and a model's never quite in place."""
_FEATHER = 1 / 64
"""Over this part of the picture's shorter side one clip frame takes over from the other."""


@dataclass(frozen=True)
class Seen:
    """What a clip frame sees: disparity (1/Z, 0 = nothing), by how much it may differ, and where
    something nearer is close by."""

    disparity: Floats
    tolerance: Floats
    beside: NDArray[np.bool_]


def seen_in(z: Floats) -> Seen:
    """Return what is seen where the planar Z is ``z``, [H, W], inf where nothing is.

    On a plane 1/Z is linear over the picture, whatever its slant: its slope says by how much the
    pixels of one surface differ.
    """
    d = 1.0 / z.astype(np.float64)
    slope = np.zeros_like(d)
    for axis in (0, 1):
        steps = np.abs(np.diff(d, axis=axis))
        # The lesser of both sides, so that a border does not count as a steep surface; at the
        # picture's edge there is one side only.
        sides = [np.concatenate(pair, axis=axis) for pair in _both_sides(steps, axis)]
        slope += np.minimum(*sides)
    reach = _part(d.shape, _BESIDE)
    nearest = d
    for axis in (0, 1):
        padded = np.pad(nearest, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=axis)
        nearest = windows.max(axis=-1)
    beside = nearest > d * _BEFORE + 3 * reach * slope
    return Seen(d, _SLOPE * slope + _SAME * d, beside)


def _part(shape: tuple[int, ...], part: float) -> int:
    return max(1, round(min(shape) * part))


def _both_sides(steps: Floats, axis: int) -> list[tuple[Floats, Floats]]:
    first, last = (np.take(steps, [place], axis=axis) for place in (0, -1))
    return [(first, steps), (steps, last)]


def _steps(height: int, width: int) -> int:
    """Steps per pixel, a power of 2, that let a way reach across the whole picture."""
    return 1 << (32767 // max(height, width, 2)).bit_length() - 1


def encode_motion(u: Floats, v: Floats, z: Floats, seen: Seen) -> NDArray[np.uint16]:
    """Return the motion to a clip frame, uint16 [H, W, 4].

    ``u``, ``v`` and ``z``, [H, W]: where the point that a pixel shows lies in the clip frame
    (pixel centres are whole numbers) and its planar Z there, inf for the sky, not above 0 or NaN
    where it is not to be found. ``seen`` is what the clip frame sees.
    """
    height, width = u.shape
    steps = _steps(height, width)
    rows, columns = np.indices((height, width))
    with np.errstate(invalid="ignore"):
        inside = (u >= -0.5) & (u <= width - 0.5) & (v >= -0.5) & (v <= height - 0.5) & (z > 0)
    ways = [
        np.rint(np.where(inside, to - own, 0) * steps).astype(np.int64)
        for to, own in ((u, columns), (v, rows))
    ]
    motion = np.zeros((height, width, 4), np.uint16)
    for index, way in enumerate(ways):
        motion[..., index] = np.clip(way + _ZERO, 0, 65535)
    left, top, part_x, part_y = _places(motion)
    disparity = 1.0 / np.where(inside, z, 1.0)
    mask = np.zeros((height, width), np.int64)
    covered = np.zeros((height, width))
    for j in range(4):
        for i in range(4):
            x, y = left + i, top + j
            here = inside & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            x, y = x.clip(0, width - 1), y.clip(0, height - 1)
            here &= np.abs(seen.disparity[y, x] - disparity) <= seen.tolerance[y, x]
            mask |= here.astype(np.int64) << 4 * j + i
            if i in _INNER and j in _INNER:
                covered += here * _linear(part_x, i) * _linear(part_y, j)
    x = (left + 1 + (part_x >= 0.5)).clip(0, width - 1)
    y = (top + 1 + (part_y >= 0.5)).clip(0, height - 1)
    trust = np.minimum(covered / _ENOUGH, 1) * np.where(seen.beside[y, x], _MIXED, 1)
    motion[..., 2] = mask
    motion[..., 3] = np.rint(trust * 65535)
    return motion


def _places(
    motion: NDArray[np.uint16],
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    """Return the first column and row of each pixel's 4 x 4 pixels, and the parts of a pixel."""
    height, width = motion.shape[:2]
    steps = _steps(height, width)
    rows, columns = np.indices((height, width))
    x = columns * steps + motion[..., 0].astype(np.int64) - _ZERO
    y = rows * steps + motion[..., 1].astype(np.int64) - _ZERO
    return x // steps - 1, y // steps - 1, x % steps / steps, y % steps / steps


def _linear(part: Floats, tap: int) -> Floats:
    return {1: 1.0 - part, 2: part}.get(tap, np.zeros_like(part))


def _cubic(part: Floats, tap: int) -> Floats:
    """Catmull and Rom's weights: a linear blend would make moved pictures softer than unmoved."""
    t = np.abs(part - (tap - 1))
    near = 1.0 - 2.5 * t**2 + 1.5 * t**3
    return np.where(t < 1, near, 2.0 - 4.0 * t + 2.5 * t**2 - 0.5 * t**3)


def enlarged(motion: NDArray[np.uint16], height: int, width: int) -> NDArray[np.uint16]:
    """Return ``motion`` for pictures of another size, [height, width, 4]: those made larger.

    Ways are blended within one surface only, so that its outline keeps its place.
    """
    own_height, own_width = motion.shape[:2]
    if (own_height, own_width) == (height, width):
        return motion
    scale_y, scale_x = height / own_height, width / own_width
    rows, columns = np.indices((height, width))
    x, y = (columns + 0.5) / scale_x - 0.5, (rows + 0.5) / scale_y - 0.5
    nearest = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
    ways = (motion[..., :2].astype(np.float64) - _ZERO) / _steps(own_height, own_width)
    at, trusted = ways[nearest], motion[..., 3] > 0
    way, weights = np.zeros((height, width, 2)), np.zeros((height, width))
    for j in (0, 1):
        for i in (0, 1):
            left, top = np.floor(x).astype(np.int64) + i, np.floor(y).astype(np.int64) + j
            weight = (1 - np.abs(x - left)) * (1 - np.abs(y - top))
            place = top.clip(0, own_height - 1), left.clip(0, own_width - 1)
            same = trusted[place] & (np.abs(ways[place] - at).max(axis=-1) < 1)
            way += (weight * same)[..., None] * ways[place]
            weights += weight * same
    found = weights > 0
    way = np.where(found[..., None], way / np.where(found, weights, 1)[..., None], at)
    made = np.zeros((height, width, 4), np.uint16)
    steps = _steps(height, width)
    for axis, scale in enumerate((scale_x, scale_y)):
        made[..., axis] = np.clip(np.rint(way[..., axis] * scale * steps) + _ZERO, 0, 65535)
    own_left, own_top = (each[nearest] for each in _places(motion)[:2])
    own_mask, mask = motion[..., 2].astype(np.int64)[nearest], np.zeros((height, width), np.int64)
    left, top, part_x, part_y = _places(made)
    covered = np.zeros((height, width))
    for j in range(4):
        row = np.rint((top + j + 0.5) / scale_y - 0.5).astype(np.int64) - own_top
        for i in range(4):
            column = np.rint((left + i + 0.5) / scale_x - 0.5).astype(np.int64) - own_left
            inside = (left + i >= 0) & (left + i < width) & (top + j >= 0) & (top + j < height)
            bit = own_mask >> 4 * row.clip(0, 3) + column.clip(0, 3) & 1
            mask |= (bit & inside) << 4 * j + i
            if i in _INNER and j in _INNER:
                covered += (bit & inside) * _linear(part_x, i) * _linear(part_y, j)
    made[..., 2] = mask
    # As in ``encode_motion``: a sample of next to nothing of its surface is a speck.
    made[..., 3] = np.rint(motion[..., 3][nearest] * np.minimum(covered / _ENOUGH, 1))
    return made


def sample(
    picture: NDArray[np.uint8], motion: NDArray[np.uint16]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return ``picture`` moved along ``motion``, [H, W, 3], and its trust, [H, W] from 0 to 1.

    ``picture``: uint8 [H, W, 3]. The colour is 0 where the trust is.
    """
    height, width = motion.shape[:2]
    left, top, part_x, part_y = _places(motion)
    mask = motion[..., 2].astype(np.int64)
    whole = mask == _ALL
    flat = picture.reshape(-1, 3).astype(np.float32)
    colour = np.zeros((height, width, 3), np.float32)
    weights = np.zeros((height, width), np.float32)
    for j in range(4):
        across = np.where(whole, _cubic(part_y, j), _linear(part_y, j))
        for i in range(4):
            weight = across * np.where(whole, _cubic(part_x, i), _linear(part_x, i))
            weight = (weight * (mask >> 4 * j + i & 1)).astype(np.float32)
            if not weight.any():
                continue
            x, y = (left + i).clip(0, width - 1), (top + j).clip(0, height - 1)
            colour += weight[..., None] * flat[y * width + x]
            weights += weight
    found = weights > 1e-3
    colour = np.where(found[..., None], colour / np.where(found, weights, 1)[..., None], 0)
    return colour.astype(np.float32), np.where(found, motion[..., 3] / 65535, 0).astype(np.float32)


Side: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint16], float]
"""A clip frame's picture, the motion to it, and its share by distance in time."""


def blend(sides: Sequence[Side], instead: Sequence[Side] = ()) -> NDArray[np.uint8] | None:
    """Return the picture between clip frames, uint8 [H, W, 3]; None where they say nothing of it.

    What no side saw is what the sides ``instead`` saw, or else filled from around it.
    """
    ways = [_weighted(each) for each in (sides, instead) if each]
    colour, known = ways[0]
    for more, found in ways[1:]:
        colour = np.where(known[..., None], colour, more)
        known = known | found
    if not known.any():
        return None
    return np.rint(fill(colour, known).clip(0, 255)).astype(np.uint8)


def _weighted(sides: Sequence[Side]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return all sides' colour [H, W, 3], and where there is one [H, W]."""
    height, width = sides[0][1].shape[:2]
    colour = np.zeros((height, width, 3), np.float32)
    weights = np.zeros((height, width), np.float32)
    for picture, motion, share in sides:
        moved, trust = sample(picture, motion)
        weight = share * trust * feathered(trust)
        colour += moved * weight[..., None]
        weights += weight
    known = weights > 1e-6
    colour /= np.where(known, weights, 1)[..., None]
    return colour, known


def feathered(trust: NDArray[np.float32]) -> NDArray[np.float32]:
    """Spread ``trust`` over the pixels around.

    Two pictures of a clip never agree quite in what they show: where one takes over from the other
    from one pixel to the next, that would be seen as a line.
    """
    radius = _part(trust.shape, _FEATHER)
    for axis in (0, 1, 0, 1):
        padded = np.pad(
            trust, [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)], mode="edge"
        )
        summed = np.cumsum(padded, axis=axis, dtype=np.float64)
        length, width = trust.shape[axis], 2 * radius + 1
        after = np.take(summed, range(width, width + length), axis=axis)
        before = np.take(summed, range(length), axis=axis)
        trust = ((after - before) / width).astype(np.float32)
    return trust


def fill(colour: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill what is not known from around it: from smaller and smaller pictures of what is.

    One pixel at least must be known.
    """
    if known.all():
        return colour
    height, width = known.shape
    odd = (0, height % 2), (0, width % 2)
    values = np.pad(np.where(known[..., None], colour, 0), (*odd, (0, 0)))
    quarters = (values.shape[0] // 2, 2, values.shape[1] // 2, 2)
    count = np.pad(known, odd).reshape(quarters).sum(axis=(1, 3))
    smaller = values.reshape(*quarters, -1).sum(axis=(1, 3)) / np.maximum(count, 1)[..., None]
    smaller = fill(smaller.astype(np.float32), count > 0)
    around = smaller.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    for axis in (0, 1):  # without the smaller picture's squares
        padded = np.pad(around, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        ends = [np.take(padded, range(k, k + around.shape[axis]), axis=axis) for k in range(3)]
        around = ((ends[0] + 2 * ends[1] + ends[2]) / 4).astype(np.float32)
    return np.where(known[..., None], colour, around)
