"""How camera and objects move through a shot, as numbers that say where they turn or stop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import bpy
import mathutils
import numpy as np
from numpy.typing import NDArray

from ..scene.shots import camera_cuts

# As AnimateDiff's MotionLoRAs are called, and as a sentence goes on.
MOVES = {
    "zoomin": "moves in",
    "zoomout": "moves out",
    "panleft": "goes to the left",
    "panright": "goes to the right",
    "tiltup": "goes up",
    "tiltdown": "goes down",
    "rollingclockwise": "rolls clockwise",
    "rollinganticlockwise": "rolls anticlockwise",
}
_SEEN = {"MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "ARMATURE", "EMPTY"}
# More than these tell no more of where a shot turns.
_OBJECTS = 3
# Of the view: a turn by less is no move that is seen as one.
_TURNED = 0.25


def camera_move(scene: bpy.types.Scene, start: int, end: int) -> str | None:
    """Return what the camera does from ``start`` to ``end``, a key of MOVES; None: it stands still.

    A turn by a quarter of the view counts before a way, a way before a change of the lens.
    """
    cuts = camera_cuts(scene)
    places: list[mathutils.Matrix] = []
    lenses: list[float] = []
    view = 1.0
    with _frame_kept(scene):
        for frame in (start, end):
            _go_to(scene, frame)
            camera = cuts.camera_at(start)
            assert camera is not None, "a shot has a camera"
            seen = camera.evaluated_get(bpy.context.evaluated_depsgraph_get())
            places.append(seen.matrix_world.normalized())
            lenses.append(_lens(seen))
            view = seen.data.angle if seen.data.type == "PERSP" else view
    # In the first camera's own space: x to the right, y up, z to the back.
    moved = places[0].inverted() @ places[1]
    turn = moved.to_euler("YXZ")
    turns = {
        ("tiltup", "tiltdown"): turn.x,
        ("panleft", "panright"): turn.y,
        ("rollinganticlockwise", "rollingclockwise"): turn.z,
    }
    way = moved.translation
    ways = {
        ("panright", "panleft"): way.x,
        ("tiltup", "tiltdown"): way.y,
        ("zoomout", "zoomin"): way.z,
    }
    zoom = {("zoomin", "zoomout"): lenses[1] - lenses[0]}
    for moves, least in ((turns, _TURNED * view), (ways, 1e-3), (zoom, 1e-2), (turns, 1e-2)):
        names = max(moves, key=lambda each: abs(moves[each]))
        if abs(moves[names]) > least:
            return names[0] if moves[names] > 0 else names[1]
    return None


def motion_path(scene: bpy.types.Scene, times: list[Fraction]) -> NDArray[np.float64]:
    """Return camera and objects at each of ``times`` (scene frames), float64 [F, 8 + 3 n].

    The camera's place (1 is the extent of the whole move), view direction, up direction, and the
    logarithm of the lens; then the places of the objects that go farthest, as the camera's. The
    scene's frame is changed and put back.
    """
    cuts = camera_cuts(scene)
    objects = [ob for ob in scene.objects if ob.type in _SEEN and not ob.hide_render]
    rows, places = [], []
    with _frame_kept(scene):
        for time in times:
            _go_to(scene, float(time))
            camera = cuts.camera_at(math.floor(time))
            assert camera is not None, "a shot has a camera"
            graph = bpy.context.evaluated_depsgraph_get()
            seen = camera.evaluated_get(graph)
            matrix = seen.matrix_world
            rows.append([*matrix.translation, *matrix.col[2][:3], matrix.col[1][2], _lens(seen)])
            places.append([ob.evaluated_get(graph).matrix_world.translation[:] for ob in objects])
    path = np.array(rows)
    path[:, :3] = _moved(path[:, :3])
    moves = np.array(places).reshape(len(times), len(objects), 3)
    farthest = np.argsort(-np.linalg.norm(np.ptp(moves, axis=0), axis=1))[:_OBJECTS]
    return np.concatenate([path, *(_moved(moves[:, index]) for index in farthest)], axis=1)


def _moved(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """``places`` [F, 3] from the first one on, where 1 is the extent of the whole move."""
    extent = float(np.linalg.norm(np.ptp(places, axis=0)))
    # What only shakes has not moved. Of a camera the turns still count.
    return (places - places[0]) / extent if extent > 1e-4 else np.zeros_like(places)


def _lens(camera: bpy.types.Object) -> float:
    data = camera.data
    return math.log(data.ortho_scale if data.type == "ORTHO" else data.lens)


def _go_to(scene: bpy.types.Scene, time: float) -> None:
    scene.frame_float = time
    # Of this view layer alone: frame_set would evaluate, and keep, every one of the file.
    bpy.context.view_layer.update()


@contextmanager
def _frame_kept(scene: bpy.types.Scene) -> Iterator[None]:
    time, camera = scene.frame_float, scene.camera
    try:
        yield
    finally:
        _go_to(scene, time)
        scene.camera = camera
