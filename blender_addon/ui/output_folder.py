"""Where a take goes: a pattern becomes the next free numbered folder. No bpy."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from ..errors import AnimaticError

DEFAULT_PATTERN = "//animatic/{file}"
_FORBIDDEN = '<>:"/\\|?*'


def next_folder(
    pattern: str, base: Path, *, file: str, scene: str, taken: Collection[Path] = ()
) -> Path:
    """Return a folder that does not exist yet: ``pattern`` filled in, and ``_001`` or later.

    ``//`` and relative patterns are under ``base`` (the folder of the .blend). ``file`` and
    ``scene`` are names as people type them; what no file system takes is replaced by ``_``.
    Folders that are ``taken``, though not made yet, are passed over. Raises AnimaticError when the
    pattern has another ``{word}`` in it.
    """
    stem = _stem(pattern, base, file, scene)
    number = 1
    while (folder := stem.with_name(f"{stem.name}_{number:03}")) in taken or folder.exists():
        number += 1
    return folder


def run_folders(pattern: str, base: Path, *, file: str, scene: str) -> list[Path]:
    """Return the folders that ``next_folder`` has given out and that hold a run, in order."""
    stem = _stem(pattern, base, file, scene)
    numbered = re.compile(re.escape(stem.name) + r"_(\d{3,})")
    found = [
        (int(match[1]), request.parent)
        for request in stem.parent.glob("*/request.json")
        if (match := numbered.fullmatch(request.parent.name))
    ]
    return [folder for _, folder in sorted(found)]


def is_one_files(pattern: str) -> bool:
    """Whether folders of ``pattern`` lie beside one saved file and bear its name: no other's do."""
    filled = (pattern or DEFAULT_PATTERN).removeprefix("//")
    place = Path(os.path.expanduser(filled))
    return "{file}" in filled and not place.is_absolute() and ".." not in place.parts


def _stem(pattern: str, base: Path, file: str, scene: str) -> Path:
    names = {"file": _clean(file), "scene": _clean(scene)}
    try:
        filled = (pattern or DEFAULT_PATTERN).removeprefix("//").format(**names)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise AnimaticError(
            f"The Takes Folder {pattern!r} cannot be filled in: it may contain {{file}} and "
            "{scene} and no other braces. Change it in the extension's preferences."
        ) from error
    return base / os.path.expanduser(filled)


def _clean(name: str) -> str:
    kept = "".join("_" if sign in _FORBIDDEN or ord(sign) < 32 else sign for sign in name)
    return kept.strip(" .") or "untitled"
