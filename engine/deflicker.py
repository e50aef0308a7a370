"""Frames steadied along the scene's motion: each is averaged with those beside it, moved to where
its own points lie.

What a model paints on a surface is a little different in every frame. The scene tells where each
point of a frame lies in the frame before and after; there, what differs little is flicker, and
goes by averaging, and what differs much (lightning, outlines not quite in place) is left.
Source: motion-compensated temporal filtering (Dubois and Sabri 1984, "Noise reduction in image
sequences using motion-compensated temporal filtering"), with exact motion in place of a measured.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from .errors import EngineError
from .pictures import read_named

# Frames that differ by this much of the value range, over so many pixels around, count by 1/e.
_FLICKER = 0.1
_AROUND = 5
_ZERO = 32768
_KIND = bytes([16, 6])  # bits, and colour with alpha, of a PNG's head


def deflicker(
    frames: np.ndarray,
    request: Mapping[str, Any],
    files: Mapping[str, Path],
    on_frame: Callable[[int], None],
) -> np.ndarray:
    """Frames uint8 [F, H, W, 3] steadied along the motion that ``request`` names, if it does.

    ``files`` maps content hashes to the motion files, in the format that the request's schema
    tells; smaller ones than the frames are enlarged. Where no motion is trusted nothing changes,
    nor does a picture that was chosen for the first frame. ``on_frame(done)`` is called after
    each of ``steadied``. Raises EngineError as ``check_motions``.
    """
    motions = request.get("deflicker", [])
    made = frames.copy() if motions else frames
    for done, k in enumerate(steadied(request), start=1):
        own = _planes(frames[k])
        total, weights = own.clone(), torch.ones_like(own[:, :1])
        for motion in motions:
            if motion["clip_frame"] != k:
                continue
            places, trust = _read(motion["sha256"], files, frames.shape[1:3])
            moved = F.grid_sample(
                _planes(frames[motion["to"]]),
                places,
                mode="bicubic",
                padding_mode="border",
                align_corners=False,
            )
            weight = trust * _softened(trust) * _alike(moved, own)
            total += weight * moved
            weights += weight
        mean = (total / weights).clamp(0, 255).round().to(torch.uint8)
        made[k] = mean[0].permute(1, 2, 0).numpy()
        on_frame(done)
    return made


def steadied(request: Mapping[str, Any]) -> list[int]:
    """The clip frames that ``deflicker`` changes."""
    kept = {0} if "first_frame" in request["sampling"] else set()
    return sorted({motion["clip_frame"] for motion in request.get("deflicker", [])} - kept)


def encode_motion(way: torch.Tensor, trust: torch.Tensor) -> bytes:
    """A motion file of the way in pixels (x, y) to the other frame's places, float [2, H, W], and
    how far it is to be trusted, [H, W] from 0 to 1.
    """
    fixed = (way * _steps(*trust.shape)).round() + _ZERO
    x, y = fixed.clamp(0, 65535)
    whole = torch.full_like(trust, 65535)
    channels = torch.stack([whole, y, x, trust * 65535], dim=-1)  # OpenCV counts from blue
    _, file = cv2.imencode(".png", channels.round().numpy().astype(np.uint16))
    return file.tobytes()


def check_motions(
    request: Mapping[str, Any], files: Mapping[str, Path], check: Callable[[], None]
) -> None:
    """Raise EngineError where motion that ``request`` names is missing, has changed, or is none.

    ``check`` is called before each file.
    """
    for sha256 in {motion["sha256"] for motion in request.get("deflicker", [])}:
        check()
        head = _content(sha256, files)[:26]
        if not head.startswith(b"\x89PNG\r\n\x1a\n") or head[24:] != _KIND:
            raise _no_motion(files[sha256])


def _content(sha256: str, files: Mapping[str, Path]) -> bytes:
    return read_named(sha256, files, "motion", "it", "Render the scene again.")


def _no_motion(path: Path) -> EngineError:
    return EngineError(
        f"{path} is no motion between frames: expected a PNG of 16 bits and four channels. Render "
        "the scene again."
    )


def _steps(height: int, width: int) -> int:
    """Steps per pixel, a power of 2, that let a way reach across the whole picture."""
    return 1 << (32767 // max(height, width, 2)).bit_length() - 1


def _planes(frame: np.ndarray) -> torch.Tensor:
    """[1, 3, H, W] in 0 to 255."""
    return torch.from_numpy(frame).permute(2, 0, 1)[None].float()


def _alike(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How far two frames [1, 3, H, W] show the same at each place, [1, 1, H, W] from 0 to 1."""
    apart = _softened((one - other).abs().mean(dim=1, keepdim=True) / 255)
    return torch.exp(-((apart / _FLICKER) ** 2))


def _softened(values: torch.Tensor) -> torch.Tensor:
    """The mean around each pixel: where frames change places from one to the next, it is seen."""
    return F.avg_pool2d(values, _AROUND, 1, _AROUND // 2, count_include_pad=False)


def _read(
    sha256: str, files: Mapping[str, Path], size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A motion file's places [1, H, W, 2] as grid_sample takes them, and its trust [1, 1, H, W]."""
    content = np.frombuffer(_content(sha256, files), np.uint8)
    stored = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.shape[2:] != (4,):
        raise _no_motion(files[sha256])
    height, width = stored.shape[:2]
    # OpenCV counts a file's colours from blue.
    channels = torch.from_numpy(stored[..., (2, 1, 3)].astype(np.float32)).permute(2, 0, 1)[None]
    steps = _steps(height, width)
    # In halves of a picture, which a larger one has as many of.
    ways = (channels[:, :2] - _ZERO) / steps / torch.tensor([width / 2, height / 2])[:, None, None]
    trust = channels[:, 2:] / 65535
    if (height, width) != size:
        # The nearest, so that no way is mixed across an outline.
        ways, trust = (F.interpolate(each, size, mode="nearest") for each in (ways, trust))
    own = F.affine_grid(torch.eye(2, 3)[None], [1, 1, *size], align_corners=False)
    return own + ways.permute(0, 2, 3, 1), trust
