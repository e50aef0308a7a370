"""Depth as a picture: metric planar Z to 16-bit disparity codes and back.

Disparity (1/z) gives near things, which matter most, the most codes; near = white is what depth
estimators and the networks trained on them use (MiDaS, Ranftl et al. 2022). One range holds for a
whole shot, as a range for each frame would flicker.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .errors import ShotError

# Blender writes about 1e10 where a ray hits nothing.
NOTHING = 1e9
CODES = 65534
# Nearer together than this (relative), near and far are one plane as far as float32 renders tell.
FLAT = 1e-4


class DepthError(ShotError):
    """The depth of a shot holds nothing that could guide a video."""


def _geometry(z: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (z > 0) & (z < NOTHING)


def depth_range(z_frames: Iterable[NDArray[np.float32]]) -> tuple[float, float]:
    """Return (near, far), the least and greatest Z of all frames, in the unit of ``z_frames``.

    ``z_frames``: float32 [H, W] each; what is not above 0 and below 1e9 is no geometry. Raises
    DepthError when no frame holds any, or all of it lies in one plane facing the camera.
    """
    near, far = np.inf, 0.0
    for z in z_frames:
        seen = z[_geometry(z)]
        if seen.size:
            near, far = min(near, float(seen.min())), max(far, float(seen.max()))
    if far == 0.0:
        raise DepthError(
            "There is nothing in view of the camera at any keyframe: point the camera at the "
            "scene, or check that the objects are visible in renders."
        )
    if far - near <= FLAT * near:
        raise DepthError(
            f"The depth is flat: everything in view is {near:.4g} units from the camera. Move the "
            "camera, or add something in front or behind, or use --guide lineart."
        )
    return near, far


def chosen_range(
    measured: tuple[float, float], near: float | None, far: float | None
) -> tuple[float, float]:
    """Return (near, far): the artist's where given, else ``measured``, in scene units.

    Raises DepthError where they are no distances, leave nothing between them, or bracket nothing
    of what lies between the ``measured`` ones.
    """
    least, greatest = measured
    for name, value in (("near", near), ("far", far)):
        if value is not None and not 0 < value < NOTHING:
            raise DepthError(
                f"The depth's {name} is {value:g}: give a distance from the camera above 0."
            )
    there = f"what the camera sees is {least:.4g} to {greatest:.4g} units away"
    nearest, farthest = least if near is None else near, greatest if far is None else far
    if near is not None and near >= greatest:
        raise DepthError(
            f"The depth's near is {near:g}, and {there}: all of it would be white. Set near below "
            f"{greatest:.4g}."
        )
    if far is not None and far <= least:
        raise DepthError(
            f"The depth's far is {far:g}, and {there}: all of it would be equally dark. Set far "
            f"above {least:.4g}."
        )
    if farthest - nearest <= FLAT * nearest:
        raise DepthError(
            f"The depth's near is {nearest:g} and its far {farthest:g}, with nothing between them: "
            f"{there}; set near below far."
        )
    return nearest, farthest


def encode_depth(z: NDArray[np.float32], near: float, far: float) -> NDArray[np.uint16]:
    """Return ``z`` (float32 [H, W]) as codes, uint16 [H, W].

    The disparity ``d = (1/z - 1/far) / (1/near - 1/far)``, clipped to [0, 1], becomes code
    ``1 + round(65534 d)``: 65535 is near, 1 is far, 0 is nothing there.
    """
    seen = _geometry(z)
    z64 = np.where(seen, z, far).astype(np.float64)
    d = (1 / z64 - 1 / far) / (1 / near - 1 / far)
    codes = 1 + np.rint(CODES * np.clip(d, 0, 1))
    return np.where(seen, codes, 0).astype(np.uint16)


def decode_depth(codes: NDArray[np.uint16], near: float, far: float) -> NDArray[np.float32]:
    """Return the planar Z of ``codes``, float32 [H, W], inf where the code is 0.

    It is within half a code's disparity of what was encoded, where that lay in [near, far].
    """
    d = (codes.astype(np.float64) - 1) / CODES
    z = 1 / (1 / far + np.maximum(d, 0) * (1 / near - 1 / far))
    return np.where(codes > 0, z, np.inf).astype(np.float32)
