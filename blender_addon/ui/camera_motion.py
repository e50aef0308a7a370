"""How the camera moves through a shot, as numbers that say where it turns or stops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import bpy
import numpy as np
from numpy.typing import NDArray

from ..scene.shots import camera_cuts


def camera_path(scene: bpy.types.Scene, times: list[Fraction]) -> NDArray[np.float64]:
    """Return the camera at each of ``times`` (scene frames), float64 [F, 8].

    Place (1 is the extent of the whole move), view direction, up direction, and the logarithm of
    the lens. The scene's frame is changed and put back.
    """
    cuts = camera_cuts(scene)
    rows = []
    with _frame_kept(scene):
        for time in times:
            scene.frame_set(math.floor(time), subframe=float(time % 1))
            camera = cuts.camera_at(math.floor(time))
            assert camera is not None, "a shot has a camera"
            graph = bpy.context.evaluated_depsgraph_get()
            seen = camera.evaluated_get(graph)
            matrix = seen.matrix_world
            rows.append([*matrix.translation, *matrix.col[2][:3], matrix.col[1][2], _lens(seen)])
    path = np.array(rows)
    place = path[:, :3]
    extent = float(np.linalg.norm(np.ptp(place, axis=0)))
    # A camera that only shakes has not moved: its turns count, not its place.
    path[:, :3] = (place - place[0]) / extent if extent > 1e-4 else 0.0
    return path


def _lens(camera: bpy.types.Object) -> float:
    data = camera.data
    return math.log(data.ortho_scale if data.type == "ORTHO" else data.lens)


@contextmanager
def _frame_kept(scene: bpy.types.Scene) -> Iterator[None]:
    frame, subframe, camera = scene.frame_current, scene.frame_subframe, scene.camera
    try:
        yield
    finally:
        scene.frame_set(frame, subframe=subframe)
        scene.camera = camera
