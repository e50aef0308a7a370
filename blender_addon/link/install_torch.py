"""Which build of torch suits this machine, and where it comes from.

Both the extension's installer and tools/environments.py take it from here.
"""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import AnimaticError

TORCH = "2.13.0"
AUTO = "auto"
_INDEX = "https://download.pytorch.org/whl/"


@dataclass(frozen=True)
class Build:
    """One build of torch with what it brings along.

    ``index`` is the address that has it, None for PyPI; ``download_mb`` and ``disk_mb`` are what
    the whole engine with it takes in MB (10^6 bytes), downloaded and installed, rounded up.
    """

    name: str
    label: str
    index: str | None
    download_mb: int
    disk_mb: int


def builds(system: str = sys.platform) -> dict[str, Build]:
    """The builds that there are for ``system`` (as ``sys.platform`` names it), the best first."""
    if system == "darwin":
        # PyPI's build for macOS is the one with Metal.
        return {"metal": Build("metal", "Metal (Apple)", None, 420, 1700)}
    cpu = Build("cpu", "CPU", f"{_INDEX}cpu", 520, 1900)
    if system == "win32":
        # On PyPI the build for Windows computes on the CPU alone.
        return {
            "cuda": Build("cuda", "CUDA (NVIDIA)", f"{_INDEX}cu130", 2700, 6700),
            "cpu": cpu,
        }
    return {
        "cuda": Build("cuda", "CUDA (NVIDIA)", None, 3400, 8700),
        "rocm": Build("rocm", "ROCm (AMD)", f"{_INDEX}rocm7.1", 5600, 18200),
        "cpu": cpu,
    }


def choose_build(asked: str = AUTO, system: str = sys.platform) -> Build:
    """The build that was asked for, or with "auto" the one for the graphics card that is here.

    Raises AnimaticError with a sentence where this system has no such build.
    """
    if system == "darwin" and platform.machine() == "x86_64":
        raise AnimaticError(
            f"There is no torch {TORCH} for Macs with an Intel processor: use an engine on another "
            "machine (Remote Engine)."
        )
    known = builds(system)
    if asked in known:
        return known[asked]
    if asked != AUTO:
        raise AnimaticError(
            f"There is no build of torch for {asked} on this system: choose {', '.join(known)} "
            f"or {AUTO}."
        )
    if "cuda" in known and shutil.which("nvidia-smi"):
        return known["cuda"]
    if "rocm" in known and Path("/opt/rocm").exists():
        return known["rocm"]
    return known["metal"] if "metal" in known else known["cpu"]


def torch_arguments(build: Build) -> list[str]:
    """pip's arguments for torch alone; what it needs comes from PyPI with everything else."""
    index = ["--index-url", build.index] if build.index else []
    return [*index, "--no-deps", f"torch=={TORCH}"]
