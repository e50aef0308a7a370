"""The preferences in a background Blender, with the very zip that `make extension` builds."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import INSIDE, ROOT

ENGINE_PYTHON = ROOT / ".venv" / "engine" / "bin" / "python"


@pytest.fixture(scope="session")
def released_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the zip with the engine's wheel in it."""
    out = tmp_path_factory.mktemp("released")
    command = [sys.executable, ROOT / "tools" / "build_extension.py", "--output-dir", out]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = out.glob("animatic-*.zip")
    return made


def run(zip_file: Path, scratch: Path, script: str, *arguments: object, limit: int = 180) -> str:
    """Run a script of ``inside`` with the zip, in a fresh profile and a data folder of its own."""
    environment = {
        **{key: value for key, value in os.environ.items() if key != "ANIMATIC_ENGINE_PYTHON"},
        "BLENDER_USER_RESOURCES": str(scratch / "profile"),
        "ANIMATIC_DATA": str(scratch / "data"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    command = [sys.executable, INSIDE / script, zip_file, scratch, *arguments]
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=limit,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "DONE" in done.stdout, "the script ended before its end"
    return done.stdout


def test_zip_carries_the_engine(released_zip: Path) -> None:
    with zipfile.ZipFile(released_zip) as archive:
        names = archive.namelist()
        (wheel,) = [name for name in names if name.endswith(".whl")]
        with archive.open(wheel) as inner:
            carried = zipfile.ZipFile(inner).namelist()
    assert wheel.startswith("engine_wheel/animatic-")
    assert {"animatic/server/launcher.py", "animatic/presets/catalogue.json"} <= set(carried)
    # the model lies in the zip once
    assert not [name for name in carried if name.endswith(".safetensors")]
    assert "presets/blockout-mini/unet/diffusion_pytorch_model.safetensors" in names
    assert released_zip.stat().st_size < 80e6


@pytest.mark.skipif(not ENGINE_PYTHON.is_file(), reason="the engine's environment is not here")
def test_engine_and_models(released_zip: Path, tmp_path: Path) -> None:
    run(released_zip, tmp_path, "uses_preferences.py", ENGINE_PYTHON)


@pytest.mark.slow
def test_real_installation(released_zip: Path, tmp_path: Path) -> None:
    run(released_zip, tmp_path, "installs_engine.py", limit=1500)
