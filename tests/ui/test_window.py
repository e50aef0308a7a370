"""A real Blender window, where there is one: from install-from-disk to a strip in the sequencer.

    ANIMATIC_BLENDER=/path/to/blender python -m pytest tests/ui/test_window.py

The pictures of every stage lie in the folder that ANIMATIC_PICTURES names, if it names one. With
ANIMATIC_INSTALL=1 the engine is installed too, from the internet: half a GB, twice, some minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from animatic.tools.window.start import NoWindow, Tools, drive

from .conftest import ROOT

WINDOW = Path(__file__).resolve().parent / "window"
ENGINE_PYTHON = ROOT / ".venv" / "engine" / "bin" / "python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ENGINE_PYTHON.is_file(), reason="the engine's environment is not here"),
]


@dataclass(frozen=True)
class Stage:
    """The programs, and copies of a small model and of an example scene."""

    tools: Tools
    zip: Path
    model: Path
    blend: Path
    pictures: Path

    def play(self, script: str, limit_s: float = 400) -> list[dict]:
        """Play a script of ``window``; the scene's file must be the same after it."""
        settings = {
            "zip": str(self.zip),
            "engine": str(ENGINE_PYTHON),
            "model": str(self.model),
            "blend": str(self.blend),
        }
        before = self.blend.read_bytes()
        folder = self.pictures / Path(script).stem
        told = drive(self.tools, WINDOW / script, folder, settings, limit_s)
        assert self.blend.read_bytes() == before
        return told


@pytest.fixture
def stage(extension_zip: Path, tmp_path: Path) -> Stage:
    """Return what the tests play with; skips where there is no window to be had."""
    try:
        tools = Tools.find()
    except NoWindow as missing:
        pytest.skip(str(missing))
    model = tmp_path / "models" / "tiny"
    build = [ENGINE_PYTHON, "-m", "animatic.engine.training.architecture", "--tiny", model]
    subprocess.run([str(word) for word in build], check=True, capture_output=True)
    blend = Path(shutil.copy(ROOT / "examples" / "city_dolly.blend", tmp_path))
    pictures = Path(os.environ.get("ANIMATIC_PICTURES", tmp_path))
    return Stage(tools, extension_zip, model, blend, pictures)


def test_first_video(stage: Stage) -> None:
    told = stage.play("first_video.py")
    assert any("strip" in line for line in told)


def test_engine_faults(stage: Stage) -> None:
    told = stage.play("engine_faults.py")
    names = [line["name"] for line in told if "name" in line]
    assert names == ["missing", "other_protocol", "killed", "hung"]


def test_interruptions(stage: Stage) -> None:
    told = stage.play("interruptions.py", 2400)
    names = [line["name"] for line in told if "name" in line]
    # a disk is filled only where the test may mount one
    assert [name for name in names if name != "disk_full"] == [
        "undo",
        "file_open",
        "reload_scripts",
        "disabled",
        "out_of_memory",
        "killed_for_memory",
    ]


def test_responsive(stage: Stage) -> None:
    told = stage.play("responsive.py", 1200)
    assert [line["name"] for line in told if "name" in line] == ["tick", "draw", "idle"]


@pytest.mark.skipif(os.environ.get("ANIMATIC_INSTALL") != "1", reason="needs the internet")
def test_installed_engine(stage: Stage) -> None:
    told = stage.play("installed_engine.py", 3600)
    assert any("strip" in line for line in told)


def test_headless_command(stage: Stage, tmp_path: Path) -> None:
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path / "profile")}

    def blender(*words: object) -> subprocess.CompletedProcess[str]:
        command = [stage.tools.blender, *map(str, words)]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200
        )

    install = ("-c", "extension", "install-file", "-r", "user_default", "--enable", stage.zip)
    assert blender(*install).returncode == 0
    asked = ("-b", stage.blend, "-c", "animatic", "--model", stage.model, "--steps", "2")
    done = blender(*asked, "--engine-python", ENGINE_PYTHON, "--prompt", "a street")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2" in done.stderr
    out = tmp_path / "out" / "city_dolly"
    assert {"video.mp4", "shot.blend", "take.json"} <= {item.name for item in out.iterdir()}
    refused = blender(*asked, "--prompt", "a street")
    assert refused.returncode == 1
    assert "already holds a take" in refused.stderr
    assert blender("-c", "animatic", "--prompt", "a street").returncode == 2
