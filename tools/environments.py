"""Sets up the environments that the Makefile's commands need; a second run changes nothing.

    python3 tools/environments.py [--torch auto|cpu|cuda|rocm|metal] engine host [host45] [host52]

``engine`` holds torch and diffusers, the hosts hold one bpy each. The standard library alone does
the work, so that this runs on a fresh machine. What an environment holds is written in
pyproject.toml; a stamp inside the environment remembers what was installed.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from blender_addon.errors import AnimaticError  # noqa: E402
from blender_addon.link.install_python import candidates  # noqa: E402
from blender_addon.link.install_torch import (  # noqa: E402
    TORCH,
    Build,
    choose_build,
    torch_arguments,
)

VENVS = ROOT / ".venv"
# shared library -> Debian package: what `import bpy` and its renderers load at run time.
LIBRARIES = {
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libgomp.so.1": "libgomp1",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libEGL_mesa.so.0": "libegl-mesa0",
}


@dataclass(frozen=True)
class Environment:
    """One virtual environment: its Python version and what pip installs into it."""

    python: str
    requirements: tuple[str, ...]


ENVIRONMENTS = {
    "engine": Environment("3.11", ("-e", f"{ROOT}[engine,dev,lint]")),
    "host": Environment("3.11", ("-e", f"{ROOT}[host,dev]")),
    "host45": Environment("3.11", ("-e", f"{ROOT}[dev]", "bpy==4.5.15", "numpy>=1.26,<2")),
    "host52": Environment("3.13", ("-e", f"{ROOT}[host,dev]")),
}


def main() -> int:
    """Set up the named environments; return 1 with a sentence where that cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("environments", nargs="+", choices=ENVIRONMENTS)
    parser.add_argument(
        "--torch",
        choices=["auto", "cpu", "cuda", "rocm", "metal"],
        default="auto",
        help="the build of torch; auto takes the one for the graphics card that is here",
    )
    options = parser.parse_args()
    try:
        for name in options.environments:
            set_up(name, options.torch)
    except (SetupError, AnimaticError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"\nThis command failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    return 0


class SetupError(Exception):
    """Something the user has to do first; the message says what."""


def set_up(name: str, torch: str) -> None:
    """Create the environment and install what it needs, unless its stamp says that it has it."""
    environment = ENVIRONMENTS[name]
    python = find_python(environment.python)
    folder = VENVS / name
    stamp = folder / "installed"
    pyproject = (ROOT / "pyproject.toml").read_bytes()
    # The build and not the word asked for: "auto" and what it comes to are the same.
    build = choose_build(torch) if name == "engine" else None
    chosen = build and (build.name, TORCH)
    wanted = hashlib.sha256(
        pyproject + repr((environment, sys.platform, chosen, str(ROOT))).encode()
    ).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        print(f"[{name}] ready")
        return
    require_system_packages(python, blender=name.startswith("host"))
    began = time.monotonic()
    stamp.unlink(missing_ok=True)  # it would be untrue where an installation breaks off
    print(f"[{name}] creating {folder.relative_to(ROOT)} with Python {environment.python}")
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check"]
    if build:
        install_torch(pip, build)
    print(f"[{name}] installing what pyproject.toml lists for it")
    subprocess.run([*pip, *environment.requirements], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    print(f"[{name}] ready after {time.monotonic() - began:.0f} s")


def install_torch(pip: list[str], build: Build) -> None:
    """Install this build of torch, in place of another one that is there."""
    print(f"[engine] installing torch {TORCH} ({build.label} build)")
    # To pip 2.13.0+cpu is as good as 2.13.0; an index is named after the builds that it has.
    tag = build.index.rpartition("/")[2] if build.index else ""
    asked = "from importlib.metadata import version; print(version('torch'))"
    held = subprocess.run([pip[0], "-c", asked], capture_output=True, text=True).stdout.strip()
    again = [] if held == f"{TORCH}{tag and '+' + tag}" else ["--force-reinstall"]
    subprocess.run([*pip, "--retries", "1", *again, *torch_arguments(build)], check=True)


def find_python(version: str) -> str:
    """Return an interpreter of this version: the running one, or one that lies about here."""
    for candidate in (sys.executable, *candidates(version)):
        if is_python(candidate, version):
            return candidate
    raise SetupError(f"Python {version} is needed and was not found: install python{version}.")


def is_python(candidate: str, version: str) -> bool:
    """Tell whether a program is a Python of this version; pyenv's shims may stand for none."""
    asked = "import sys; print('{}.{}'.format(*sys.version_info))"
    answer = subprocess.run([candidate, "-c", asked], capture_output=True, text=True)
    return answer.stdout.strip() == version


def require_system_packages(python: str, blender: bool) -> None:
    """Install what is missing through apt when root; otherwise say what to install."""
    missing = []
    if subprocess.run([python, "-c", "import ensurepip"], capture_output=True).returncode:
        missing.append("python3-venv")
    if blender and sys.platform == "linux":
        missing += [package for library, package in LIBRARIES.items() if not loadable(library)]
    if not missing:
        return
    packages = " ".join(missing)
    if not shutil.which("apt-get"):
        raise SetupError(f"Please install what these Debian packages hold: {packages}")
    if os.geteuid() != 0:
        raise SetupError(f"Please run: sudo apt-get install {packages}")
    print(f"[system] installing {packages}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "-qq"], install):
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def loadable(library: str) -> bool:
    """Tell whether the dynamic linker finds a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
