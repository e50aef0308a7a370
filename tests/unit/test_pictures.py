"""PNG, EXR and contact sheets against known-good readers and a writer after the specification."""

from __future__ import annotations

import contextlib
import itertools
import struct
import zlib

import numpy as np
import pytest
from animatic.blender_addon.shot.contact_sheet import BACKGROUND, GAP, contact_sheet
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.exr import read_exr
from animatic.blender_addon.shot.png import read_png, write_png
from hypothesis import given
from hypothesis import strategies as st

RANDOM = np.random.default_rng(1)


def noise(dtype: type, *shape: int) -> np.ndarray:
    return RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1, 4), (64, 48)])
def test_png_round_trip(tmp_path, dtype, shape):
    picture = noise(dtype, *shape)
    write_png(tmp_path / "a.png", picture)
    again = read_png(tmp_path / "a.png")
    assert again.dtype == dtype
    assert np.array_equal(again, picture)


def test_png_agrees_with_pillow(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for picture in (noise(np.uint8, 9, 6, 3), noise(np.uint8, 9, 6, 4), noise(np.uint16, 9, 6)):
        write_png(tmp_path / "a.png", picture)
        with image.open(tmp_path / "a.png") as opened:
            opened.load()
            assert np.array_equal(np.asarray(opened), picture)
    # Pillow chooses among all five row filters; a smooth picture gets the predicting ones.
    y, x = np.mgrid[0:60, 0:40]
    smooth = np.stack([x * 5 + y, 255 - y * 3, (x * y) // 10], axis=2).astype(np.uint8)
    for picture in (smooth, smooth[..., 0], np.dstack([smooth, smooth[..., 0]])):
        image.fromarray(picture).save(tmp_path / "b.png")
        assert np.array_equal(read_png(tmp_path / "b.png"), picture)


def png_with_filters(picture: np.ndarray) -> bytes:
    """``picture`` [H, W, 3] with filter 0 to 4 in turn, byte by byte after section 9."""
    rows = picture.reshape(picture.shape[0], -1).astype(int)
    lines = b""
    for y, row in enumerate(rows):
        above = rows[y - 1] if y else np.zeros_like(row)
        left, corner = (np.concatenate([[0] * 3, line[:-3]]) for line in (row, above))
        estimate = left + above - corner
        near = np.abs(estimate - [left, above, corner])
        paeth = np.choose(near.argmin(axis=0), [left, above, corner])
        guess = [0 * row, left, above, (left + above) // 2, paeth][y % 5]
        lines += bytes([y % 5]) + (row - guess).astype(np.uint8).tobytes()
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 8, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        out += struct.pack(">I", len(data)) + kind + data
        out += struct.pack(">I", zlib.crc32(kind + data))
    return out


def test_png_reads_all_row_filters(tmp_path):
    picture = noise(np.uint8, 10, 8, 3)
    (tmp_path / "a.png").write_bytes(png_with_filters(picture))
    assert np.array_equal(read_png(tmp_path / "a.png"), picture)


def test_damaged_pngs_are_named(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, noise(np.uint8, 20, 20))
    whole = path.read_bytes()
    for broken in (b"", whole[:40], whole[:60] + b"\0" + whole[61:], b"GIF89a" + whole):
        path.write_bytes(broken)
        with pytest.raises(ShotError, match=r"a\.png cannot be read as a PNG"):
            read_png(path)


KINDS = {"u4": 0, "f2": 1, "f4": 2}


def exr(parts: list[tuple[str, dict[str, np.ndarray]]], compression: int, top: int = 0) -> bytes:
    """An EXR of ``parts`` (name, channels in alphabetical order) after the file layout."""
    several = len(parts) > 1
    out = b"\x76\x2f\x31\x01" + struct.pack("<I", 2 | (0x1000 if several else 0))
    rows = {0: 1, 2: 1, 3: 16}[compression]
    bodies = []
    for number, (name, channels) in enumerate(parts):
        height, width = next(iter(channels.values())).shape
        table = b"".join(
            c.encode() + b"\0" + struct.pack("<iIii", KINDS[a.dtype.str[1:]], 0, 1, 1)
            for c, a in channels.items()
        )
        window = struct.pack("<4i", 0, top, width - 1, top + height - 1)
        for attribute, kind, value in (
            ("channels", "chlist", table + b"\0"),
            ("compression", "compression", bytes([compression])),
            ("dataWindow", "box2i", window),
            *([("name", "string", name.encode())] if several else []),
        ):
            out += attribute.encode() + b"\0" + kind.encode() + b"\0"
            out += struct.pack("<i", len(value)) + value
        out += b"\0"
        chunks = []
        for y in range(0, height, rows):
            raw = b"".join(
                a[row].tobytes()
                for row in range(y, min(y + rows, height))
                for a in channels.values()
            )
            packed = zipped(raw) if compression else raw
            data = packed if len(packed) < len(raw) else raw
            head = struct.pack("<i", number) if several else b""
            chunks.append(head + struct.pack("<ii", top + y, len(data)) + data)
        bodies.append(chunks)
    out += b"\0" if several else b""
    at = len(out) + 8 * sum(map(len, bodies))
    for chunk in (c for chunks in bodies for c in chunks):
        out += struct.pack("<Q", at)
        at += len(chunk)
    return out + b"".join(c for chunks in bodies for c in chunks)


def zipped(raw: bytes) -> bytes:
    halves = raw[0::2] + raw[1::2]
    steps = [halves[0]]
    steps += [(b - a + 128) & 255 for a, b in itertools.pairwise(halves)]
    return zlib.compress(bytes(steps))


def channels_of(height: int, width: int) -> dict[str, np.ndarray]:
    ramp = np.linspace(0, 100, height * width).reshape(height, width)
    return {
        "L.Combined.A": ramp.astype("<f2"),
        "L.Depth.Z": np.where(ramp > 50, 1e10, ramp).astype("<f4"),
        "L.Index.X": ramp.astype("<u4"),
    }


@pytest.mark.parametrize("compression", [0, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (16, 9), (37, 21)])
def test_exr_of_one_part_and_of_several(tmp_path, compression, size):
    channels = channels_of(*size)
    one, several = tmp_path / "one.exr", tmp_path / "several.exr"
    one.write_bytes(exr([("", channels)], compression, top=5))
    # Channel names both with and without the part's name.
    parts = [("L.Depth", {"Z": channels["L.Depth.Z"]}), ("L", dict(list(channels.items())[::2]))]
    several.write_bytes(exr(parts, compression))
    for path in (one, several):
        found = read_exr(path)
        assert set(found) == set(channels)
        for name, array in channels.items():
            assert found[name].dtype == np.float32
            assert np.array_equal(found[name], array.astype(np.float32))


def test_exr_kinds_that_are_not_read_are_named(tmp_path):
    path = tmp_path / "a.exr"
    whole = exr([("", channels_of(16, 9))], 3)
    piz = whole.replace(b"compression\0\1\0\0\0\3", b"compression\0\1\0\0\0\4")
    tiled = whole[:5] + b"\2" + whole[6:]
    for broken, word in ((piz, "compression 4"), (tiled, "tiled"), (b"", "signature")):
        path.write_bytes(broken)
        with pytest.raises(ShotError, match=rf"a\.exr cannot be read .*{word}.*codec None or ZIP"):
            read_exr(path)


@given(st.integers(4, 1200), st.integers(0, 255))
def test_a_damaged_exr_is_a_sentence_or_other_numbers(tmp_path_factory, position, byte):
    whole = bytearray(exr([("", channels_of(16, 9))], 3))
    whole[position % len(whole)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.exr"
    for content in (bytes(whole), bytes(whole[:position])):
        path.write_bytes(content)
        with contextlib.suppress(ShotError):
            read_exr(path)


def test_a_contact_sheet_holds_every_picture_where_it_belongs():
    gray, colour = noise(np.uint16, 20, 40), noise(np.uint8, 10, 30, 4)
    sheet = contact_sheet([("Depth 1", gray), ("at 2.5", colour), ("c", gray)], 2)
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    assert np.array_equal(sheet[GAP : GAP + 20, GAP : GAP + 40, 1], gray >> 8)
    right = 2 * GAP + 40
    assert np.array_equal(sheet[GAP : GAP + 10, right : right + 30], colour[..., :3])
    # The empty fourth place, and a label under the first.
    assert (sheet[-25:, right:] == BACKGROUND).all()
    assert (sheet[GAP + 20 : GAP + 30, GAP : GAP + 40] != BACKGROUND).any()


def test_a_label_reads_as_its_letters():
    sheet = contact_sheet([("i-1", np.zeros((8, 64), np.uint8))], 1)
    label = sheet[GAP + 10 : GAP + 17, GAP : GAP + 17, 0] != BACKGROUND
    drawn = ["".join("#" if ink else "." for ink in row) for row in label]
    assert drawn == [
        ".###..........#..",
        "..#..........##..",
        "..#...........#..",
        "..#...#####...#..",
        "..#...........#..",
        "..#...........#..",
        ".###.........###.",
    ]
