"""Grids of pictures, to look at while training."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def to_bytes(pictures: Tensor) -> Tensor:
    """[n, c, h, w] in [0, 1], one or three channels -> uint8 [n, h, w, 3] on the CPU."""
    pictures = (pictures.float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return pictures.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)


def write_grid(rows: list[Tensor], path: Path) -> None:
    """Rows of pictures [n, c, h, w] in [0, 1], all of one length, to a PNG."""
    lines = [torch.cat(list(to_bytes(row)), dim=1) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(torch.cat(lines).numpy()).save(path)
