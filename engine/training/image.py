"""Stage image: text encoder and image model on single frames, and beside it, on part of the
batches, the guides' condition encoders.

SparseCtrl trains its encoders with everything else frozen. At this size the image model learns
structure several times faster when it is guided part of the time, so the encoders start here,
dense and on stills; stage sparsectrl goes on from them as the paper does.
"""

import random
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from ..structure import BLUR_LEVELS, blur_structure
from ..vae import Vae, decode
from .data import Shards
from .diffusion import (
    Control,
    attend_in_products,
    diffusion_loss,
    encode_text,
    half_precision,
    noisy_and_target,
    predict,
    sample,
    start_noise,
)
from .export import GUIDE_FOLDERS
from .grounding import Grounding
from .loop import Loop, LoopConfig
from .pictures import write_grid
from .recognition import Recognition


@dataclass(frozen=True)
class Emphasis:
    """What stage image stresses beside the papers' loss.

    ``timestep_shift`` above 1 brings noisy timesteps more often (see ``noisy_and_target``). On
    batches that are held to a guide, ``grounding`` and ``recognition`` weigh the losses of those
    names beside the diffusion loss; above 0 they need the stills' field regions.
    """

    timestep_shift: float = 1.0
    grounding: float = 0.0
    recognition: float = 0.0

    @property
    def fields(self) -> tuple[str, ...]:
        """The stills' fields that it needs."""
        return ("regions",) if self.grounding or self.recognition else ()


@dataclass(frozen=True)
class Teaching:
    """What a diffusion stage is shown, as shares of its batches.

    ``guides`` says how often a batch is held to which guide (the rest has none), ``text_dropout``
    how often a caption is left out, ``blurred_depth`` how often depth is blurred (Gen-1, section
    3.4).
    """

    guides: Mapping[str, float]
    text_dropout: float
    blurred_depth: float

    def guide(self, rng: random.Random) -> str | None:
        """The guide of the next batch, or None for none."""
        names = list(self.guides)
        none = max(0.0, 1.0 - sum(self.guides.values()))
        return rng.choices([*names, None], [*self.guides.values(), none])[0]

    def captions(self, captions: list[str], rng: random.Random) -> list[str]:
        """Captions, some of them empty, so that the model also learns to do without."""
        return ["" if rng.random() < self.text_dropout else text for text in captions]

    def blur_some(self, condition: Tensor, guide: str, rng: random.Random) -> Tensor:
        """Depth ``condition`` [b, c, f, h, w], now and then blurred by a random level."""
        if guide != "depth" or rng.random() >= self.blurred_depth:
            return condition
        frames = condition.transpose(1, 2).flatten(0, 1)
        blurred = blur_structure(frames, rng.randrange(1, BLUR_LEVELS))
        return blurred.unflatten(0, (len(condition), -1)).transpose(1, 2)


def pixel_condition(guide: Tensor) -> Tensor:
    """A guide's frames [b, f, h, w] uint8 -> condition [b, 3, f, h, w] in [0, 1]."""
    return (guide.float() / 255)[:, None].expand(-1, 3, -1, -1, -1)


class _Skipped(nn.Module):
    """Stands in for a motion module on stills."""

    def forward(self, hidden_states: Tensor, **_: object) -> Tensor:
        return hidden_states


def skip_motion(encoder: Any) -> None:
    """Take an encoder's motion modules out: on one frame they cost time and learn nothing."""
    for block in encoder.down_blocks:
        block.motion_modules = nn.ModuleList(_Skipped() for _ in block.motion_modules)


@torch.no_grad()
def start_condition_path(encoder: SparseControlNetModel, condition: Tensor) -> None:
    """Scale an untrained encoder so that the guide's contrast arrives, and leaves, at unit size.

    The usual start (torch's default layers, zeros at the end and zeros on every output) lets seven
    layers shrink the contrast to nothing, and a short training never finds it. Here each layer of
    the embedding is scaled to unit spread over the places of ``condition`` [b, c, 1, h, w], after
    Mishkin and Matas 2016 (LSUV), and the outputs start small but not at zero.
    """
    embedding = encoder.controlnet_cond_embedding
    features = torch.cat([condition, torch.ones_like(condition[:, :1])], dim=1)[:, :, 0]
    layers = [embedding.conv_in, *embedding.blocks, embedding.conv_out]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        features = layer(features)
        mean = features.mean(dim=(0, 2, 3))
        spread = features.std(dim=(0, 2, 3)).clamp(min=1e-3)
        layer.weight /= spread[:, None, None, None]
        layer.bias -= mean / spread
        features = (features - mean[:, None, None]) / spread[:, None, None]
        features = F.silu(features) if layer is not embedding.conv_out else features
    for output in (*encoder.controlnet_down_blocks, encoder.controlnet_mid_block):
        nn.init.normal_(output.weight, std=0.3 / output.in_channels**0.5)


def still_latents(batch: dict, flip: bool = False) -> Tensor:
    """The latents [b, 4, 1, h, w] of a batch of stills, or of their mirror images.

    Both were encoded: the autoencoder is not exactly symmetric.
    """
    return batch["latents"][:, 1 if flip else 0].float()[:, :, None]


