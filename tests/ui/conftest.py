"""Installs the extension's zip and runs scripts with it in a fresh Blender profile.

Every script gets a process of its own: a profile must be chosen before bpy is imported, and a
Blender that was left with a class or timer of ours crashes or hangs at its exit, which is tested
by that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).resolve().parent / "inside"
ZIP_VARIABLE = "ANIMATIC_ZIP"


@dataclass(frozen=True)
class Extensions:
    """Blender's own tool for extensions, as it lies in the bpy wheel."""

    tool: Path
    tags: Path

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run one of its commands."""
        command = [sys.executable, str(self.tool), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="session")
def extensions() -> Extensions:
    """Return the tool of the bpy that is installed here."""
    wheel = Path(sysconfig.get_paths()["purelib"]) / "bpy"
    (scripts,) = wheel.glob("*/scripts")
    return Extensions(
        tool=scripts / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py",
        tags=scripts / "modules" / "_bpy_internal" / "extensions" / "tags.py",
    )


@pytest.fixture(scope="session")
def extension_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The very zip that `make extension` builds; `make test` builds one for all Blenders."""
    if ZIP_VARIABLE in os.environ:
        return Path(os.environ[ZIP_VARIABLE])
    out = tmp_path_factory.mktemp("zip")
    command = [sys.executable, ROOT / "tools" / "build_extension.py", "--output-dir", out]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = out.glob("animatic-*.zip")
    return made


@pytest.fixture
def run_inside(extension_zip: Path, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a script of ``inside`` with the zip in a fresh profile.

    The data folder is fresh too, and nothing outside this machine is reached. ``own_engine`` False
    hides an engine that the surroundings name.
    """

    def run(script: str, *arguments: object, limit: int = 180, own_engine: bool = True) -> str:
        environment = {
            **os.environ,
            "BLENDER_USER_RESOURCES": str(tmp_path / "profile"),
            "ANIMATIC_DATA": str(tmp_path / "data"),
            "HF_ENDPOINT": "http://127.0.0.1:9",
        }
        if not own_engine:
            environment.pop("ANIMATIC_ENGINE_PYTHON", None)
        command = [sys.executable, INSIDE / script, extension_zip, tmp_path, *arguments]
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

    return run
