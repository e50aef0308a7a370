"""The look of described blockouts: what the ray caster's ``shade`` computes, as shader nodes.

A surface takes the sun's light with hard shadows, light from all sides that grows with how far it
looks up and casts no shadow, and fog. Lights that bounce would make it a different picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import bpy
from mathutils import Vector

_SAMPLES = 16


class _Nodes:
    """Adds nodes to a tree and links them."""

    def __init__(self, owner: bpy.types.Material | bpy.types.World) -> None:
        if owner.node_tree is None:
            owner.use_nodes = True  # before 5.0
        self.tree = owner.node_tree
        self.tree.nodes.clear()

    def add(self, kind: str, *inputs: object, **settings: object) -> bpy.types.Node:
        """Add ``ShaderNode<kind>``; each of ``inputs``: a value, a socket to link, or None."""
        node = self.tree.nodes.new(f"ShaderNode{kind}")
        for name, value in settings.items():
            setattr(node, name, value)
        for socket, value in zip(node.inputs, inputs, strict=False):
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            elif value is not None:
                socket.default_value = value
        return node

    def math(self, operation: str, *inputs: object) -> bpy.types.NodeSocket:
        """The result of one scalar operation."""
        return self.add("Math", *inputs, operation=operation).outputs[0]


def _opaque(colour: Sequence[float]) -> tuple[float, ...]:
    return (*colour, 1.0)


def paint(thing: bpy.types.Object, colour: Sequence[float], clip: dict) -> None:
    """Give ``thing`` the surface ``colour`` (linear RGB), lit and fogged as ``clip`` says."""
    material = bpy.data.materials.new(thing.name)
    material.diffuse_color = _opaque(colour)  # what Solid view and Workbench show
    # What it sends out is the light from all sides that it got: it must not light its neighbours.
    material.cycles.emission_sampling = "NONE"
    thing.visible_diffuse = False
    nodes = _Nodes(material)
    normal = nodes.add("NewGeometry").outputs["Normal"]
    up = nodes.add("SeparateXYZ", normal).outputs["Z"]
    upness = nodes.math("MULTIPLY_ADD", up, 0.4, 0.6)
    around = [c * light for c, light in zip(colour, clip["sky"]["light"], strict=True)]
    surface = nodes.add(
        "AddShader",
        nodes.add("BsdfDiffuse", _opaque(colour)).outputs[0],
        nodes.add("Emission", _opaque(around), upness).outputs[0],
    )
    length = nodes.add("CameraData").outputs["View Distance"]
    left = nodes.math("EXPONENT", nodes.math("MULTIPLY", length, -clip["fog"]))
    fog = nodes.add("Emission", _opaque(clip["sky"]["horizon"]), 1.0)
    seen = nodes.add("MixShader", left, fog.outputs[0], surface.outputs[0])
    nodes.add("OutputMaterial", seen.outputs[0])
    thing.data.materials.append(material)


def shine(scene: bpy.types.Scene, clip: dict) -> None:
    """Add the sun and the sky of ``clip``, and let the scene's own render show them."""
    lamp = bpy.data.lights.new("Sun", "SUN")
    lamp.angle = 0.0
    lamp.color, lamp.energy = clip["sun"]["colour"], pi  # a diffuse surface sends back 1 / pi
    sun = bpy.data.objects.new("Sun", lamp)
    sun.rotation_euler = Vector(clip["sun"]["direction"]).to_track_quat("Z", "Y").to_euler()
    sun.location = 10 * Vector(clip["sun"]["direction"])
    scene.collection.objects.link(sun)
    scene.world = world = bpy.data.worlds.new("Sky")
    nodes = _Nodes(world)
    direction = nodes.add("TexCoord").outputs["Generated"]
    up = nodes.add("SeparateXYZ", direction).outputs["Z"]
    rise = nodes.math("SQRT", nodes.math("MAXIMUM", up, 0.0))
    sky = nodes.add("Mix", data_type="RGBA")
    sky.inputs["Factor"].default_value = 0.0
    colours = [socket for socket in sky.inputs if socket.type == "RGBA"]
    for socket, name in zip(colours, ("horizon", "zenith"), strict=True):
        socket.default_value = _opaque(clip["sky"][name])
    nodes.tree.links.new(rise, sky.inputs["Factor"])
    colour = next(socket for socket in sky.outputs if socket.type == "RGBA")
    # Only the camera sees the sky: its light is in the materials.
    seen = nodes.add("LightPath").outputs["Is Camera Ray"]
    nodes.add("OutputWorld", nodes.add("Background", colour, seen).outputs[0])
    _render_plainly(scene)


def _render_plainly(scene: bpy.types.Scene) -> None:
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples, cycles.max_bounces = _SAMPLES, 0
    cycles.use_denoising = cycles.use_adaptive_sampling = False
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 1.0
    # The ray caster's gamma: a pure power, which the sRGB curve only resembles.
    view = scene.view_settings
    view.view_transform, view.look = "Raw", "None"
    view.exposure, view.gamma = 0.0, 2.2
