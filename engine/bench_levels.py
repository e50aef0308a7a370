"""What changes of rounding alone would save: a step of the UNet, each against the plain one.

The engine takes over what pays: see ``device.default_plan``. Fused projections also would have to
be made anew whenever a LoRA changes the weights that they copy.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import UNetMotionModel

from .device import Plan
from .parts import Parts
from .text import per_frame

LEVELS = ("channels-last", "fused projections", "two takes in one batch")


@torch.inference_mode()
def level_ratios(
    parts: Parts,
    frames: int,
    side: int,
    plan: Plan,
    repeats: int,
    seconds: Callable[[Callable[[], object], Plan], float],
) -> dict[str, float]:
    """How many times as fast as the plain UNet each of LEVELS makes a guided step of a take.

    ``seconds`` measures a call; the least of ``repeats`` counts, all levels in turn.
    """
    width, tokens = parts.unet.config.cross_attention_dim, parts.text_encoder.config
    small = side // parts.latent_scale

    def step(unet: UNetMotionModel, takes: int) -> Any:
        halves = 2 * takes
        text = torch.zeros(halves, tokens.max_position_embeddings, width)
        latents = torch.randn(halves, unet.config.in_channels, frames, small, small)
        text, latents = (each.to(plan.torch_device, plan.torch_dtype) for each in (text, latents))
        return partial(
            unet, latents, torch.tensor(601), encoder_hidden_states=per_frame(text, frames)
        )

    plain = copy.deepcopy(parts.unet).to(memory_format=torch.contiguous_format)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    fused = copy.deepcopy(plain)
    fused.fuse_qkv_projections()
    calls = {"plain": (plain, 1)} | dict(
        zip(LEVELS, ((last, 1), (fused, 1), (plain, 2)), strict=True)
    )
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, (unet, takes) in calls.items():
            taken = seconds(step(unet, takes), plan) / takes
            if turn > 0:  # the first prepares
                spent[name].append(taken)
    return {name: min(spent["plain"]) / min(spent[name]) for name in LEVELS}
