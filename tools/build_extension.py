"""Builds the extension's zip, with a wheel of the engine in it, and validates it.

    .venv/host/bin/python tools/build_extension.py [--output-dir dist]

The zip is made from a staging tree, so that nothing that happens to lie in the working tree gets
in. Needs a Python with bpy, whose own tool for extensions does the packing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

from animatic.blender_addon.link.install_recipe import WHEEL_FOLDER

ROOT = Path(__file__).resolve().parents[1]
LIMIT_MB = 80
COMMAND_LINE = ("cli.py", "cli_options.py", "cli_progress.py", "cli_values.py")
SOURCES = ("__init__.py", "blender_addon", "engine", "server", "presets")
PACKAGE = (*SOURCES, *COMMAND_LINE, "LICENSE", "README.md")
EXTENSION = (*PACKAGE, "blender_manifest.toml")
WHEEL = (*PACKAGE, "pyproject.toml")


def main() -> int:
    """Build and validate; print the zip's path and size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output-dir", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    try:
        made = build(options.output_dir.resolve())
    except subprocess.CalledProcessError as error:
        print(f"{error.stdout}{error.stderr}\nThis failed: {error.cmd}", file=sys.stderr)
        return 1
    size = made.stat().st_size / 1e6
    print(f"{made} ({size:.1f} MB)")
    if size > LIMIT_MB:
        print(f"The zip is larger than {LIMIT_MB} MB.", file=sys.stderr)
        return 1
    return 0


def build(output: Path) -> Path:
    """Stage, build the wheel into the staging tree, pack and validate; returns the zip.

    Raises subprocess.CalledProcessError where a step fails.
    """
    with tempfile.TemporaryDirectory(prefix="animatic-build-") as scratch:
        stage, source = Path(scratch) / "extension", Path(scratch) / "source"
        copy(EXTENSION, stage)
        # The extension has the model beside the wheel already; the engine is given its folder.
        copy(WHEEL, source, "blockout-mini")
        build_wheel(source, stage / WHEEL_FOLDER)
        run(tool(), "build", "--source-dir", stage, "--output-dir", output)
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    made = output / f"{manifest['id']}-{manifest['version']}.zip"
    run(tool(), "validate", made)
    return made


def copy(names: tuple[str, ...], target: Path, *without: str) -> None:
    """Copy these files and folders of the repository, without what Python left in them."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.egg-info", *without)
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def build_wheel(source: Path, target: Path) -> None:
    """Build the wheel of ``animatic`` that the engine's environment installs."""
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", target, source)


def tool() -> Path:
    """Blender's own tool for extensions, as it lies in the bpy wheel."""
    wheel = Path(sysconfig.get_paths()["purelib"]) / "bpy"
    (found,) = wheel.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py")
    return found


def run(*words: object) -> None:
    """Run this Python with arguments."""
    command = [sys.executable, *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