def still_control(
    modules: Mapping[str, nn.Module], guide: str, batch: dict, flip: bool = False
) -> Control:
    """The control of a batch of stills, or of their mirror images, by one guide."""
    if guide == "render":
        condition = still_latents(batch, flip)
    else:
        pixels = pixel_condition(batch[guide])
        condition = pixels.flip(-1) if flip else pixels
    mask = torch.ones_like(condition[:, :1])
    return Control(modules[GUIDE_FOLDERS[guide]], condition, mask, (0,))


class StillGrid:
    """Draws the same few held-out scenes again and again while training goes on."""

    def __init__(
        self,
        data: Shards,
        vae: Vae,
        tokenizer: CLIPTokenizer,
        scheduler: DDIMScheduler,
        folder: Path,
        guides: Collection[str],
        count: int = 10,
    ):
        self.vae, self.tokenizer, self.scheduler, self.folder = vae, tokenizer, scheduler, folder
        self.guides = guides
        self.batch = data.sample(random.Random(7), count)
        text = "\n".join(self.batch["captions"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "captions.txt").write_text(text + "\n")

    @torch.no_grad()
    def __call__(self, modules: Mapping[str, nn.Module], step: int) -> None:
        """Rows: truth; for each guide itself, where it is not the truth, and held to it; text
        alone."""
        encoder: Any = modules["text_encoder"]
        text = encode_text(encoder, self.tokenizer, self.batch["captions"])
        empty = encode_text(encoder, self.tokenizer, [""])
        true = self.batch["latents"]
        start = start_noise((len(true), 4, 1, *true.shape[-2:]), true.device)
        rows = [self.batch["colour"][:, 0].float() / 255]
        for guide in (*self.guides, None):
            control = still_control(modules, guide, self.batch) if guide else None
            if guide in self.batch:
                rows.append(self.batch[guide].float() / 255)
            made = sample(modules["unet"], self.scheduler, text, empty, start, control)
            rows.append(decode(self.vae, made[:, :, 0]))
        write_grid(rows, self.folder / f"image_{step:06d}.png")


def train_image(
    modules: Mapping[str, nn.Module],
    learns: Collection[str],
    vae: Vae,
    tokenizer: CLIPTokenizer,
    scheduler: DDIMScheduler,
    data: Shards,
    held_out: Shards,
    folder: Path,
    config: LoopConfig,
    teaching: Teaching,
    emphasis: Emphasis,
) -> Mapping[str, nn.Module]:
    """Train those that ``learns`` names of ``unet``, ``text_encoder`` and the guides' encoders;
    returns their averaged weights.

    ``data`` holds stills with the fields latents, the pixel guides of ``teaching`` and those of
    ``emphasis``; ``held_out`` also colour.
    """
    rng = random.Random(config.seed)
    noise = torch.Generator(data.device).manual_seed(config.seed)
    text_encoder: Any = modules["text_encoder"]
    attend_in_products(*modules.values())

    def loss_of(step: int) -> Tensor:
        if step % 100 == 0:
            data.refresh()
        batch = data.sample(rng, config.batch)
        flip = rng.random() < 0.5
        clean = still_latents(batch, flip)
        guide = teaching.guide(rng)
        captions = teaching.captions(batch["captions"], rng)
        noisy, time, target = noisy_and_target(scheduler, clean, noise, emphasis.timestep_shift)
        places = batch["regions"][:, 0] if guide and emphasis.fields else None
        if places is not None and flip:
            places = places.flip(-1)
        with half_precision(data.device), nullcontext() if places is None else ground.watching():
            text = encode_text(text_encoder, tokenizer, captions)
            control = None
            if guide:
                control = still_control(modules, guide, batch, flip)
                control.condition = teaching.blur_some(control.condition, guide, rng)
            prediction = predict(modules["unet"], noisy, time, text, control)
            loss = diffusion_loss(prediction, target)
            if places is not None:
                loss = loss + emphasis.grounding * ground.loss(captions, places)
                loss = loss + emphasis.recognition * recognition.loss(places)
        return loss

    for name in set(modules) - set(learns):
        modules[name].requires_grad_(False)
    encoders: Any = [modules[GUIDE_FOLDERS[guide]] for guide in teaching.guides]
    recognition = Recognition(encoders[0]).to(data.device)
    learning = {name: modules[name] for name in learns}
    loop = Loop(folder, "image", {**learning, "recognition": recognition}, config)
    loop.draw_anew(rng, noise)
    # Only now, since the loop's averaged copies are not to be watched.
    unet: Any = modules["unet"]
    ground = Grounding(unet, tokenizer)
    for encoder in encoders:
        recognition.watch(encoder)
    grid = StillGrid(held_out, vae, tokenizer, scheduler, folder / "grids", list(teaching.guides))
    loop.run(loss_of, lambda averaged, step: grid({**modules, **averaged}, step))
    return {name: loop.average.modules[name] for name in learns}
