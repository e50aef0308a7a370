"""`animatic evaluate` from end to end: Blender renders, the engine measures."""

from __future__ import annotations

import json
import subprocess

import pytest

from .conftest import ENGINE_PYTHON, command

# The tiny model brings no estimator of its own; an untrained one measures nothing, but runs.
MAKE_MODEL = """
import sys
from pathlib import Path
from animatic.engine.evaluation.estimator import FOLDER, build_estimator
from animatic.engine.training.architecture import build_untrained
folder = Path(sys.argv[1])
build_untrained(folder, tiny=True)
build_estimator().save_pretrained(folder / "evaluation" / FOLDER)
"""


@pytest.mark.slow
def test_evaluate_renders_in_blender_and_measures(tmp_path):
    model = tmp_path / "model"
    subprocess.run([ENGINE_PYTHON, "-c", MAKE_MODEL, model], check=True, capture_output=True)
    out = tmp_path / "out"
    run = subprocess.run(
        command("evaluate", "--quick", "--model", model, "--clips", 1, "--blender-clips", 1,
                "--steps", 2, "--out", out, "--json", tmp_path / "figures.json"),
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["clips"] == {"ray caster": 1, "Blender": 1}
    assert (out / "0000_blender.png").is_file()
    assert "| true pictures |" in run.stdout
