"""The zip: valid, lean, and at home in this Blender."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT, Extensions

ENGINE_PYTHON = ROOT / ".venv" / "engine" / "bin" / "python"


def test_manifest_is_valid_with_its_tags(extensions: Extensions, extension_zip: Path) -> None:
    checked = extensions.run("validate", "--valid-tags", extensions.tags, extension_zip)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_zip_holds_what_the_extension_needs_and_no_more(extension_zip: Path) -> None:
    names = zipfile.ZipFile(extension_zip).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops <= {
        "blender_manifest.toml",
        "__init__.py",
        "cli.py",
        "cli_options.py",
        "cli_progress.py",
        "cli_values.py",
        "engine_wheel",
        "LICENSE",
        "README.md",
        "blender_addon",
        "engine",
        "server",
        "presets",
    }
    assert {"blender_addon/scene/child.py", "server/__main__.py"} <= set(names)
    unwanted = ("__pycache__", "engine/bench", "evaluation/", "training/")
    assert not [name for name in names if any(part in name for part in unwanted)]


@pytest.mark.parametrize(
    "script",
    [
        "registers_twice.py",
        "asks_for.py",
        "asks_remote.py",
        "draws.py",
        "generates.py",
        "goes_on.py",
        "runs_headless.py",
        "guide_frames.py",
        "is_interrupted.py",
        "keeps_queue.py",
        "looks.py",
        "pictures.py",
        "places_strips.py",
        "renames.py",
        "shows_takes.py",
        "takes.py",
        "two_scenes.py",
    ],
)
def test_in_a_fresh_profile(script: str, run_inside: Callable[..., str]) -> None:
    run_inside(script)


@pytest.mark.slow
@pytest.mark.skipif(not ENGINE_PYTHON.is_file(), reason="the engine's environment is not here")
def test_whole_road(run_inside: Callable[..., str], tmp_path: Path) -> None:
    model = tmp_path / "models" / "tiny"
    build = [ENGINE_PYTHON, "-m", "animatic.engine.training.architecture", "--tiny", model]
    subprocess.run([str(word) for word in build], check=True, capture_output=True)
    run_inside("whole_road.py", ENGINE_PYTHON, model)
