"""Seconds per keyframe of depth and line guides: ``python -m animatic.blender_addon.scene.bench``.

512x512 pixels, a scene of 100,000 faces (a rolling ground and a hundred boxes), keyframes at
different times. Prints a table and, as its last line, the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from math import cos, sin
from pathlib import Path

import bpy

from .depth_guide import measure_z, prepare_depth
from .film import read_film
from .gl_probe import can_render_with_gl
from .lineart_guide import draw_lines, prepare_lineart
from .stage import Stage

BOXES = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="pixels a side (default: 512)")
    parser.add_argument("--faces", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--keyframes", type=int, default=4, help="how many to average over")
    options = parser.parse_args()
    methods: dict[str, tuple[Callable[[Stage], None], Callable[[Stage], object]]] = {
        "depth, Cycles": (lambda stage: prepare_depth(stage, "cycles"), measure_z),
        "line-art": (lambda stage: prepare_lineart(stage, 2.0), draw_lines),
    }
    if can_render_with_gl():
        workbench = (lambda stage: prepare_depth(stage, "workbench"), measure_z)
        methods = {"depth, Workbench": workbench, **methods}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, (prepare, render) in methods.items():
            stage = _build(options.faces, options.size, Path(scratch))
            prepare(stage)
            seconds = []
            for index in range(options.keyframes + 1):
                started = time.perf_counter()
                stage.go_to(Fraction(1 + 4 * index))
                render(stage)
                seconds.append(time.perf_counter() - started)
            # The first one also loads the renderer.
            mean = sum(seconds[1:]) / options.keyframes
            rows.append({"guide": name, "first_s": round(seconds[0], 3), "s": round(mean, 3)})
    print(f"\n{options.faces} faces, {options.size}x{options.size}, Blender", end=" ")
    print(f"{bpy.app.version_string}, {os.cpu_count()} cores; seconds per keyframe")
    for row in rows:
        print(f"  {row['guide']:<18} {row['s']:6.2f}   (the first {row['first_s']:.2f})")
    facts = {"blender": bpy.app.version_string, "faces": options.faces, "size": options.size}
    print(json.dumps({**facts, "keyframes": options.keyframes, "results": rows}))


def _build(faces: int, size: int, scratch: Path) -> Stage:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.resolution_x = scene.render.resolution_y = size
    _link("Ground", *_ground(faces - 6 * BOXES))
    corners = [(i, j, k) for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (0, 1)]
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    for index in range(BOXES):
        box = _link(f"Box {index}", corners, sides)
        box.location = (index % 10 * 2 - 9, index // 10 * 2 - 9, 0.3)
        box.scale.z = 1 + 2 * sin(index * 1.7) ** 2
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.location, camera.rotation_euler = (0, -18, 8), (1.15, 0, 0)
    camera.keyframe_insert("location", frame=1)
    camera.location.x = 4
    camera.keyframe_insert("location", frame=40)
    return Stage(scene, read_film(scene), size, size, scratch)


def _ground(faces: int) -> tuple[list, list]:
    side = round(faces**0.5)
    steps = [24 * i / side - 12 for i in range(side + 1)]
    points = [(x, y, 0.3 * sin(0.9 * x) * cos(0.7 * y)) for y in steps for x in steps]
    row = side + 1
    quads = [
        (y * row + x, y * row + x + 1, (y + 1) * row + x + 1, (y + 1) * row + x)
        for y in range(side)
        for x in range(side)
    ]
    return points, quads


def _link(name: str, points: list, faces: list) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(points, [], faces)
    made = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(made)
    return made


if __name__ == "__main__":
    main()
