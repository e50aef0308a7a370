"""Pictures to latents and back, for the two kinds of autoencoder that checkpoints have.

Either computes in the autoencoder's own number type (`Plan.vae_dtype`).
"""

from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

# By the name in the folder's config.json. The tiny one has no distribution, only a latent.
VAE_CLASSES: dict[str, Any] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
}
Vae: TypeAlias = AutoencoderKL | AutoencoderTiny


def encode(
    vae: Vae, pictures: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Latents [N, C, h, w] as the UNet takes them, from pictures [N, 3, H, W] in 0 to 1.

    With ``generator`` they are drawn from the autoencoder's distribution, without it (or from one
    that has none) they are its most likely ones.
    """
    coded = vae.encode(pictures.to(vae.dtype) * 2 - 1)
    if isinstance(vae, AutoencoderTiny):
        latents = coded.latents
    elif generator is None:
        latents = coded.latent_dist.mode()
    else:
        latents = coded.latent_dist.sample(generator)
    return latents * vae.config.scaling_factor


def decode(vae: Vae, latents: torch.Tensor, tiles: bool = False) -> torch.Tensor:
    """Pictures [N, 3, H, W] in 0 to 1 (and a little beyond) from latents [N, C, h, w].

    With ``tiles`` those larger than the size that the autoencoder was made for are decoded in
    overlapping parts, which takes less memory and shows in their last bits.
    """
    vae.use_tiling = tiles
    try:
        return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample / 2 + 0.5
    finally:
        vae.use_tiling = False


def decode_in_float32(vae: Vae, latents: torch.Tensor, tiles: bool = False) -> torch.Tensor:
    """As ``decode``, computed in float32; the autoencoder then has its own number type again."""
    held = vae.dtype
    vae.to(torch.float32)
    try:
        return decode(vae, latents, tiles)
    finally:
        vae.to(held)
