"""Two quick figures of how well a trained model obeys, on held-out stills.

They need no other network: where the picture changes against where the scene's lines are, and
how far the picture's colours are from the true ones. ``animatic evaluate`` goes much further.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTokenizer

from ..vae import Vae, decode
from .diffusion import encode_text, sample, start_noise
from .image import still_control


def edge_contrast(pictures: Tensor, lineart: Tensor) -> float:
    """Mean change of the picture near lines over that away from them; 1 where it ignores them.

    ``pictures`` [n, 3, h, w] in [0, 1], ``lineart`` [n, h, w] uint8. Lines are widened by two
    pixels, as much as the autoencoder blurs.
    """
    near = F.max_pool2d(lineart[:, None].float(), 5, stride=1, padding=2)[:, 0] > 127
    soft = F.avg_pool2d(pictures, 3, stride=1, padding=1)
    across = F.pad(soft.diff(dim=3), (0, 1)).abs().sum(dim=1)
    down = F.pad(soft.diff(dim=2), (0, 0, 0, 1)).abs().sum(dim=1)
    change = across + down
    return (change[near].mean() / change[~near].mean()).item()


@torch.no_grad()
def still_figures(
    modules: Mapping[str, nn.Module],
    vae: Vae,
    tokenizer: CLIPTokenizer,
    scheduler: DDIMScheduler,
    batch: dict,
    guidance: float,
) -> dict[str, dict[str, float]]:
    """``edge_contrast`` and ``colour_error`` (mean absolute, of 0..1, on 8x8 means) by guide.

    Rows: the true pictures, those through the autoencoder, guided by depth, by line-art, and by
    the caption alone. ``batch`` holds stills with colour, latents, depth, lineart and captions.
    """
    encoder: Any = modules["text_encoder"]
    text = encode_text(encoder, tokenizer, batch["captions"])
    empty = encode_text(encoder, tokenizer, [""])
    true = batch["colour"][:, 0].float() / 255
    latents = batch["latents"][:, :1].float().transpose(1, 2)

    start = start_noise(latents.shape, latents.device)
    pictures = {"true": true, "autoencoder": decode(vae, latents[:, :, 0])}
    for guide in ("depth", "lineart", None):
        control = still_control(modules, guide, batch) if guide else None
        made = sample(modules["unet"], scheduler, text, empty, start, control, guidance=guidance)
        pictures[guide or "caption alone"] = decode(vae, made[:, :, 0])
    return {
        name: {
            "edge_contrast": round(edge_contrast(made, batch["lineart"][:, 0]), 3),
            "colour_error": round(
                (F.avg_pool2d(made, 8) - F.avg_pool2d(true, 8)).abs().mean().item(), 4
            ),
        }
        for name, made in pictures.items()
    }
