"""Opens a .blend file, or says in a sentence why it cannot be opened."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from pathlib import Path

import bpy

from .errors import SceneError

_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b"
# Up to 4.5: pointer size, byte order, "405". From 5.0: header size, format, "v0500".
_HEADER = re.compile(rb"BLENDER(?:[_-][vV](\d)(\d\d)|\d\d-\d\d[vV](\d\d)(\d\d))")


def open_blend(path: Path, enable_autoexec: bool = False) -> list[str]:
    """Open ``path`` in this process; return warnings (missing libraries, scripts not run).

    The file's own Python runs only with ``enable_autoexec``. Raises SceneError when the file is
    missing, no .blend, damaged, or saved by a newer Blender than this one.
    """
    version = read_version(path)
    if version is not None:
        _refuse_newer(path, version)
    try:
        bpy.ops.wm.open_mainfile(
            filepath=str(path),
            load_ui=True,
            use_scripts=enable_autoexec,
            display_file_selector=False,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).removeprefix("Error:").split())
        raise SceneError(
            f"Blender {bpy.app.version_string} cannot open {path.name}: {reason} "
            "Open it in the Blender that saved it and save it again, or name that Blender "
            "with --blender PATH."
        ) from error
    _refuse_newer(path, tuple(bpy.data.version)[:2])
    return _missing_libraries() + _blocked_scripts()


def read_version(path: Path) -> tuple[int, int] | None:
    """Return the (major, minor) of the Blender that saved ``path``; None where zstd hides it.

    Raises SceneError when the file cannot be read or is no .blend.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(_GZIP):
            with gzip.open(path, "rb") as file:
                start = file.read(64)
    except (OSError, EOFError, zlib.error) as error:
        raise SceneError(f"{path} cannot be read: {error}.") from error
    if start.startswith(_ZSTD):
        return None
    match = _HEADER.match(start)
    if match is None:
        raise SceneError(f"{path.name} is not a .blend file (or it is damaged at its start).")
    major, minor = (part for part in match.groups() if part is not None)
    return int(major), int(minor)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of the file at ``path`` in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_newer(path: Path, version: tuple[int, int]) -> None:
    if version > bpy.app.version[:2]:
        theirs, ours = (".".join(map(str, pair)) for pair in (version, bpy.app.version[:2]))
        raise SceneError(
            f"{path.name} was saved by Blender {theirs}; this is {ours}: "
            "name a newer Blender with --blender PATH."
        )


def _missing_libraries() -> list[str]:
    missing = sorted(
        library.filepath
        for library in bpy.data.libraries
        # Also that of a library in a library is relative to the open file.
        if library.packed_file is None and not Path(bpy.path.abspath(library.filepath)).is_file()
    )
    if not missing:
        return []
    return [
        f"Linked files are missing, and what they hold with them: {', '.join(missing)}. "
        "Repair the paths (File > External Data > Find Missing Files) if the shot needs them."
    ]


def _blocked_scripts() -> list[str]:
    if not bpy.app.autoexec_fail:
        return []
    return [
        "The file holds Python scripts or drivers that were not run "
        f"({bpy.app.autoexec_fail_message}): if you trust the file, use --enable-autoexec."
    ]
