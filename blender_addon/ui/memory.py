"""How much memory a model takes, and how much there is. No bpy."""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from pathlib import Path
from typing import Any

from ..link.catalogue import CARD

_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pth", ".pt")
_LARGEST_HEADER = 100_000_000


def model_memory(folder: Path, guide: str, bytes_per_number: int) -> int:
    """Bytes that the weights of a checkpoint take in memory, with the encoder of one ``guide``.

    ``bytes_per_number``: 4 on a processor, 2 on a graphics card. 0 where nothing is known, as of a
    model that is not on this machine.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        others = _others(card, guide)
        return sum(
            _weights(file, bytes_per_number)
            for file in folder.rglob("*")
            if file.suffix in _WEIGHTS and not others & set(file.relative_to(folder).parts)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return 0


def _others(card: dict[str, Any], guide: str) -> set[str]:
    """Folders and files of a checkpoint that this guide does without."""
    encoders = {**card["guides"]}
    own = encoders.pop(guide, "")
    unused = {*encoders.values(), *card.get("image_guides", {}).values()} - {own}
    unused |= set(card.get("image_prompt", {}).values())
    files = card.get("files", {})
    return unused | {files[name] for name in unused if name in files}


def _weights(file: Path, bytes_per_number: int) -> int:
    if file.suffix != ".safetensors":
        return file.stat().st_size
    # https://github.com/huggingface/safetensors: the length of a JSON header, then the header.
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(min(length, _LARGEST_HEADER)))
    numbers = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for side in tensor["shape"]:
                size *= side
            numbers += size
    return numbers * bytes_per_number


class _WindowsMemory(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        *(
            (name, ctypes.c_ulonglong)
            for name in ("total", "free", "page_total", "page_free", "own", "own_free", "extended")
        ),
    ]


def free_memory() -> int:
    """Bytes of main memory that programs can still take; 0 where the system does not say."""
    if sys.platform == "win32":
        status = _WindowsMemory(length=ctypes.sizeof(_WindowsMemory))
        done = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.free) if done else 0
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    free = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(free[0]) * 1024 if free else 0
