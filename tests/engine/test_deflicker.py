"""Frames steadied along motion: flicker goes; what moves, is hidden or was chosen stays."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.blender_addon.shot.in_between import encode_motion as blenders
from animatic.blender_addon.shot.in_between import seen_in
from animatic.blender_addon.shot.png import read_png, write_png
from animatic.engine.deflicker import deflicker, encode_motion
from animatic.engine.errors import EngineError
from animatic.engine.run import Engine

from .conftest import FRAMES, SIZE, Guides

MakeRequest = Callable[..., dict[str, Any]]
COUNT, H, W = 5, 48, 64
SPEED = (3, -1)  # pixels a frame


def textured(k: int) -> np.ndarray:
    """A smooth texture that has gone ``k`` frames."""
    rows, columns = np.indices((H, W), dtype=float)
    x, y = columns - SPEED[0] * k, rows - SPEED[1] * k
    waves = [np.sin(x / 7 + c) * np.cos(y / 6 - c) for c in range(3)]
    return (128 + 60 * np.stack(waves, axis=-1)).round().astype(np.uint8)


def flickering() -> tuple[np.ndarray, np.ndarray]:
    truth = np.stack([textured(k) for k in range(COUNT)])
    noise = np.random.default_rng(0).normal(0, 8, truth.shape)
    return truth, (truth + noise).clip(0, 255).astype(np.uint8)


def request_along(
    folder: Path, speed: tuple[float, float] = SPEED, trust: float = 1.0
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Motion between all frames beside each other, and its files."""
    motions, files = [], {}
    for k in range(COUNT):
        for other in (k - 1, k + 1):
            if not 0 <= other < COUNT:
                continue
            way = torch.tensor(speed)[:, None, None] * (other - k) * torch.ones(2, H, W)
            content = encode_motion(way, torch.full((H, W), trust))
            sha256 = hashlib.sha256(content).hexdigest()
            files[sha256] = folder / f"{sha256}.png"
            files[sha256].write_bytes(content)
            motions.append({"clip_frame": k, "to": other, "sha256": sha256})
    return {"deflicker": motions, "sampling": {}}, files


def steadied(frames: np.ndarray, request: dict[str, Any], files: dict[str, Path]) -> np.ndarray:
    return deflicker(frames, request, files, lambda done: None)


def error(frames: np.ndarray, truth: np.ndarray) -> float:
    inner = (slice(None), slice(6, -6), slice(6, -6))
    return float(np.abs(frames[inner].astype(float) - truth[inner]).mean())


def test_flicker_goes_along_the_motion_and_not_across_it(tmp_path: Path) -> None:
    truth, frames = flickering()
    along = steadied(frames, *request_along(tmp_path))
    assert error(along, truth) < 0.72 * error(frames, truth)  # of three, 0.58; of two at the ends
    still = steadied(frames, *request_along(tmp_path, (0, 0)))
    assert error(still, truth) > error(along, truth)
    # Where the picture is steady it is not made softer.
    assert error(steadied(truth, *request_along(tmp_path)), truth) < 0.5


def test_what_is_not_trusted_or_differs_much_stays(tmp_path: Path) -> None:
    _, frames = flickering()
    assert np.array_equal(steadied(frames, *request_along(tmp_path, trust=0.0)), frames)
    frames[2] = 255 - frames[2] // 4  # lightning
    made = steadied(frames, *request_along(tmp_path))
    assert np.abs(made[2].astype(int) - frames[2]).max() <= 2


def test_a_chosen_first_picture_stays_to_the_bit(tmp_path: Path) -> None:
    _, frames = flickering()
    request, files = request_along(tmp_path)
    request["sampling"] = {"first_frame": {"generated": True, "share": True}}
    made = steadied(frames, request, files)
    assert np.array_equal(made[0], frames[0])
    assert not np.array_equal(made[1], frames[1])


