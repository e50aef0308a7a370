"""PNG files with numpy and zlib: Blender's Python has no picture library to rely on.

After the PNG specification, third edition (W3C 2025): non-interlaced pictures of 8 or 16 bits a
channel, no palette.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import ShotError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Colour type of the header for the number of channels, and back.
_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_CHANNELS = {kind: channels for channels, kind in _TYPES.items()}
_UP = 2
_MAX_PIXELS = 1 << 28

Picture = NDArray[np.uint8] | NDArray[np.uint16]


def write_png(path: Path | str, array: Picture) -> None:
    """Write ``array``, uint8 or uint16, [H, W] gray or [H, W, 3 or 4] RGB(A), as it is.

    No colour space is written: numbers go in and the same numbers come out. Raises ValueError for
    another shape or type, OSError when the file cannot be written.
    """
    channels = 1 if array.ndim == 2 else array.shape[-1]
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or channels == 2:
        raise ValueError(f"cannot write {array.dtype} {array.shape} as PNG")
    if array.size == 0 or channels not in _TYPES:
        raise ValueError(f"cannot write {array.dtype} {array.shape} as PNG")
    height, width = array.shape[:2]
    bits = array.dtype.itemsize * 8
    rows = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(">"))
    rows = rows.view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    # Differences to the row above pack well in guides, which are smooth or empty.
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, bits, _TYPES[channels], 0, 0, 0)
    Path(path).write_bytes(
        SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def read_png(path: Path | str) -> Picture:
    """Return a PNG's numbers, uint8 or uint16, [H, W] for gray, else [H, W, channels].

    Raises ShotError that names the file when it is damaged or of a kind not read here (palette,
    interlaced, under 8 bits), OSError when it cannot be opened.
    """
    content = Path(path).read_bytes()
    try:
        return _decode(content)
    except (struct.error, zlib.error, IndexError, ValueError) as error:
        raise ShotError(
            f"{path} cannot be read as a PNG ({error}): write it again, with 8 or 16 bits, "
            "without palette and interlacing."
        ) from error


def _decode(content: bytes) -> Picture:
    if not content.startswith(SIGNATURE):
        raise ValueError("no PNG signature")
    packed = bytearray()
    header = None
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, position)
        data = content[position + 8 : position + 8 + length]
        (crc,) = struct.unpack_from(">I", content, position + 8 + length)
        if zlib.crc32(kind + data) != crc:
            raise ValueError(f"checksum of {kind!r} is wrong")
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", data)
        elif kind == b"IDAT":
            packed += data
        position += length + 12
    if header is None:
        raise ValueError("no header")
    width, height, bits, colour, _, _, interlaced = header
    if bits not in (8, 16) or colour not in _CHANNELS or interlaced:
        raise ValueError(f"{bits} bits, colour type {colour}, interlacing {interlaced}")
    if not 0 < width * height <= _MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels")
    channels = _CHANNELS[colour]
    step = channels * bits // 8
    wanted = height * (width * step + 1)
    # Bounded, so that a small file cannot unpack to fill the memory.
    raw = zlib.decompressobj().decompress(bytes(packed), wanted)
    if len(raw) != wanted:
        raise ValueError("pixels are missing")
    rows = _unfilter(np.frombuffer(raw, np.uint8).reshape(height, -1), step)
    pixels = rows.view(">u2").astype(np.uint16) if bits == 16 else rows
    return pixels.reshape((height, width) if channels == 1 else (height, width, channels))


def _unfilter(lines: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Undo the row filters (section 9 of the specification); ``step`` is the bytes of a pixel."""
    rows = np.empty((lines.shape[0], lines.shape[1] - 1), np.uint8)
    above = np.zeros(rows.shape[1], np.uint8)
    for index, line in enumerate(lines):
        row, method = line[1:], line[0]
        if method == 1:
            row = np.cumsum(row.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
        elif method == _UP:
            row = row + above
        elif method in (3, 4):
            row = _predicted(row.tolist(), above.tolist(), step, paeth=method == 4)
        elif method != 0:
            raise ValueError(f"row filter {method}")
        rows[index] = above = row
    return rows


def _predicted(row: list[int], above: list[int], step: int, paeth: bool) -> NDArray[np.uint8]:
    # Each byte needs the one before it, so this cannot be done by numpy at once.
    out = [0] * step + row
    corner = [0] * step + above
    for i, up in enumerate(above):
        left, diagonal = out[i], corner[i]
        if paeth:
            to_left, to_up = abs(up - diagonal), abs(left - diagonal)
            to_diagonal = abs(left + up - 2 * diagonal)
            if to_left <= to_up and to_left <= to_diagonal:
                guess = left
            else:
                guess = up if to_up <= to_diagonal else diagonal
        else:
            guess = (left + up) // 2
        out[i + step] = (out[i + step] + guess) & 255
    return np.array(out[step:], np.uint8)
