"""Stage decoder: the autoencoder's decoder alone, on what the finished model makes of noisy clips.

In use a decoder gets a diffusion model's latents, whose faults are others than those it was trained
to forgive. The encoder and so the latents stay what they are: no other part is trained anew. After
Align Your Latents (Blattmann et al. 2023, arXiv 2304.08818), section 3.1.1, which trains the
decoder alone on clips; that it sees the model's own latents is ours.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNetMotionModel
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from torch import Tensor, nn

from ..motion import use_reference_normalisation
from ..noise import noise_of
from ..vae import Vae, decode
from .clips import all_frames, sparse_control
from .data import Shards
from .diffusion import Frozen, attend_in_products, clip_and_noise, half_precision, predict
from .image import Teaching
from .loop import Loop, LoopConfig
from .pictures import write_grid
from .vae import reconstruction_loss

# Neighbouring frames of a clip that are decoded in a step: the whole clip takes much memory.
_FRAMES = 6


def train_decoder(
    model: UNetMotionModel,
    encoders: Mapping[str, SparseControlNetModel],
    frozen: Frozen,
    data: Shards,
    held_out: Shards,
    folder: Path,
    config: LoopConfig,
    teaching: Teaching,
    noisiest: int,
    steadiness: float,
) -> Vae:
    """Train the decoder of ``frozen.vae``; returns that autoencoder with its averaged weights.

    The clips' latents are noised to a timestep up to ``noisiest`` and ``model`` says, in one step,
    what they were; the pictures made of that are to be the clips' own. ``steadiness`` weighs the
    error of the differences between neighbouring frames beside that of the frames.
    """
    vae, device = frozen.vae, data.device
    vae.decoder.requires_grad_(True)
    rng, noise = random.Random(config.seed), torch.Generator(device).manual_seed(config.seed)
    attend_in_products(model, *encoders.values())
    for encoder in encoders.values():
        use_reference_normalisation(encoder)

    @torch.no_grad()
    def as_the_model_says(batch: dict, time: Tensor, noise: torch.Generator) -> Tensor:
        """Latents [b, f, 4, h, w]."""
        clean = batch["latents"].float().transpose(1, 2)
        covering = noise_of(noise, clean.shape, device, frozen.shared_noise)
        noisy = frozen.scheduler.add_noise(clean, covering, time)
        guide = teaching.guide(rng)
        with half_precision(device):
            text = frozen.text(teaching.captions(batch["captions"], rng))
            control = None
            if guide:
                every = all_frames(clean.shape[2], rng)
                control = sparse_control(encoders[guide], guide, batch, every)
            prediction = predict(model, noisy, time, text, control).float()
        return clip_and_noise(frozen.scheduler, prediction, noisy, time)[0].transpose(1, 2)

    def loss_of(step: int) -> Tensor:
        batch = data.sample(rng, config.batch)
        time = torch.randint(noisiest + 1, (config.batch,), generator=noise, device=device)
        said = as_the_model_says(batch, time, noise)
        first = rng.randint(0, max(0, said.shape[1] - _FRAMES))
        some = slice(first, first + _FRAMES)
        true = batch["colour"][:, some].float() / 255
        with half_precision(device):
            flat = decode(vae, said[:, some].flatten(0, 1))
        made = flat.float().unflatten(0, true.shape[:2])
        flicker = F.l1_loss(made.diff(dim=1), true.diff(dim=1))
        return reconstruction_loss(flat.float(), true.flatten(0, 1)) + steadiness * flicker

    shown = held_out.sample(random.Random(1), 1)
    middle = torch.full((1,), noisiest // 2, device=device)
    said = as_the_model_says(shown, middle, torch.Generator(device).manual_seed(1))[0, ::2]
    true = shown["colour"][0, ::2].float() / 255

    def draw(averaged: Mapping[str, Any], step: int) -> None:
        mine = vae.decoder
        vae.decoder = averaged["decoder"]
        with torch.no_grad():
            made = decode(vae, said)
        vae.decoder = mine
        error = (made - true).abs().mean().item()
        print(f"decoder: mean absolute error {error:.4f} of the value range", flush=True)
        write_grid([true, made], folder / "grids" / f"decoder_{step:06d}.png")

    learns: dict[str, nn.Module] = {"decoder": vae.decoder}
    loop = Loop(folder, "decoder", learns, config)
    draw(loop.average.modules, loop.step)
    loop.run(loss_of, draw)
    vae.decoder = loop.average.modules["decoder"]
    return vae
