"""Pictures between clip frames: exact motion, hidden sides, and the files of a take."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.in_between import (
    blend,
    encode_motion,
    enlarged,
    sample,
    seen_in,
)
from animatic.blender_addon.shot.in_between_files import make_frames, needs_flow
from animatic.blender_addon.shot.in_between_flow import flow_motions
from animatic.blender_addon.shot.motion_files import MOTION, motion_name
from animatic.blender_addon.shot.png import read_png, write_png
from animatic.blender_addon.shot.timing import ClipTiming
from hypothesis import given, settings
from hypothesis import strategies as st

H, W = 24, 32
WALL = np.full((H, W), 5.0)


def noise(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)


def smooth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    waves = [np.sin(x / 3 + k) * np.cos(y / 4 - k) for k in range(3)]
    return np.stack(waves, axis=-1) * 100 + 128


def moved(dx: float, dy: float) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.indices((H, W), dtype=float)
    return columns + dx, rows + dy


@given(dx=st.integers(-9, 9), dy=st.integers(-9, 9), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_wall_moved_by_whole_pixels_keeps_every_number(dx, dy, seed):
    picture = noise(seed)
    motion = encode_motion(*moved(dx, dy), WALL, seen_in(WALL))
    colour, trust = sample(picture, motion)
    rows, columns = np.indices((H, W))
    inside = (rows + dy >= 0) & (rows + dy < H) & (columns + dx >= 0) & (columns + dx < W)
    assert np.array_equal(trust > 0, inside)
    assert np.array_equal(colour[inside], picture[(rows + dy) % H, (columns + dx) % W][inside])


@given(dx=st.floats(-4, 4), dy=st.floats(-4, 4))
@settings(max_examples=25, deadline=None)
def test_a_part_of_a_pixel_is_a_part_of_a_pixel(dx, dy):
    x, y = moved(0, 0)
    picture = np.rint(smooth(x, y)).astype(np.uint8)
    motion = encode_motion(*moved(dx, dy), WALL, seen_in(WALL))
    colour, _ = sample(picture, motion)
    inner = (slice(7, -7), slice(7, -7))
    assert np.abs(colour - smooth(x + dx, y + dy))[inner].max() < 2.5


def test_what_stands_still_is_the_same_to_the_bit():
    rows, columns = np.indices((H, W))
    z = np.where(columns < 9, np.inf, 4 + rows / 7)  # sky, and a slanted floor
    z[8:15, 12:20] = 2.0
    motion = encode_motion(*moved(0, 0), z, seen_in(z))
    picture = noise()
    for share in (0.2, 0.5):
        made = blend([(picture, motion, 1 - share), (picture, motion, share)])
        assert np.array_equal(made, picture)


def test_what_one_clip_frame_hides_comes_from_the_one_that_saw_it():
    """A near post goes from column 8 to 16 in front of a wall; between, it stands at 12."""

    def scene(post: int) -> tuple[np.ndarray, np.ndarray]:
        z, picture = WALL.copy(), noise(3)
        z[:, post : post + 4], picture[:, post : post + 4] = 2.0, 255
        return z, picture

    _, truth = scene(12)
    z, _ = scene(12)
    post = z == 2.0
    sides = []
    for place in (8, 16):
        at, picture = scene(place)
        motion = encode_motion(*moved(0, 0), z, seen_in(at))
        there = encode_motion(*moved(place - 12, 0), z, seen_in(at))
        motion[post] = there[post]
        hidden = ~post & (at == 2.0)
        assert not motion[hidden][:, 3].any()  # not trusted at all
        assert motion[~hidden][:, 3].all()
        sides.append((picture, motion, 0.5))
    assert np.array_equal(blend(sides), truth)


def test_a_steep_floor_is_one_surface_and_never_the_sky():
    rows, _ = np.indices((H, W), dtype=float)
    z = np.where(rows > 8, 40 / (rows - 8 + 1e-9), np.inf)  # the horizon is at row 8
    motion = encode_motion(*moved(0.5, 0.0), z, seen_in(z))
    picture = np.where(rows[..., None] > 8, 200, 10).astype(np.uint8).repeat(3, axis=-1)
    colour, trust = sample(picture, motion)
    assert (trust[:, :-1] > 0).all()
    assert np.abs(colour[:, :-1] - picture[:, :-1]).max() <= 1


def test_holes_are_filled_from_around_and_nothing_at_all_is_told():
    motion = encode_motion(*moved(0, 0), WALL, seen_in(WALL))
    grey = np.full((H, W, 3), 77, np.uint8)
    motion[5:9, 5:9] = 0
    assert (blend([(grey, motion, 1.0)]) == 77).all()
    assert blend([(grey, np.zeros_like(motion), 1.0)]) is None


@pytest.mark.parametrize("scale", [2, 1.5])
def test_pictures_made_larger_move_along_the_same_motion(scale):
    z = WALL.copy()
    z[6:18, 10:22] = 2.0
    x, y = moved(0, 0)
    x[z == 2.0] += 3.0  # the square moves, the wall stands still
    there = np.full_like(z, 5.0)
    there[6:18, 13:25] = 2.0
    motion = encode_motion(x, y, z, seen_in(there))
    height, width = int(H * scale), int(W * scale)
    rows, columns = (np.indices((height, width)) + 0.5) / scale - 0.5
    square = (np.rint(rows) >= 6) & (np.rint(rows) < 18) & (np.rint(columns) >= 13)
    square &= np.rint(columns) < 25
    picture = np.where(square[..., None], 220, smooth(columns, rows)).astype(np.uint8)
    larger = enlarged(motion, height, width)
    colour, trust = sample(picture, larger)
    expected = (np.rint(rows) >= 6) & (np.rint(rows) < 18) & (np.rint(columns) >= 10)
    expected &= np.rint(columns) < 22
    assert np.abs(colour[expected & (trust > 0)] - 220).max() <= 1
    outside = ~expected & (trust > 0)
    assert np.abs(colour[outside] - smooth(columns, rows)[outside]).max() < 3
    assert enlarged(motion, H, W) is motion


def take(folder: Path, timing: ClipTiming) -> dict:
    """A take of random frames, and a motion of standing still, beside a shot object."""
    (folder / "frames").mkdir(parents=True)
    for k in range(timing.frames):
        write_png(folder / "frames" / f"{k + 1:04d}.png", noise(k))
    (folder / "guides" / MOTION).mkdir(parents=True)
    motion = encode_motion(*moved(0, 0), WALL, seen_in(WALL))
    for frame, before, _ in timing.between():
        for side in ("before", "after")[: 1 + (before + 1 < timing.frames)]:
            write_png(folder / "guides" / MOTION / motion_name(frame - timing.start, side), motion)
    return {
        "start": timing.start,
        "end": timing.end,
        "scene_fps": str(timing.scene_fps),
        "clip": {"frames": timing.frames, "fps": str(timing.clip_fps)},
        "in_between": True,
    }


@pytest.mark.parametrize(
    "timing",
    [
        ClipTiming(5, 16, Fraction(24), 4, Fraction(8)),
        ClipTiming(1, 10, Fraction(24000, 1001), 4, Fraction(24000, 1001) * 4 / 10),
    ],
)
def test_one_file_per_scene_frame_and_clip_frames_to_the_byte(tmp_path, timing):
    shot = take(tmp_path, timing)
    made = make_frames(shot, tmp_path / "guides", tmp_path, lambda done, of: None)
    assert made.name == ("frames-24" if timing.scene_fps == 24 else "frames-23.976")
    files = sorted(made.iterdir())
    assert len(files) == timing.end - timing.start + 1
    times = {timing.scene_time(k): k for k in range(timing.frames)}
    for frame, file in zip(range(timing.start, timing.end + 1), files, strict=True):
        content = [path.read_bytes() for path in sorted((tmp_path / "frames").iterdir())]
        if Fraction(frame) in times:
            assert file.read_bytes() == content[times[Fraction(frame)]]
        elif frame < timing.scene_time(timing.frames - 1):
            assert file.read_bytes() not in content


def still_flow(dx: float) -> np.ndarray:
    """Every pixel goes ``dx`` pixels to the right, and back."""
    flow = np.full((H, W, 4), 32768, np.uint16)
    flow[..., 0] += np.uint16(32 * dx)
    flow[..., 2] -= np.uint16(32 * dx)
    return flow


def test_optical_flow_carries_a_point_the_way_that_is_left():
    earlier, later = noise(3), np.roll(noise(3), 6, axis=1)
    for share in (1 / 3, 0.5):
        motions = flow_motions(still_flow(6), share)
        made = blend([(earlier, motions[0], 1 - share), (later, motions[1], share)])
        expected = np.roll(earlier, round(6 * share), axis=1)
        assert np.array_equal(made[:, 6:-6], expected[:, 6:-6])
    # What the later frame knows no way back to is the earlier one's alone.
    flow = still_flow(6)
    flow[2:22, 6:30, 2] = 32768
    before, after = (motion[12, 16, 3] / 65535 for motion in flow_motions(flow, 0.5))
    assert before > 0.8
    assert after < 0.3


def test_optical_flow_stands_in_where_the_scene_tells_nothing(tmp_path):
    shot = take(tmp_path, ClipTiming(1, 6, Fraction(24), 2, Fraction(8)))
    guides, flow = tmp_path / "guides", tmp_path / "flow"
    assert not needs_flow(shot, guides)
    assert needs_flow({**shot, "optical_flow": True}, guides)
    flow.mkdir()
    write_png(flow / "0001.png", still_flow(6))
    write_png(tmp_path / "frames" / "0001.png", noise(3))
    write_png(tmp_path / "frames" / "0002.png", np.roll(noise(3), 6, axis=1))
    hole = (slice(4, 20), slice(8, 24))
    for path in (guides / MOTION).iterdir():
        motion = read_png(path)
        motion[hole] = 0
        write_png(path, motion)
    expected = np.roll(noise(3), 2, axis=1)  # a third of the way
    files = make_frames(shot, guides, tmp_path, lambda done, of: None, flow)
    beside = read_png(files / "0002.png")
    assert np.array_equal(beside[hole], expected[hole])
    assert not np.array_equal(beside[:4], expected[:4])  # there the scene says: it stands still
    shutil.rmtree(files)
    shutil.rmtree(guides / MOTION)
    assert needs_flow(shot, guides)
    files = make_frames(shot, guides, tmp_path, lambda done, of: None, flow)
    assert np.array_equal(read_png(files / "0002.png")[:, 6:-6], expected[:, 6:-6])
    assert (files / "0005.png").read_bytes() == (files / "0004.png").read_bytes()  # nothing after
    shutil.rmtree(files)
    files = make_frames(shot, guides, tmp_path, lambda done, of: None)
    assert (files / "0002.png").read_bytes() == (files / "0001.png").read_bytes()  # no flow: held


def test_missing_motion_is_a_sentence(tmp_path):
    shot = take(tmp_path, ClipTiming(1, 6, Fraction(24), 2, Fraction(8)))
    (tmp_path / "guides" / MOTION / motion_name(1, "after")).unlink()
    with pytest.raises(ShotError, match=r"0002_after\.png is missing: render the scene again"):
        make_frames(shot, tmp_path / "guides", tmp_path, lambda done, of: None)
    assert not (tmp_path / "frames-24").exists()
