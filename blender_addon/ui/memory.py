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
# Stable Diffusion 1.5's, for checkpoints whose folder does not say it.
_USUAL_CHANNELS = 320
_NUMBERS = 50
_LATENT = 8  # pixels of a side to one of the latents

LIBRARIES = 400_000_000
"""Bytes of main memory that the engine's process takes before it has a model."""


def sampling_memory(
    folder: Path, frames: int, pixels: float, halves: int, bytes_per_number: int
) -> int:
    """Bytes that sampling takes beside the weights: ``frames`` frames of ``pixels`` pixels at once.

    ``halves`` is 2 where guidance runs the model on two clips at once, else 1. Half precision takes
    half as much: ``bytes_per_number`` as in ``model_memory``.

    It is a fit: 50 numbers for each channel of the UNet's first level, each latent pixel and frame.
    The peak resident memory of one step in float32 on a CPU with blockout-mini (64 channels, depth,
    guidance), over the 426 MiB of process and weights, was 132 MiB at 128x128 with 16 frames, 449
    at 256x256 with 16 and 223 at 256x256 with 8; the fit says 100, 400 and 200, and the rest, 26
    MiB or a little more, does not grow and is in ``LIBRARIES``. Attention grows no faster, because
    it is never held whole. Decoding stayed below it; where memory is short there, it goes frame by
    frame and tile by tile. On graphics cards and larger models it is carried over, not measured.
    """
    try:
        card = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        channels = int(card["block_out_channels"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        channels = _USUAL_CHANNELS
    latents = pixels / _LATENT**2 * frames * halves
    return round(_NUMBERS * channels * latents) * bytes_per_number


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
