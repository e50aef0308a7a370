"""Weights in eight bits a number: what only ``animatic evaluate`` reads need not be larger.

Matrices are kept as int8 with one half-precision scale for each row (output channel), half a
percent of the row's largest weight apart; vectors stay in half precision.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_SCALE = ".scale"


def _as_rows(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.float().reshape(-1, *[1] * (weight.dim() - 1))


def save_in_eight_bits(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict as one .safetensors file that ``read_weights`` reads."""
    small: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.dim() < 2:
            small[name] = value.half().contiguous()
            continue
        weight = value.float()
        # A row of zeros has any scale.
        scale = (weight.flatten(1).abs().amax(dim=1) / 127).clamp(min=1e-7).half()
        small[name] = (weight / _as_rows(scale, weight)).round().clamp(-127, 127).to(torch.int8)
        small[name + _SCALE] = scale
    save_file(small, path, {"format": "pt"})


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a part's folder in float32, of eight bits or of any other number type."""
    stored: dict[str, Tensor] = {}
    for path in folder.glob("*.safetensors"):
        stored |= load_file(path)
    return {
        name: value.float() * _as_rows(stored[name + _SCALE], value)
        if name + _SCALE in stored
        else value.float()
        for name, value in stored.items()
        if not name.endswith(_SCALE)
    }
