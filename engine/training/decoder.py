"""Stage decoder: the autoencoder's decoder, on clips that the finished model made.

What a small model predicts is a little off in every latent, and a decoder that has seen true
latents only draws that faithfully, as dents in outlines. So it goes on training beside its frozen
encoder: half on true latents, half on those that the model makes when it starts on the true clip's
way from noise, so that the true picture is known. As the decoders of Stable Diffusion that were
trained further beside a frozen encoder (stabilityai/sd-vae-ft-mse), but on the model's own latents.
"""

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNetMotionModel
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import Tensor, nn

from ..errors import EngineError
from ..vae import decode
from . import together
from .clips import random_keyframes, sparse_control
from .data import Shards, save_atomically
from .diffusion import Frozen, attend_in_products, half_precision, sample
from .image import Teaching
from .loop import Loop, LoopConfig
from .pictures import write_grid
from .vae import reconstruction_loss

_CLIPS_A_SHARD = 2
# Of the sampling steps, the first that is taken: before it, it is the true clip under noise.
_STEPS, _FIRST = 10, range(4, 9)
# The largest noise on true latents, of a spread of 1.
_SHAKE = 0.3


@torch.no_grad()
def grown(vae: AutoencoderTiny, width: int, blocks: tuple[int, ...]) -> AutoencoderTiny:
    """The autoencoder with a decoder of ``width`` channels and ``blocks`` on its levels, which
    decodes as before: what is new has no say yet (Net2Net, Chen et al. 2016, section 2).

    Raises EngineError where the decoder is larger already, or the autoencoder of another kind.
    """
    if not isinstance(vae, AutoencoderTiny):
        raise EngineError("Stage decoder is for checkpoints with a tiny autoencoder: leave it out.")
    config = dict(vae.config)
    before, old_width = config["num_decoder_blocks"], config["decoder_block_out_channels"][0]
    if width < old_width or any(a < b for a, b in zip(blocks, before, strict=True)):
        raise EngineError(
            f"The decoder has {old_width} channels and {tuple(before)} blocks already: ask for no "
            "fewer in the recipe's [decoder]."
        )
    config |= {"num_decoder_blocks": blocks, "decoder_block_out_channels": (width,) * len(blocks)}
    larger: AutoencoderTiny = AutoencoderTiny.from_config(config)
    larger.encoder.load_state_dict(vae.encoder.state_dict())
    old = iter(vae.decoder.layers)
    ahead = next(old, None)
    for layer in larger.decoder.layers:
        if isinstance(layer, AutoencoderTinyBlock) and not isinstance(ahead, AutoencoderTinyBlock):
            # A new block: what comes in is positive, so that it goes through unchanged.
            nn.init.zeros_(layer.conv[-1].weight)
            nn.init.zeros_(layer.conv[-1].bias)
            continue
        for mine, theirs in zip(_convolutions(layer), _convolutions(ahead), strict=True):
            _widen(mine, theirs)
        ahead = next(old, None)
    return larger.to(vae.device)


def _convolutions(layer: nn.Module | None) -> list[nn.Conv2d]:
    return [part for part in layer.modules() if isinstance(part, nn.Conv2d)] if layer else []


def _widen(mine: nn.Conv2d, theirs: nn.Conv2d) -> None:
    """Put a convolution into a wider one, whose new inputs do not reach the old outputs."""
    outputs, inputs = theirs.weight.shape[:2]
    mine.weight[:outputs] = 0
    mine.weight[:outputs, :inputs] = theirs.weight
    if mine.bias is not None and theirs.bias is not None:
        mine.bias[:outputs] = theirs.bias


