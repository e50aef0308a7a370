"""A folder's name is its rule: what may be imported where."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import animatic
import pytest

ADDON = Path(animatic.__file__).parent / "blender_addon"
FILES = sorted(ADDON.rglob("*.py"))
OTHER_SIDE = {"engine", "server", "torch", "diffusers", "transformers", "fastapi", "PIL"}


def imported(file: Path) -> Iterator[str]:
    """Every dotted name that ``file`` imports, absolute; of relative ones as in the package."""
    package = ("animatic", *file.relative_to(ADDON.parent).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            for alias in node.names:
                yield ".".join((*base, *filter(None, [node.module]), alias.name))


def test_relative_imports_are_resolved():
    assert "animatic.blender_addon.errors.AnimaticError" in imported(ADDON / "shot" / "errors.py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ADDON)))
def test_the_addon_imports_only_its_own_side(file):
    parts = {part for name in imported(file) for part in name.split(".")[:2]}
    assert not parts & OTHER_SIDE
    # Blender loads the package under another name, so that only relative imports work.
    assert not {"import animatic", "from animatic"} & set(
        re.findall(r"^\s*((?:from|import) \w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    )
    if file.relative_to(ADDON).parts[0] in ("shot", "link"):
        assert not parts & {"bpy", "bmesh", "gpu", "mathutils", "bpy_extras"}


def test_the_wheel_carries_every_package():
    root = ADDON.parent
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    listed = set(re.findall(r'^    "(animatic[\w.]*)",$', project, re.MULTILINE))
    sides = ("blender_addon", "engine", "server")
    inits = [init for side in sides for init in (root / side).rglob("__init__.py")]
    found = {".".join(("animatic", *init.parent.relative_to(root).parts)) for init in inits}
    assert listed == found | {"animatic"}
