"""The preferences in a background Blender, and what the zip carries for them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT

ENGINE_PYTHON = ROOT / ".venv" / "engine" / "bin" / "python"


def test_zip_carries_the_engine(extension_zip: Path) -> None:
    with zipfile.ZipFile(extension_zip) as archive:
        names = archive.namelist()
        (wheel,) = [name for name in names if name.endswith(".whl")]
        with archive.open(wheel) as inner:
            carried = zipfile.ZipFile(inner).namelist()
    assert wheel.startswith("engine_wheel/animatic-")
    assert {"animatic/server/launcher.py", "animatic/presets/catalogue.json"} <= set(carried)
    # the model lies in the zip once
    assert not [name for name in carried if name.endswith(".safetensors")]
    assert "presets/blockout-mini/unet/diffusion_pytorch_model.safetensors" in names
    assert extension_zip.stat().st_size < 80e6


@pytest.mark.skipif(not ENGINE_PYTHON.is_file(), reason="the engine's environment is not here")
def test_engine_and_models(run_inside: Callable[..., str]) -> None:
    run_inside("uses_preferences.py", ENGINE_PYTHON, own_engine=False)


@pytest.mark.slow
def test_real_installation(run_inside: Callable[..., str]) -> None:
    run_inside("installs_engine.py", limit=1500, own_engine=False)
