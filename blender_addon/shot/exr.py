"""Reads the OpenEXR files that Blender's renders are written to; numpy and zlib only.

After "OpenEXR File Layout" (openexr.com). Scanline files of one part or several (Blender 5.0 and
later write several), not compressed or by ZIP or ZIPS.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import ShotError

MAGIC = b"\x76\x2f\x31\x01"
_TILED, _DEEP, _SEVERAL_PARTS = 0x200, 0x800, 0x1000
_PIXEL_TYPES: dict[int, np.dtype] = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
# Rows in a chunk by compression: none, ZIPS, ZIP.
_ROWS = {0: 1, 2: 1, 3: 16}
_MAX_PIXELS = 1 << 28


@dataclass(frozen=True)
class _Part:
    names: list[str]
    types: list[np.dtype]
    compressed: bool
    rows: int
    top: int
    width: int
    height: int

    @property
    def chunks(self) -> int:
        return -(-self.height // self.rows)


def read_exr(path: Path | str) -> dict[str, NDArray[np.float32]]:
    """Return every channel of an EXR as float32 [H, W], row 0 on top, by its full name.

    Names are as Blender gives them, ``ViewLayer.Depth.Z``, in files of one part and of several
    alike. The arrays cover the data window. Raises ShotError that names the file when it is
    damaged, tiled, deep, subsampled or compressed in another way; OSError when it cannot be opened.
    """
    content = Path(path).read_bytes()
    try:
        return _decode(content)
    except (struct.error, zlib.error, LookupError, ValueError, OverflowError) as error:
        raise ShotError(
            f"{path} cannot be read as an OpenEXR file ({error}): write it again as scanlines with "
            "the codec None or ZIP."
        ) from error


def _decode(content: bytes) -> dict[str, NDArray[np.float32]]:
    if not content.startswith(MAGIC):
        raise ValueError("no EXR signature")
    (version,) = struct.unpack_from("<I", content, 4)
    if version & (_TILED | _DEEP):
        raise ValueError("it is tiled or deep")
    several = bool(version & _SEVERAL_PARTS)
    parts, position = _headers(content, several)
    channels: dict[str, NDArray[np.float32]] = {}
    for part in parts:
        offsets = struct.unpack_from(f"<{part.chunks}Q", content, position)
        position += 8 * part.chunks
        channels.update(_pixels(content, part, offsets, several))
    return channels


def _text(content: bytes, position: int) -> tuple[str, int]:
    end = content.index(b"\0", position)
    return content[position:end].decode("utf-8"), end + 1


def _headers(content: bytes, several: bool) -> tuple[list[_Part], int]:
    """Return the parts and where their offset tables begin."""
    parts, position = [], 8
    while True:
        attributes: dict[str, bytes] = {}
        while content[position] != 0:
            name, position = _text(content, position)
            _, position = _text(content, position)
            (size,) = struct.unpack_from("<i", content, position)
            if size < 0:
                raise ValueError(f"attribute {name} has no size")
            attributes[name] = content[position + 4 : position + 4 + size]
            position += 4 + size
        position += 1
        parts.append(_part(attributes, several))
        if not several:
            return parts, position
        if content[position] == 0:
            return parts, position + 1


def _part(attributes: dict[str, bytes], several: bool) -> _Part:
    compression = attributes["compression"][0]
    if compression not in _ROWS:
        raise ValueError(f"compression {compression}")
    left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    if width < 1 or height < 1 or width * height > _MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels")
    prefix = attributes.get("name", b"").decode("utf-8") if several else ""
    names: list[str] = []
    types: list[np.dtype] = []
    table, position = attributes["channels"], 0
    while table[position] != 0:
        name, position = _text(table, position)
        kind, _, x_step, y_step = struct.unpack_from("<iIii", table, position)
        if (x_step, y_step) != (1, 1):
            raise ValueError(f"channel {name} is subsampled")
        position += 16
        # Blender names a part ViewLayer.Depth and its channel ViewLayer.Depth.Z or just Z.
        names.append(f"{prefix}.{name}" if prefix and "." not in name else name)
        types.append(_PIXEL_TYPES[kind])
    return _Part(names, types, compression != 0, _ROWS[compression], top, width, height)


def _pixels(
    content: bytes, part: _Part, offsets: tuple[int, ...], several: bool
) -> dict[str, NDArray[np.float32]]:
    line = part.width * sum(kind.itemsize for kind in part.types)
    raw = np.empty((part.height, line), np.uint8)
    filled = np.zeros(part.height, bool)
    for offset in offsets:
        # In a file of several parts each chunk begins with its part's number.
        begin = offset + 4 if several else offset
        y, size = struct.unpack_from("<ii", content, begin)
        row = y - part.top
        if not 0 <= row < part.height or size < 0:
            raise ValueError("a chunk lies outside the picture")
        rows = min(part.rows, part.height - row)
        data = content[begin + 8 : begin + 8 + size]
        # A chunk that compression would not shrink is stored as it is.
        packed = part.compressed and size < rows * line
        numbers = _unzip(data, rows * line) if packed else np.frombuffer(data, np.uint8)
        raw[row : row + rows] = numbers.reshape(rows, line)
        filled[row : row + rows] = True
    if not filled.all():
        raise ValueError("rows are missing")
    channels, begin = {}, 0
    for name, kind in zip(part.names, part.types, strict=True):
        end = begin + kind.itemsize * part.width
        channels[name] = np.ascontiguousarray(raw[:, begin:end]).view(kind).astype(np.float32)
        begin = end
    return channels


def _unzip(data: bytes, size: int) -> NDArray[np.uint8]:
    """Undo ZIP: inflate, sum up the differences, and weave the two halves together again."""
    packed = np.frombuffer(zlib.decompressobj().decompress(data, size), np.uint8)
    if packed.size != size:
        raise ValueError("pixels are missing")
    # Each byte is stored as its difference to the one before, plus 128, but for the first.
    steps = packed - np.uint8(128)
    steps[0] = packed[0]
    summed = np.cumsum(steps, dtype=np.uint8)
    woven = np.empty_like(summed)
    half = (size + 1) // 2
    woven[0::2], woven[1::2] = summed[:half], summed[half:]
    return woven
