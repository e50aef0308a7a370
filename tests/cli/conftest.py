"""Fixtures of the whole road: a small scene, a tiny untrained model, the command itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE_PYTHON = ROOT / ".venv" / "engine" / "bin" / "python"

# A cube and a ball on a ground, a camera keyed at three frames; built by a child, so that the
# tests' own process never holds a bpy.
BUILD_SCENE = """
import sys, bpy
path, variant = sys.argv[1:3]
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.frame_start, scene.frame_end = 1, 24
scene.render.resolution_x = scene.render.resolution_y = 256
bpy.ops.mesh.primitive_plane_add(size=30)
bpy.ops.mesh.primitive_cube_add(size=2, location=(0, 0, 1))
bpy.ops.mesh.primitive_uv_sphere_add(radius=1, location=(2.5, 1, 1))
if variant == "empty":
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
if variant != "no_camera":
    bpy.ops.object.camera_add(location=(0, -9, 3), rotation=(1.35, 0, 0))
    camera = scene.camera = bpy.context.object
    if variant != "no_keys":
        for frame, x in ((1, -2.0), (12, 0.0), (24, 2.0)):
            camera.location.x = x
            camera.keyframe_insert("location", frame=frame)
bpy.ops.wm.save_as_mainfile(filepath=path)
"""


@dataclass(frozen=True)
class Result:
    """What one run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict:
        """The summary that --json prints."""
        return json.loads(self.out)


def command(*arguments: object) -> list[str]:
    """Return the command line of ``animatic`` with these arguments."""
    return [str(Path(sys.executable).with_name("animatic")), *map(str, arguments)]


def run(*arguments: object, **options: object) -> Result:
    """Run ``animatic`` to its end."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=300, cwd=ROOT, **options
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory):
    """Return a function that builds one variant of the scene and gives its path."""
    folder = tmp_path_factory.mktemp("scenes")

    def build(variant: str = "plain") -> Path:
        path = folder / f"{variant}.blend"
        if not path.exists():
            subprocess.run(
                [sys.executable, "-c", BUILD_SCENE, str(path), variant],
                check=True,
                capture_output=True,
                env={**os.environ, "BLENDER_USER_RESOURCES": str(folder / "profile")},
            )
        return path

    return build


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds one tiny untrained model, called ``tiny``."""
    folder = tmp_path_factory.mktemp("models")
    build = [str(ENGINE_PYTHON), "-m", "animatic.engine.training.architecture", "--tiny"]
    subprocess.run([*build, str(folder / "tiny")], check=True, capture_output=True)
    return folder
