"""Makes the thumbnails of presets/looks: one small blockout, lit and finished as each look says.

    .venv/host/bin/python tools/look_thumbnails.py

They suggest a look in the panel; what a model makes of its words is another picture.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from math import radians
from pathlib import Path

import bpy
import numpy as np
from animatic.blender_addon.scene import compat
from animatic.blender_addon.shot.png import read_png, write_png

LOOKS = Path(__file__).resolve().parents[1] / "presets" / "looks"
SIDE, SAMPLES = 128, 256
Colour = tuple[float, float, float]
PAINTED: tuple[Colour, ...] = ((0.75, 0.16, 0.08), (0.1, 0.3, 0.6), (0.8, 0.55, 0.1))


@dataclass(frozen=True)
class Light:
    """How a look is lit and finished.

    The sun's ``height`` above the ground in degrees, its ``strength`` and ``soft`` angle; ``fog`` 0
    to 1 towards the colour of the ``sky``; ``finish`` names a function below.
    """

    sky: Colour
    sun: Colour = (1.0, 0.95, 0.85)
    strength: float = 3.0
    height: float = 45.0
    soft: float = 2.0
    ground: Colour = (0.32, 0.3, 0.27)
    paint: tuple[Colour, ...] = PAINTED
    fog: float = 0.0
    finish: str = ""


LIGHTS = {
    "none": Light((0.35, 0.45, 0.6)),
    "clay": Light((0.6, 0.58, 0.55), strength=1.6, soft=40, ground=(0.5, 0.42, 0.34),
                  paint=((0.62, 0.3, 0.2), (0.35, 0.45, 0.4), (0.68, 0.5, 0.25))),
    "film_noir": Light((0.01, 0.01, 0.012), strength=4.5, height=20, soft=0.5, finish="gray"),
    "film_still": Light((0.16, 0.24, 0.3), sun=(1.0, 0.72, 0.5), strength=3.4, height=28,
                        soft=6, finish="wide"),
    "fog": Light((0.55, 0.58, 0.6), strength=0.7, soft=60, fog=0.75),
    "golden_hour": Light((0.42, 0.3, 0.24), sun=(1.0, 0.5, 0.16), strength=5.5, height=13, soft=3),
    "moonlight": Light((0.012, 0.02, 0.05), sun=(0.35, 0.5, 1.0), strength=0.8, height=50),
    "overcast": Light((0.5, 0.54, 0.58), strength=0.2, soft=90),
    "storyboard": Light((0.9, 0.9, 0.9), strength=2.5, ground=(0.85, 0.85, 0.85),
                        finish="pencil"),
    "watercolour": Light((0.72, 0.8, 0.88), strength=1.6, soft=20, ground=(0.72, 0.66, 0.54),
                         finish="watercolour"),
}  # fmt: skip


def main() -> None:
    """Render one picture for each look, and one for none."""
    named = {path.stem for path in LOOKS.glob("*.json")} | {"none"}
    if named != set(LIGHTS):
        raise SystemExit(f"Looks and lights differ: {sorted(named ^ set(LIGHTS))}.")
    with tempfile.TemporaryDirectory() as scratch:
        for name, light in LIGHTS.items():
            picture, depth = render(light, Path(scratch))
            write_png(LOOKS / f"{name}.png", finished(picture, depth, light))
            print(name, json.dumps((LOOKS / f"{name}.png").stat().st_size))


def render(light: Light, scratch: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture, float [H, W, 3] of sRGB values 0 to 1, and how far off, 0 to 1."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_plane_add(size=200)
    _painted(light.ground)
    bpy.ops.mesh.primitive_cube_add(size=2, location=(-1.9, 0.4, 1), rotation=(0, 0, 0.5))
    _painted(light.paint[0])
    bpy.ops.mesh.primitive_uv_sphere_add(radius=1.1, location=(0.9, -0.9, 1.1), segments=48)
    bpy.ops.object.shade_smooth()
    _painted(light.paint[1])
    bpy.ops.mesh.primitive_cone_add(radius1=1.2, depth=3.4, location=(1.5, 2.6, 1.7), vertices=48)
    _painted(light.paint[2])
    bpy.ops.object.light_add(type="SUN", rotation=(radians(90 - light.height), 0, radians(-58)))
    sun = bpy.context.object.data
    sun.energy, sun.color, sun.angle = light.strength, light.sun, radians(light.soft)
    scene.world = bpy.data.worlds.new("Sky")
    tree = _nodes(scene.world)
    sky = next(node for node in tree.nodes if node.type == "BACKGROUND")
    sky.inputs["Color"].default_value = (*light.sky, 1.0)
    bpy.ops.object.camera_add(location=(0.1, -8.9, 2.9), rotation=(radians(80.5), 0, 0))
    scene.camera = bpy.context.object
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = SAMPLES, False
    scene.render.resolution_x = scene.render.resolution_y = SIDE
    scene.view_settings.view_transform = "AgX" if light.finish != "pencil" else "Standard"
    compat.set_still_format(scene.render.image_settings, "PNG", "RGB", "8")
    scene.render.filepath = str(scratch / "look.png")
    bpy.ops.render.render(write_still=True)
    picture = read_png(scratch / "look.png")[..., :3] / 255
    rows = np.linspace(1, 0, SIDE)[:, None]  # the horizon lies a little above the middle
    far = np.clip(1.6 - abs(rows - 0.62) * 4, 0, 1) * np.ones((1, SIDE))
    return picture, far


def _painted(colour: Colour) -> None:
    material = bpy.data.materials.new("Paint")
    tree = _nodes(material)
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    shader.inputs["Roughness"].default_value = 0.6
    bpy.context.object.data.materials.append(material)


def _nodes(data: bpy.types.ID) -> bpy.types.NodeTree:
    if bpy.app.version < (5, 0, 0):
        data.use_nodes = True
    return data.node_tree


def finished(picture: np.ndarray, far: np.ndarray, light: Light) -> np.ndarray:
    """Return the thumbnail, uint8 [H, W, 3]."""
    if light.fog:
        share = (light.fog * (0.55 + 0.45 * far))[..., None]
        picture = picture * (1 - share) + np.array([0.78, 0.79, 0.8]) * share
    gray = picture @ np.array([0.3, 0.59, 0.11])
    if light.finish == "gray":
        picture = np.repeat((np.clip(gray * 1.5 - 0.12, 0, 1) ** 1.2)[..., None], 3, axis=2)
    elif light.finish == "wide":
        picture = np.clip((picture - 0.5) * 1.15 + 0.5, 0, 1)
        picture[:18] = picture[-18:] = 0.0
    elif light.finish == "pencil":
        edges = sum(abs(gray - np.roll(gray, 1, axis)) for axis in (0, 1))
        rows, columns = np.indices(gray.shape)
        hatch = ((rows + columns) % 5 < 2) & (gray < 0.62)
        paper = 0.97 - 0.22 * hatch - np.clip(edges * 3.5, 0, 0.8)
        picture = np.repeat(paper[..., None], 3, axis=2)
    elif light.finish == "watercolour":
        smooth = sum(np.roll(picture, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)) / 9
        grain = np.random.default_rng(1).normal(0, 0.018, gray.shape)[..., None]
        picture = 0.35 + 0.68 * np.round(smooth * 7) / 7 + grain
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


if __name__ == "__main__":
    main()
