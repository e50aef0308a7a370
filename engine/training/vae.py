"""Stages vae and decoder: the autoencoder, on squares of single frames, and its decoder alone."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from ..vae import Vae, decode, encode
from .data import Shards, cropped
from .diffusion import half_precision
from .loop import Loop, LoopConfig
from .pictures import write_grid


def _slopes(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures.diff(dim=2), pictures.diff(dim=3)


def reconstruction_loss(made: Tensor, true: Tensor) -> Tensor:
    """Mean absolute error of the picture and of its differences at three scales.

    Without the differences, edges of blocks come out soft; a perceptual network is not at hand
    for a model that is trained from nothing.
    """
    loss = F.l1_loss(made, true)
    for _ in range(3):
        for a, b in zip(_slopes(made), _slopes(true), strict=True):
            loss = loss + 0.5 * F.l1_loss(a, b)
        made, true = F.avg_pool2d(made, 2), F.avg_pool2d(true, 2)
    return loss


def _shaken(latents: Tensor, noise: torch.Generator) -> Tensor:
    """With a little noise: it makes a decoder smooth, which then forgives diffusion's mistakes."""
    return latents + 0.05 * torch.randn(latents.shape, generator=noise, device=latents.device)


@torch.no_grad()
def start_from_means(vae: AutoencoderTiny, pictures: Tensor) -> None:
    """Set weights so that the untrained model already encodes each 8x8 block's mean colour.

    Three channels carry colour unchanged through both halves; in the latents it is whitened over
    ``pictures`` ([n, 3, h, w] in [0, 1]). All other weights stay random, and learn the detail.
    """
    # Solved on the CPU in any case; the assignments below put it where the weights are.
    blocks = F.avg_pool2d(pictures, 8).permute(0, 2, 3, 1).reshape(-1, 3).cpu()
    mean = blocks.mean(dim=0)
    values, axes = torch.linalg.eigh(torch.cov(blocks.T))
    white = (axes / values.sqrt()).T  # rows: one latent channel each
    half_box = torch.tensor([0.0, 0.5, 0.5])
    for layers in (vae.encoder.layers, vae.decoder.layers):
        for module in layers:
            if isinstance(module, nn.Conv2d):
                kernel = torch.zeros(3, 3)
                if module.stride == (2, 2):
                    kernel = torch.outer(half_box, half_box)
                else:
                    kernel[1, 1] = 1.0
                module.weight[:3] = 0
                for channel in range(3):
                    module.weight[channel, channel] = kernel
                if module.bias is not None:
                    module.bias[:3] = 0
            elif hasattr(module, "conv"):
                nn.init.zeros_(module.conv[-1].weight[:3])
                nn.init.zeros_(module.conv[-1].bias[:3])
    to_latent, from_latent = vae.encoder.layers[-1], vae.decoder.layers[0]
    to_latent.weight[:3] = 0
    to_latent.weight[:3, :3, 1, 1] = white
    to_latent.bias[:3] = -white @ mean
    from_latent.weight[:3] = 0
    from_latent.weight[:3, :3, 1, 1] = torch.linalg.inv(white)
    from_latent.bias[:3] = mean


def train_vae(vae: Vae, data: Shards, folder: Path, config: LoopConfig, crop: int) -> Vae:
    """Train on crops of ``crop`` pixels; returns the averaged model, its scaling factor set."""
    rng = random.Random(config.seed)
    noise = torch.Generator(data.device).manual_seed(config.seed)
    # A finished autoencoder has a factor other than 1 already, and goes on from where it is.
    fresh = isinstance(vae, AutoencoderTiny) and vae.config.scaling_factor == 1.0
    vae.register_to_config(scaling_factor=1.0)

    def pictures(count: int, chooser: random.Random) -> Tensor:
        return data.sample(chooser, count)["colour"][:, 0].float() / 255

    if fresh:
        start_from_means(vae, pictures(256, rng))

    def batch(count: int) -> Tensor:
        whole = pictures(count, rng)
        top, left = (rng.randint(0, (whole.shape[2] - crop) // 8) * 8 for _ in range(2))
        whole = whole[:, :, top : top + crop, left : left + crop]
        whole = whole.flip(3) if rng.random() < 0.5 else whole
        return whole.contiguous(memory_format=torch.channels_last)

    def loss_of(step: int) -> Tensor:
        if step % 200 == 0:
            data.refresh()
        true = batch(config.batch)
        with half_precision(data.device):
            latents = encode(vae, true)
            made = decode(vae, _shaken(latents, noise))
        # A light pull keeps the latents from drifting apart in spread.
        pull = 1e-3 * latents.float().pow(2).mean()
        return 2 * reconstruction_loss(made.float(), true) + pull

    fixed = pictures(8, random.Random(1))

    @torch.no_grad()
    def sample(averaged: Mapping[str, Any], step: int) -> None:
        made = decode(averaged["vae"], encode(averaged["vae"], fixed))
        error = (made - fixed).abs().mean().item()
        print(f"vae: mean absolute error {error:.4f} of the value range", flush=True)
        write_grid([fixed, made], folder / "grids" / f"vae_{step:06d}.png")

    vae.to(memory_format=torch.channels_last)
    loop = Loop(folder, "vae", {"vae": vae}, config)
    loop.draw_anew(rng, noise)
    sample(loop.average.modules, loop.step)
    loop.run(loss_of, sample)
    trained: Any = loop.average.modules["vae"]
    with torch.no_grad():
        spread = encode(trained, pictures(256, random.Random(2))).std().item()
    trained.register_to_config(scaling_factor=1 / spread)
    return trained


def train_decoder(
    vae: Vae, data: Shards, folder: Path, config: LoopConfig, crop: int, steadiness: float
) -> Vae:
    """Train the decoder of ``vae`` on pairs of neighbouring frames of the clips in ``data``, whose
    latents stay what they are; returns the model with the averaged decoder.

    ``steadiness`` weighs the error of what differs between the two frames beside that of the
    frames. ``crop`` is the side of the squares in pixels. Source: Stable Video Diffusion (Blattmann
    et al. 2023, arXiv 2311.15127) fine-tunes the decoder alone on clips against flicker, there with
    temporal layers, which AutoencoderTiny has not.
    """
    rng = random.Random(config.seed)
    noise = torch.Generator(data.device).manual_seed(config.seed)
    decoder: Any = vae.decoder
    vae.requires_grad_(False).to(memory_format=torch.channels_last)
    decoder.requires_grad_(True)

    def loss_of(_: int) -> Tensor:
        batch = cropped(data.sample(rng, config.batch), crop, rng)
        first = rng.randrange(batch["latents"].shape[1] - 1)
        pair = slice(first, first + 2)
        true = batch["colour"][:, pair].flatten(0, 1).float() / 255
        latents = batch["latents"][:, pair].flatten(0, 1).float()
        latents = latents.contiguous(memory_format=torch.channels_last)
        with half_precision(data.device):
            made = decode(vae, _shaken(latents, noise)).float()
        changes = (made - true).unflatten(0, (-1, 2)).diff(dim=1)
        return reconstruction_loss(made, true) + steadiness * changes.abs().mean()

    loop = Loop(folder, "decoder", {"decoder": decoder}, config)
    loop.draw_anew(rng, noise)
    loop.run(loss_of)
    decoder.load_state_dict(loop.average.modules["decoder"].state_dict())
    return vae