@torch.no_grad()
def make_pairs(
    model: UNetMotionModel,
    encoders: Mapping[str, Any],
    frozen: Frozen,
    data: Shards,
    folder: Path,
    seed: int,
    teaching: Teaching,
    guidance: float,
    minutes: float,
) -> None:
    """Write shards of true pictures with their true latents and the model's own, for so long.

    ``data`` holds clips with colour, latents and the guides. At least one shard is written.
    """
    rng = random.Random(seed)
    noise = torch.Generator(data.device).manual_seed(seed)
    attend_in_products(model, *encoders.values())
    empty = frozen.text([""])
    end = time.monotonic() + 60 * minutes
    folder.mkdir(parents=True, exist_ok=True)
    number = together.number()
    while time.monotonic() < end or not list(folder.glob("*.pt")):
        batch = data.sample(rng, _CLIPS_A_SHARD)
        clean = batch["latents"].float().transpose(1, 2)
        first = rng.choice(_FIRST)
        frozen.scheduler.set_timesteps(_STEPS)
        at = frozen.scheduler.timesteps[first].expand(len(clean)).to(data.device)
        covering = torch.randn(clean.shape, generator=noise, device=data.device)
        start = frozen.scheduler.add_noise(clean, covering, at)
        guide = teaching.guide(rng)
        control = None
        if guide:
            keyframes = random_keyframes(clean.shape[2], rng)
            control = sparse_control(encoders[guide], guide, batch, keyframes)
        text = frozen.text(batch["captions"])
        made = sample(
            model, frozen.scheduler, text, empty, start, control, _STEPS, guidance, first=first
        )
        shard = {
            "colour": batch["colour"].cpu(),
            "true": batch["latents"].half().cpu(),
            "made": made.transpose(1, 2).half().cpu(),
            "captions": batch["captions"],
        }
        save_atomically(shard, folder / f"{number:05d}.pt")
        number += together.count()


def train_decoder(
    vae: AutoencoderTiny, pairs: Shards, folder: Path, config: LoopConfig, crop: int
) -> AutoencoderTiny:
    """Train the decoder on crops of ``crop`` pixels; returns ``vae`` with averaged weights in it.

    ``pairs`` are of ``make_pairs``.
    """
    rng = random.Random(config.seed)
    noise = torch.Generator(pairs.device).manual_seed(config.seed)
    vae.requires_grad_(False).to(memory_format=torch.channels_last)
    vae.decoder.requires_grad_(True)

    def batch(count: int, chooser: random.Random) -> tuple[Tensor, Tensor, Tensor]:
        some = pairs.sample(chooser, count)
        frame = chooser.randrange(some["colour"].shape[1])
        pictures = some["colour"][:, frame].float() / 255
        return pictures, some["true"][:, frame].float(), some["made"][:, frame].float()

    def loss_of(step: int) -> Tensor:
        pictures, true, made = batch(config.batch, rng)
        shake = torch.randn(true.shape, generator=noise, device=pairs.device)
        half = config.batch // 2
        latents = torch.cat([true[:half] + rng.uniform(0, _SHAKE) * shake[:half], made[half:]])
        cells = crop // 8
        top, left = (rng.randint(0, side - cells) for side in latents.shape[2:])
        latents = latents[:, :, top : top + cells, left : left + cells]
        pictures = pictures[:, :, 8 * top :, 8 * left :][:, :, :crop, :crop]
        with half_precision(pairs.device):
            decoded = decode(vae, latents.contiguous(memory_format=torch.channels_last))
        return reconstruction_loss(decoded.float(), pictures)

    shown = batch(8, random.Random(1))

    @torch.no_grad()
    def draw(averaged: Mapping[str, Any], step: int) -> None:
        pictures, true, made = shown
        rows = [pictures]
        for latents in (true, made):
            was, vae.decoder = vae.decoder, averaged["decoder"]
            rows.append(decode(vae, latents))
            vae.decoder = was
        errors = [(row - pictures).abs().mean().item() for row in rows[1:]]
        print(f"decoder: error {errors[0]:.4f} of true latents, {errors[1]:.4f} of the model's")
        write_grid(rows, folder / "grids" / f"decoder_{step:06d}.png")

    loop = Loop(folder, "decoder", {"decoder": vae.decoder}, config)
    draw(loop.average.modules, loop.step)
    loop.run(loss_of, draw)
    vae.decoder = loop.average.modules["decoder"]
    return vae
