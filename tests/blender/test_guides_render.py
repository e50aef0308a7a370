"""Colour guides: the scene's own look at the guide's size, and nothing of the artist's written."""

from __future__ import annotations

from fractions import Fraction

import bpy
import numpy as np
import pytest
from animatic.blender_addon.scene import render_guide
from animatic.blender_addon.shot.png import read_png

from .conftest import add_box, emission, middle


@pytest.fixture
def lit(scene):
    """A red and a green half under AgX, and a grey world."""
    add_box("Left", (-5, 0, 0), (10, 20, 1)).data.materials.append(emission("Red", (0.8, 0, 0)))
    add_box("Right", (3, 0, 0), (6, 3, 1)).data.materials.append(emission("Green", (0, 0.5, 0)))
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.exposure = 0.5
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 256
    return scene


def colours(stage):
    return render_guide.render_colour(stage, [Fraction(1)], lambda *_: None)


def test_it_looks_like_the_scene_s_own_render(lit, stage, tmp_path):
    lit.cycles.use_denoising = False
    lit.render.filepath = str(tmp_path / "own.png")
    lit.render.use_file_extension = True
    bpy.ops.render.render(write_still=True)
    own = read_png(tmp_path / "own.png")[..., :3].astype(int)
    (picture,), warnings = colours(stage(64, 64))
    assert warnings == []
    assert picture.dtype == np.uint8
    assert picture.shape == (64, 64, 3)
    assert np.abs(picture.astype(int) - own).mean() < 1.0
    assert lit.cycles.samples == render_guide.MAX_SAMPLES  # 64 x 64 pixels can afford them


def test_without_opengl_eevee_becomes_cycles_and_says_so(lit, stage, monkeypatch):
    monkeypatch.setattr(render_guide, "can_render_with_gl", lambda: False)
    lit.render.engine = "BLENDER_EEVEE" if bpy.app.version >= (5, 0) else "BLENDER_EEVEE_NEXT"
    (picture,), warnings = colours(stage())
    assert middle(picture[:, :40])[0] > 150
    assert len(warnings) == 1
    assert "needs OpenGL" in warnings[0]


def test_file_output_nodes_write_nothing(lit, stage, tmp_path):
    if hasattr(lit, "compositing_node_group"):
        tree = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
        lit.compositing_node_group = tree
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        output = tree.nodes.new("NodeGroupOutput")
        writer = tree.nodes.new("CompositorNodeOutputFile")
        writer.directory = str(tmp_path / "artist")
        writer.file_output_items.new("RGBA", "Image")
    else:
        lit.use_nodes = True
        tree = lit.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("CompositorNodeComposite")
        writer = tree.nodes.new("CompositorNodeOutputFile")
        writer.base_path = str(tmp_path / "artist")
    invert = tree.nodes.new("CompositorNodeInvert")
    layers = tree.nodes.new("CompositorNodeRLayers")
    tree.links.new(layers.outputs["Image"], invert.inputs["Color"])
    tree.links.new(invert.outputs["Color"], output.inputs["Image"])
    tree.links.new(layers.outputs["Image"], writer.inputs[0])
    (picture,), _ = colours(stage())
    red, green, _ = middle(picture[:, :30])
    assert red < green  # the compositor's inversion is part of the look
    assert not (tmp_path / "artist").exists()
