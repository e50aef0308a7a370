"""Stages on clips: motion modules (AnimateDiff) and sparse control (SparseCtrl)."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from diffusers import DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ..motion import use_reference_normalisation
from ..vae import Vae, decode
from .data import Shards
from .diffusion import Control, diffusion_loss, noisy_and_target, predict, sample, tokens
from .image import blur_some, drop_text, pixel_condition
from .loop import Loop, LoopConfig
from .pictures import write_grid

# How often a clip of stage motion is held to depth on all frames.
GUIDED_MOTION = 0.5


def motion_model(unet: UNet2DConditionModel, adapter: MotionAdapter) -> UNetMotionModel:
    """The video model, with the adapter's own modules in it, so that training them trains it."""
    model = UNetMotionModel.from_unet2d(unet, adapter)
    blocks = zip(
        (*model.down_blocks, *model.up_blocks),
        (*adapter.down_blocks, *adapter.up_blocks),
        strict=True,
    )
    for block, motion in blocks:
        block.motion_modules = motion.motion_modules
    for name, parameter in model.named_parameters():
        if "motion_modules" not in name:
            parameter.requires_grad_(False)
    return use_reference_normalisation(model)


def random_keyframes(frames: int, rng: random.Random) -> list[int]:
    """Which frames have a guide: from one to all, often few (SparseCtrl, section 3.3)."""
    count = min(frames, rng.choice((1, 1, 2, 2, 3, 4, 6, 8, frames, frames)))
    if count > 1 and rng.random() < 0.5:
        # Evenly spread from the first to the last, as people place keyframes.
        return sorted({round(k * (frames - 1) / (count - 1)) for k in range(count)})
    return sorted(rng.sample(range(frames), count))


def sparse_control(
    encoder: SparseControlNetModel, guide: str, batch: dict, keyframes: Sequence[int]
) -> Control:
    """Control of clips on some frames; all other frames are zero, and so is their mask."""
    if guide == "render":
        condition = batch["latents"].float().transpose(1, 2)
    else:
        condition = pixel_condition(batch[guide])
    mask = torch.zeros_like(condition[:, :1])
    mask[:, :, list(keyframes)] = 1
    return Control(encoder, condition * mask, mask)