def test_motion_is_read_as_blenders_side_writes_it_and_enlarged(tmp_path: Path) -> None:
    """One format, written on both sides; a picture twice as large goes twice as far."""
    way = torch.tensor([5.25, -2.5])[:, None, None] * torch.ones(2, H, W)
    rows, columns = np.indices((H, W), dtype=float)
    wall = np.full((H, W), 5.0)
    theirs = blenders(columns + 5.25, rows - 2.5, wall, seen_in(wall))
    (tmp_path / "ours.png").write_bytes(encode_motion(way, torch.ones(H, W)))
    ours = read_png(tmp_path / "ours.png")
    inside = (slice(4, -4), slice(2, -8))
    for channel in (0, 1, 3):
        assert np.array_equal(ours[inside][..., channel], theirs[inside][..., channel])
    write_png(tmp_path / "theirs.png", theirs)
    sha256 = hashlib.sha256((tmp_path / "theirs.png").read_bytes()).hexdigest()
    rows, columns = np.indices((2 * H, 2 * W), dtype=float)

    def picture(dx: float, dy: float) -> np.ndarray:
        wave = 128 + 50 * np.sin((columns - dx) / 9) * np.cos((rows - dy) / 8)
        return np.repeat(wave[..., None], 3, axis=-1).round().astype(np.uint8)

    frames = np.stack([picture(0, 0), picture(10.5, -5)])
    request = {"deflicker": [{"clip_frame": 0, "to": 1, "sha256": sha256}], "sampling": {}}
    made = steadied(frames, request, {sha256: tmp_path / "theirs.png"})
    inside = (0, slice(16, -16), slice(8, -24))
    assert np.abs(made[inside].astype(int) - frames[inside]).max() <= 2


def test_an_outline_that_moves_stays_where_pictures_are_larger_than_the_motion(
    tmp_path: Path,
) -> None:
    def scene(k: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
        """A square that goes to the right before a wall that goes to the left."""
        rows, columns = np.indices((scale * H, scale * W)) / scale
        square = (np.abs(columns - 24 - 4 * k) < 9) & (np.abs(rows - 24) < 9)
        wave = np.sin((columns + 3 * k) / 5) * 20
        return np.where(square, 150, 120 + wave), square

    first, second = (scene(k, 1)[1] for k in (0, 1))
    way = np.where(first, 4, -3)
    columns = np.indices((H, W))[1] + way
    seen = (columns >= 0) & (columns < W)
    hidden = ~first & second[np.indices((H, W))[0], columns.clip(0, W - 1)]
    motion = torch.zeros(2, H, W)
    motion[0] = torch.from_numpy(way)
    content = encode_motion(motion, torch.from_numpy((seen & ~hidden).astype(np.float32)))
    sha256 = hashlib.sha256(content).hexdigest()
    (tmp_path / "motion.png").write_bytes(content)
    frames = np.stack([scene(k, 2)[0] for k in (0, 1)])[..., None].repeat(3, axis=-1)
    frames = frames.round().astype(np.uint8)
    request = {"deflicker": [{"clip_frame": 0, "to": 1, "sha256": sha256}], "sampling": {}}
    made = steadied(frames, request, {sha256: tmp_path / "motion.png"})
    change = np.abs(made[0].astype(int) - frames[0])
    near = np.abs(np.abs(np.indices((2 * H, 2 * W)) / 2 - 24).max(axis=0) - 9) < 2
    assert change[near].mean() < 1.1  # twice as much where ways mix


def test_the_engine_steadies_and_refuses_what_is_no_motion_before_it_starts(
    engine: Engine, request_for: MakeRequest, guides: Guides, tmp_path: Path
) -> None:
    request = request_for(guides.control("depth", {0: 1.0}))
    plain = engine.generate(request, guides, 1, lambda event: None, lambda: False).frames
    assert len(plain) == FRAMES
    content = encode_motion(torch.zeros(2, SIZE, SIZE), torch.ones(SIZE, SIZE))
    sha256 = hashlib.sha256(content).hexdigest()
    (tmp_path / "motion.png").write_bytes(content)
    files = {**guides, sha256: tmp_path / "motion.png"}
    request["deflicker"] = [{"clip_frame": 1, "to": 2, "sha256": sha256}]
    made = engine.generate(request, files, 1, lambda event: None, lambda: False).frames
    assert [np.array_equal(*pair) for pair in zip(made, plain, strict=True)].count(False) == 1
    phases: list[str] = []
    for wrong, told in ((guides.sha["depth", 0], "is no motion"), ("0" * 64, "is missing")):
        request["deflicker"][0]["sha256"] = wrong
        with pytest.raises(EngineError, match=told):
            engine.generate(
                request, files, 1, lambda e: phases.append(e.get("phase", "")), lambda: False
            )
    assert "sampling" not in phases
