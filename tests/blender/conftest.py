"""Small scenes built in the test, and the child process as the command line runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
import pytest
from animatic.blender_addon.scene.film import read_film
from animatic.blender_addon.scene.gl_probe import can_render_with_gl
from animatic.blender_addon.scene.stage import Stage

CHILD = Path(__file__).resolve().parents[2] / "blender_addon" / "scene" / "child.py"
MODEL = {"model": {"frames": 4, "fps": "8"}, "size": {"native": 64, "multiple": 8}}


@pytest.fixture(params=["cycles", "workbench"])
def method(request):
    """Each way to render depth."""
    if request.param == "workbench" and not can_render_with_gl():
        pytest.skip("no OpenGL here: Workbench would end the process")
    return request.param


@pytest.fixture(autouse=True)
def scene() -> bpy.types.Scene:
    """An empty file with a 64x64 scene, frames 1 to 12, and a camera 10 units up, looking down."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, 12
    scene.render.resolution_x = scene.render.resolution_y = 64
    scene.camera = add_camera("Camera", (0, 0, 10))
    return scene


def add_camera(name: str, location: tuple[float, float, float] = (0, 0, 0)) -> bpy.types.Object:
    """Add a camera that looks down -Z."""
    camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    camera.location = location
    bpy.context.scene.collection.objects.link(camera)
    return camera


def add_box(
    name: str,
    location: tuple[float, float, float] = (0, 0, 0),
    size: tuple[float, float, float] = (1, 1, 1),
    collection: bpy.types.Collection | None = None,
) -> bpy.types.Object:
    """Add a box of ``size`` whose centre is ``location``; its faces point outwards."""
    x, y, z = (side / 2 for side in size)
    corners = [(i, j, k) for i in (-x, x) for j in (-y, y) for k in (-z, z)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(corners, [], faces)
    box = bpy.data.objects.new(name, mesh)
    box.location = location
    (collection or bpy.context.scene.collection).objects.link(box)
    return box


def material(name: str, shader: str, socket: str = "Surface") -> bpy.types.Material:
    """Return a material of one ``shader`` node (its type) on the output's ``socket``."""
    made = bpy.data.materials.new(name)
    if made.node_tree is None:
        made.use_nodes = True  # before 5.0
    nodes = made.node_tree.nodes
    nodes.clear()
    output = nodes.new("ShaderNodeOutputMaterial")
    made.node_tree.links.new(nodes.new(shader).outputs[0], output.inputs[socket])
    return made


def emission(name: str, color: tuple[float, float, float]) -> bpy.types.Material:
    """Return a material that shines in ``color`` (scene linear)."""
    made = material(name, "ShaderNodeEmission")
    made.node_tree.nodes["Emission"].inputs["Color"].default_value = (*color, 1.0)
    return made


@pytest.fixture
def stage(scene: bpy.types.Scene, tmp_path: Path) -> Callable[..., Stage]:
    """Make a stage of the current scene at a given guide size."""

    def make(width: int = 64, height: int = 64) -> Stage:
        return Stage(scene, read_film(scene), width, height, tmp_path)

    return make


def save(path: Path) -> Path:
    """Save the open file as ``path`` and return it."""
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=False)
    return path


@dataclass
class Child:
    """What came of a task: its exit code, its result, its progress events and all its output."""

    code: int
    result: dict
    events: list[dict]
    output: str


def run_child(tmp_path: Path, env: dict[str, str] | None = None, **task: object) -> Child:
    """Run a task as the command line does; ``out`` defaults to ``tmp_path/guides``.

    ``env`` is added to the environment. The child watches a standard input that stays open.
    """
    result = tmp_path / "result.json"
    result.unlink(missing_ok=True)
    defaults = {
        "task": "guides",
        "result": str(result),
        "out": str(tmp_path / "guides"),
        "guide": "depth",
        "keyframes": "camera",
        "lineart_width": 1.5,
        "depth_method": "cycles",
        "watch_stdin": True,
        **MODEL,
    }
    file = tmp_path / "task.json"
    file.write_text(json.dumps({**defaults, **task}, default=str), encoding="utf-8")
    ends = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, str(CHILD), str(file)],
            stdin=ends[0],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
            timeout=120,
            check=False,
        )
    finally:
        for end in ends:
            os.close(end)
    assert result.is_file(), done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("@animatic ")]
    events = [json.loads(line.removeprefix("@animatic ")) for line in lines]
    return Child(done.returncode, json.loads(result.read_text()), events, done.stdout)


def middle(picture: np.ndarray) -> float:
    """Return the value of a picture's middle pixel."""
    return picture[picture.shape[0] // 2, picture.shape[1] // 2]
