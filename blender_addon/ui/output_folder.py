"""Where takes go: a pattern becomes a numbered folder. No bpy."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import AnimaticError
from ..shot.take_folder import NUMBER

DEFAULT_PATTERN = "//animatic/{file}"
_FORBIDDEN = '<>:"/\\|?*'


def numbered_folder(pattern: str, base: Path, *, file: str, scene: str) -> Path:
    """Return ``pattern`` filled in, with the sign for a number that OutputFolder gives to a run.

    ``//`` and relative patterns are under ``base`` (the folder of the .blend). ``file`` and
    ``scene`` are names as people type them; what no file system takes is replaced by ``_``.
    Raises AnimaticError when the pattern has another ``{word}`` in it.
    """
    stem = _stem(pattern, base, file, scene)
    return stem.with_name(stem.name + NUMBER)


def run_folders(pattern: str, base: Path, *, file: str, scene: str) -> list[Path]:
    """Return the folders of ``numbered_folder`` that hold a run, in order.

    One that ``animatic generate`` has made again from such a run (``_004-2``) is among them.
    """
    stem = _stem(pattern, base, file, scene)
    numbered = re.compile(re.escape(stem.name) + r"_(\d{3,})(?:-(\d+))?")
    found = [
        (int(match[1]), int(match[2] or 1), request.parent)
        for request in stem.parent.glob("*/request.json")
        if (match := numbered.fullmatch(request.parent.name))
    ]
    return [folder for *_, folder in sorted(found)]


def is_one_files(pattern: str) -> bool:
    """Whether folders of ``pattern`` lie beside one file and bear its name: no other's do."""
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
