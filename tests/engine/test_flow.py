"""Optical flow between frames: what moved is found, and frames between them are nearer to it."""

from pathlib import Path

import numpy as np
from animatic.blender_addon.shot.in_between import blend
from animatic.blender_addon.shot.in_between_flow import flow_motions
from animatic.blender_addon.shot.png import read_png
from animatic.engine.flow import main
from PIL import Image

SIZE = 96


def clip() -> list[np.ndarray]:
    """A textured ball that goes 4 pixels a frame over a textured wall, 7 frames."""
    rows, columns = np.indices((SIZE, SIZE), dtype=float)

    def texture(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(size=(4, 3, 3)) / 8
        waves = [np.sin(noise[k, 0, :] * x[..., None] + noise[k, 1, :] * y[..., None] + 5 * k)
                 for k in range(4)]  # fmt: skip
        return 128 + 30 * sum(waves)

    frames = []
    for k in range(7):
        x, y = columns - 30 - 4 * k, rows - 40 - 2 * k
        ball = (x**2 + y**2 < 18**2)[..., None]
        picture = np.where(ball, texture(4 * x, 4 * y, 1), texture(columns, rows, 2))
        frames.append(picture.clip(0, 255).astype(np.uint8))
    return frames


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((picture.astype(float) - truth) ** 2))


def test_frames_between_are_much_nearer_than_a_fade(tmp_path: Path) -> None:
    truth = clip()
    (tmp_path / "frames").mkdir()
    for k in (0, 1, 2):
        Image.fromarray(truth[3 * k]).save(tmp_path / "frames" / f"{k + 1:04d}.png")
    assert main([str(tmp_path / "frames"), str(tmp_path / "flow")]) == 0
    assert [path.name for path in sorted((tmp_path / "flow").iterdir())] == ["0001.png", "0002.png"]
    flow = read_png(tmp_path / "flow" / "0001.png")
    ways = (flow.astype(float) - 32768) / 32
    # The ball's middle goes 12 pixels to the right and 6 down, and back; the corner stays.
    assert np.abs(np.median(ways[35:46, 25:36], axis=(0, 1))[:2] - (12, 6)).max() < 0.5
    assert np.abs(np.median(ways[41:52, 37:48], axis=(0, 1))[2:] - (-12, -6)).max() < 0.5
    assert np.abs(ways[80:, :16]).max() < 0.5
    for frame, share in ((1, 1 / 3), (2, 2 / 3)):
        motions = flow_motions(flow, share)
        made = blend([(truth[0], motions[0], 1 - share), (truth[3], motions[1], share)])
        fade = truth[0] * (1 - share) + truth[3] * share
        assert psnr(made, truth[frame]) > psnr(fade, truth[frame]) + 6


def test_what_is_no_picture_is_told(tmp_path: Path, capsys) -> None:
    (tmp_path / "0001.png").write_bytes(b"no picture")
    assert main([str(tmp_path), str(tmp_path / "flow")]) == 1
    assert "0001.png cannot be read as a picture" in capsys.readouterr().err
