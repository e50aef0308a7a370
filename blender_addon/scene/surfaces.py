"""The surfaces of the scene as a render sees them: meshes, instances and particles at one time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import bpy
import numpy as np


@dataclass(frozen=True)
class Piece:
    """One object or instance: points [V, 3] of its mesh, triangles [T, 3], the corners [8, 3] of a
    box around it, its place (4 x 4); whether its number is but its place in a row of instances.
    """

    name: str
    points: np.ndarray
    triangles: np.ndarray
    corners: np.ndarray
    matrix: np.ndarray
    in_row: bool


@dataclass(frozen=True)
class Moment:
    """All surfaces at one time, by a name that stays theirs; the camera, its lens as it was then,
    its view and projection."""

    camera: bpy.types.Object
    lens: bpy.types.Camera
    view: np.ndarray
    projection: np.ndarray
    pieces: dict[tuple, Piece]

    @cached_property
    def rows(self) -> dict[int, int]:
        """How many instances an object hands out, the first part of their names, in a row.

        Geometry nodes number them so where no ID says otherwise: a row of another length may have
        other ones at the same numbers.
        """
        numbers: dict[int, set[tuple]] = {}
        for key, piece in self.pieces.items():
            if piece.in_row:
                numbers.setdefault(key[0], set()).add(key[2])
        return {
            parent: len(found)
            for parent, found in numbers.items()
            if any(set(level) == set(range(len(found))) for level in zip(*found, strict=True))
        }

    def seen_from_camera(self, key: tuple) -> np.ndarray:
        """The points of a piece in the camera's space, [V, 3]."""
        piece = self.pieces[key]
        return _moved(self.view @ piece.matrix, piece.points)

    def in_view(self, key: tuple) -> bool:
        """Whether a piece may be in the picture: its box is not wholly beside or behind it."""
        piece = self.pieces[key]
        seen = _moved(self.view @ piece.matrix, piece.corners)
        x, y, _, w = (seen @ self.projection[:, :3].T + self.projection[:, 3]).T
        return not any(side.min() > 0 for side in (x - w, -x - w, y - w, -y - w, -w))


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``points`` [N, 3] by a matrix of 4 x 4."""
    # In double precision: a camera far from the scene's origin loses digits otherwise.
    return points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


class _Reader(bpy.types.RenderEngine):
    """Renders nothing: it is how to see the scene as a render does, not as a viewport."""

    bl_idname = "ANIMATIC_READER"
    bl_label = "Animatic Reader"
    read: Callable[[bpy.types.Depsgraph], None]

    def render(self, depsgraph: bpy.types.Depsgraph) -> None:
        """Hand out the scene at the time that is rendered."""
        type(self).read(depsgraph)


def as_rendered(scene: bpy.types.Scene, read: Callable[[bpy.types.Depsgraph], None]) -> None:
    """Call ``read`` with ``scene`` at its present time as a render has it.

    It is not called where the scene cannot be rendered.
    """
    render = scene.render
    own, lines = render.engine, render.use_freestyle
    _Reader.read = staticmethod(read)
    bpy.utils.register_class(_Reader)
    try:
        render.engine, render.use_freestyle = _Reader.bl_idname, False
        bpy.ops.render.render(scene=scene.name)
    finally:
        render.engine, render.use_freestyle = own, lines
        bpy.utils.unregister_class(_Reader)
        del _Reader.read


def read_surfaces(scene: bpy.types.Scene) -> dict[tuple, Piece] | None:
    """Return all surfaces of ``scene`` at its present time; None where it cannot be rendered."""
    found: list[dict[tuple, Piece]] = []
    as_rendered(scene, lambda depsgraph: found.append(_read_pieces(depsgraph)))
    return found[0] if found else None


def _read_pieces(depsgraph: bpy.types.Depsgraph) -> dict[tuple, Piece]:
    meshes: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray] | None] = {}
    pieces: dict[tuple, Piece] = {}
    for instance in depsgraph.object_instances:
        item = instance.object
        # A curve, text or metaball comes twice, the second time as the mesh that is rendered.
        if item.type != "MESH" or not instance.show_self or not item.visible_camera:
            continue
        name = item.data.as_pointer()
        if name not in meshes:
            meshes[name] = _read_mesh(item)
        mesh = meshes[name]
        if mesh is None:
            continue
        parent = instance.parent.original.as_pointer() if instance.is_instance else 0
        number = tuple(instance.persistent_id) if instance.is_instance else ()
        key: tuple = (parent, item.original.as_pointer(), number)
        # One object can hand out several pieces of geometry, of which one is its own.
        while key in pieces:
            key = (*key, "more")
        place = np.array(instance.matrix_world, np.float64)
        in_row = bool(number) and instance.particle_system is None
        pieces[key] = Piece(item.name, *mesh, place, in_row)
    return pieces


def _read_mesh(item: bpy.types.Object) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    mesh = item.to_mesh()
    mesh.calc_loop_triangles()
    points = np.empty((len(mesh.vertices), 3), np.float32)
    triangles = np.empty((len(mesh.loop_triangles), 3), np.int32)
    mesh.vertices.foreach_get("co", points.ravel())
    mesh.loop_triangles.foreach_get("vertices", triangles.ravel())
    item.to_mesh_clear()
    if not triangles.size:
        return None
    ends = zip(points.min(axis=0), points.max(axis=0), strict=True)
    return points, triangles, np.array(list(itertools.product(*ends)))