class ClipGrid:
    """Draws held-out clips: the true one, and one per number of keyframes."""

    def __init__(
        self,
        data: Shards,
        vae: Vae,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler: DDIMScheduler,
        path: Callable[[int], Path],
    ):
        self.vae, self.scheduler, self.path = vae, scheduler, path
        self.batch = data.sample(random.Random(3), 2)
        with torch.no_grad():
            ids = tokens(tokenizer, self.batch["captions"])
            self.text = text_encoder(ids).last_hidden_state
            self.empty = text_encoder(tokens(tokenizer, [""])).last_hidden_state

    @torch.no_grad()
    def draw(
        self, model: UNetMotionModel, encoder: SparseControlNetModel, guide: str, step: int
    ) -> None:
        """Rows: truth, all keyframes, first and last keyframe, none; two clips."""
        latents = self.batch["latents"].float().transpose(1, 2)
        frames = latents.shape[2]
        start = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
        made = []
        for keyframes in (range(frames), (0, frames - 1), None):
            control = None
            if keyframes is not None:
                control = sparse_control(encoder, guide, self.batch, keyframes)
            clip = sample(model, self.scheduler, self.text, self.empty, start, control, steps=10)
            pictures = decode(self.vae, clip.transpose(1, 2).flatten(0, 1))
            made.append(pictures.unflatten(0, (len(latents), frames)))
        rows = []
        for index in range(len(latents)):
            rows.append(self.batch["colour"][index].float() / 255)
            rows += [pictures[index] for pictures in made]
        write_grid([row[:: max(1, frames // 8)] for row in rows], self.path(step))


def _clip_batch(data: Shards, rng: random.Random, config: LoopConfig, step: int) -> dict:
    if step % 100 == 0:
        data.refresh()
    return data.sample(rng, config.batch)


def train_motion(
    unet: UNet2DConditionModel,
    adapter: MotionAdapter,
    text_encoder: CLIPTextModel,
    depth_encoder: SparseControlNetModel,
    vae: Vae,
    tokenizer: CLIPTokenizer,
    scheduler: DDIMScheduler,
    data: Shards,
    held_out: Shards,
    folder: Path,
    config: LoopConfig,
) -> MotionAdapter:
    """Train the motion modules with the image model frozen (AnimateDiff, section 4.2).

    Part of the clips are held to depth on every frame by the frozen encoder, since that is how the
    model is used most. Returns the averaged adapter.
    """
    model = motion_model(unet, adapter)
    use_reference_normalisation(depth_encoder)
    rng = random.Random(config.seed)
    noise = torch.Generator().manual_seed(config.seed)

    def loss_of(step: int) -> Tensor:
        batch = _clip_batch(data, rng, config, step)
        clean = batch["latents"].float().transpose(1, 2)
        ids = tokens(tokenizer, drop_text(batch["captions"], rng))
        noisy, time, target = noisy_and_target(scheduler, clean, noise)
        with torch.autocast("cpu", torch.bfloat16):
            text = text_encoder(ids).last_hidden_state
            control = None
            if rng.random() < GUIDED_MOTION:
                control = sparse_control(depth_encoder, "depth", batch, range(clean.shape[2]))
            prediction = predict(model, noisy, time, text, control)
        return diffusion_loss(prediction, target)

    grid = ClipGrid(
        held_out, vae, text_encoder, tokenizer, scheduler,
        lambda step: folder / "grids" / f"motion_{step:06d}.png",
    )  # fmt: skip

    def draw(modules: Mapping[str, nn.Module], step: int) -> None:
        averaged = motion_model(unet, modules["motion_adapter"])
        grid.draw(averaged, depth_encoder, "depth", step)

    loop = Loop(folder, "motion", {"motion_adapter": adapter}, config)
    loop.run(loss_of, draw)
    return loop.average.modules["motion_adapter"]


def train_sparsectrl(
    unet: UNet2DConditionModel,
    adapter: MotionAdapter,
    text_encoder: CLIPTextModel,
    encoder: SparseControlNetModel,
    guide: str,
    vae: Vae,
    tokenizer: CLIPTokenizer,
    scheduler: DDIMScheduler,
    data: Shards,
    held_out: Shards,
    folder: Path,
    config: LoopConfig,
) -> SparseControlNetModel:
    """Train a condition encoder with the whole video model frozen (SparseCtrl, section 3).

    Each clip has its own random keyframes. Returns the averaged encoder.
    """
    model = motion_model(unet, adapter).requires_grad_(False)
    use_reference_normalisation(encoder).requires_grad_(True)
    rng = random.Random(config.seed)
    noise = torch.Generator().manual_seed(config.seed)

    def loss_of(step: int) -> Tensor:
        batch = _clip_batch(data, rng, config, step)
        clean = batch["latents"].float().transpose(1, 2)
        ids = tokens(tokenizer, drop_text(batch["captions"], rng))
        noisy, time, target = noisy_and_target(scheduler, clean, noise)
        with torch.autocast("cpu", torch.bfloat16):
            text = text_encoder(ids).last_hidden_state
            keyframes = random_keyframes(clean.shape[2], rng)
            control = sparse_control(encoder, guide, batch, keyframes)
            control.condition = blur_some(control.condition, guide, rng)
            prediction = predict(model, noisy, time, text, control)
        return diffusion_loss(prediction, target)

    grid = ClipGrid(
        held_out, vae, text_encoder, tokenizer, scheduler,
        lambda step: folder / "grids" / f"sparsectrl_{guide}_{step:06d}.png",
    )  # fmt: skip

    def draw(modules: Mapping[str, nn.Module], step: int) -> None:
        grid.draw(model, modules["encoder"], guide, step)

    loop = Loop(folder, f"sparsectrl_{guide}", {"encoder": encoder}, config)
    loop.run(loss_of, draw)
    return loop.average.modules["encoder"]
