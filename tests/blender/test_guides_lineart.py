"""Line guides: lines where edges project, as wide as asked, and black elsewhere."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import bpy
import numpy as np
import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.scene.lineart_guide import render_lineart
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from .conftest import add_box, material


def draw(stage, width=1.5):
    (picture,), warnings = render_lineart(stage, [Fraction(1)], width, lambda *_: None)
    assert warnings == []
    return picture


def along(scene, start, end, size):
    """Points in pixels (column, row) along an edge between two places of the scene."""
    ends = [world_to_camera_view(scene, scene.camera, Vector(point)) for point in (start, end)]
    at = [np.array((view.x * size, (1 - view.y) * size)) for view in ends]
    return [at[0] + (at[1] - at[0]) * t for t in np.linspace(0, 1, 200)]


def visible_edges():
    """The nine edges of a box from -1 to 1 that a camera at (5, -6, 4) sees."""
    corner = {
        name: tuple(2 * int(bit) - 1 for bit in name) for name in (f"{i:03b}" for i in range(8))
    }
    hidden = "010"  # the corner that points away from the camera
    names = [name for name in corner if name != hidden]
    return [
        (corner[a], corner[b])
        for a in names
        for b in names
        if a < b and sum(x != y for x, y in zip(a, b, strict=True)) == 1
    ]


@pytest.mark.parametrize("width", [1.5, 4.0])
def test_lines_are_where_edges_project(scene, stage, width):
    size = 128
    add_box("Box", (0, 0, 0), (2, 2, 2)).data.materials.append(
        material("Glass", "ShaderNodeBsdfTransparent")
    )
    fog = add_box("Fog", (0, 0, 0), (6, 6, 6))
    fog.data.materials.append(material("Fog", "ShaderNodeVolumePrincipled", "Volume"))
    scene.camera.location = (5, -6, 4)
    scene.camera.rotation_euler = (-scene.camera.location).to_track_quat("-Z", "Y").to_euler()
    bpy.context.view_layer.update()
    points = np.concatenate([along(scene, *edge, size) for edge in visible_edges()])
    own = scene.view_layers[0].freestyle_settings.linesets.new("The artist's, without a style")
    own.select_edge_mark = True
    picture = draw(stage(size, size), width)
    assert picture.dtype == np.uint8
    rows, columns = np.nonzero(picture)
    centres = np.stack((columns + 0.5, rows + 0.5), axis=1)
    distance = np.linalg.norm(centres[:, None] - points[None], axis=2).min(axis=1)
    assert distance.max() < width / 2 + 1.5
    on_the_line = picture[points[:, 1].astype(int), points[:, 0].astype(int)]
    assert np.mean(on_the_line > 100) > 0.97
    assert len(np.unique(picture)) > 4  # antialiased
    # What the lines cover is their length times their width.
    length = sum(
        np.linalg.norm(b - a)
        for edge in visible_edges()
        for a, b in pairwise(along(scene, *edge, size))
    )
    assert picture.sum() / 255 == pytest.approx(length * width, rel=0.15)


def test_a_smooth_curve_object_has_an_outline(scene, stage):
    bpy.ops.curve.primitive_bezier_circle_add(radius=2)
    ring = bpy.context.object
    ring.data.bevel_depth = 0.2
    picture = draw(stage(128, 128))
    bright = picture[64] > 100
    # From above: two outlines on either side, where radius 2.2 and 1.8 project.
    scale = 64 / (10 * 18 / 50)
    for radius in (-2.2, -1.8, 1.8, 2.2):
        assert bright[round(64 + radius * scale) - 2 :][:4].any()
    assert 4 <= bright.sum() <= 12


def test_no_edge_in_view_is_refused(scene, stage):
    with pytest.raises(AnimaticError, match="sees no edge"):
        draw(stage())


def test_the_crease_angle_and_a_collection_choose_the_lines(scene, stage):
    kit = bpy.data.collections.new("Kit")
    scene.collection.children.link(kit)
    add_box("Left", (-1.5, 0, 0), (2, 2, 2))
    add_box("Right", (1.5, 0, 0), (2, 2, 2), collection=kit)
    scene.camera.location = (0, -8, 6)
    scene.camera.rotation_euler = (-scene.camera.location).to_track_quat("-Z", "Y").to_euler()

    def drawn(**asked):
        (made,), _ = render_lineart(stage(), [Fraction(1)], 1.5, lambda *_: None, **asked)
        return made > 127

    every, outlines = drawn(), drawn(crease=60.0)
    assert outlines.sum() < 0.85 * every.sum()  # the right angles inside the outlines are gone
    assert not (outlines & ~every).any()
    right = drawn(lines_of="Kit")
    assert right[:, 34:].sum() == pytest.approx(every[:, 34:].sum(), rel=0.1)
    assert not right[:, :28].any()
    with pytest.raises(AnimaticError, match=r"no collection 'Kid' .* it has: 'Kit'"):
        drawn(lines_of="Kid")
    with pytest.raises(AnimaticError, match="from 0 to 180 degrees"):
        drawn(crease=200.0)
