"""Low-rank layers that are trained beside a frozen video model, and the LoRA file they make."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetMotionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ..lora import find_targets, merge, read_lora
from .loop import averaged_weights

_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


def motion_attention(model: UNetMotionModel) -> list[str]:
    """The projections of the motion modules' self-attention: AnimateDiff, section 4.3."""
    return [
        name
        for name, _ in model.named_modules()
        if "motion_modules" in name and name.endswith(_PROJECTIONS)
    ]


def whole_model(model: UNetMotionModel) -> list[str]:
    """All layers within the model's blocks, as LCM-LoRA takes them (Luo et al. 2023, arXiv
    2311.05556)."""
    return [
        name
        for name, module in model.named_modules()
        if "_block" in name and isinstance(module, nn.Linear | nn.Conv2d)
    ]


def add_lora(model: UNetMotionModel, targets: list[str], rank: int, seed: int) -> nn.ModuleDict:
    """Freeze ``model`` and put low-rank layers beside its ``targets``; returns these layers.

    They change nothing until they are trained: one of each pair starts at zero.
    """
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(
            LoraConfig(
                r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets
            )
        )
    return nn.ModuleDict(
        {
            f"{name}.{half}".replace(".", "/"): layers["default"]
            for name, module in model.named_modules()
            if isinstance(module, LoraLayer)
            for half, layers in (("A", module.lora_A), ("B", module.lora_B))
        }
    )


def merge_lora(model: UNetMotionModel, path: Path, modules: nn.Module) -> dict[str, Tensor]:
    """Put the LoRA in ``path`` into the weights of ``model``, as sampling with it does.

    Returns what it changed in ``modules``, which is inside ``model``: name to difference.
    """
    before = {name: value.clone() for name, value in modules.state_dict().items()}
    changes = read_lora(path)
    merge(changes, find_targets({"unet": model}, changes, path, "the video model"), 1.0)
    return {name: value - before[name] for name, value in modules.state_dict().items()}


@torch.no_grad()
def take_lora_out(modules: nn.Module, difference: Mapping[str, Tensor]) -> None:
    """Undo in ``modules`` what ``merge_lora`` said that it had changed."""
    state = modules.state_dict()
    for name, change in difference.items():
        state[name] -= change


@contextmanager
def without_lora(model: UNetMotionModel) -> Iterator[None]:
    """Inside the block the model is what it was before ``add_lora``."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


def write_lora(
    model: UNetMotionModel,
    layers: nn.Module,
    averaged: nn.Module,
    path: Path,
    scale: float = 1.0,
) -> None:
    """Write the averaged layers as ``AnimateDiffPipeline.load_lora_weights`` reads them, in half
    precision, ``scale`` times as strong as they were trained.
    """
    with averaged_weights({"layers": layers}, {"layers": averaged}):
        state: Mapping[str, Any] = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
        StableDiffusionLoraLoaderMixin.save_lora_weights(
            path.parent,
            # Of each pair only the half that leads back into the model.
            unet_lora_layers={
                name: (value * (scale if ".up." in name or "lora_B" in name else 1)).half().cpu()
                for name, value in state.items()
            },
            weight_name=path.name,
        )
