"""The stages on clips: motion modules (AnimateDiff), sparse control (SparseCtrl), LoRAs.

They differ in what learns, from which loss, and in what the clips are held to; the rest is
``train_on_clips``.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from diffusers import DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from torch import Tensor, nn

from ..motion import use_reference_normalisation
from ..vae import decode
from .data import Shards, cropped
from .diffusion import (
    Control,
    Frozen,
    attend_in_products,
    diffusion_loss,
    half_precision,
    noisy_and_target,
    predict,
    sample,
    side_under,
    start_noise,
)
from .image import Teaching, pixel_condition
from .loop import Loop, LoopConfig, averaged_weights
from .pictures import write_grid
from .recognition import Recognition


def motion_model(unet: UNet2DConditionModel, adapter: MotionAdapter) -> UNetMotionModel:
    """The video model, with the adapter's own modules in it, so that training them trains it.

    Its image layers are copies, and ``unet`` itself is left in the computer's memory.
    """
    model = UNetMotionModel.from_unet2d(unet, adapter).to(unet.device)
    unet.cpu()
    blocks = zip(
        (*model.down_blocks, *model.up_blocks),
        (*adapter.down_blocks, *adapter.up_blocks),
        strict=True,
    )
    for block, motion in blocks:
        block.motion_modules = motion.motion_modules
    if adapter.mid_block is not None:
        model.mid_block.motion_modules = adapter.mid_block.motion_modules
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


def all_frames(frames: int, rng: random.Random) -> list[int]:
    """A guide on every frame."""
    return list(range(frames))


def sparse_control(
    encoder: SparseControlNetModel, guide: str, batch: dict, keyframes: Sequence[int]
) -> Control:
    """Control of clips on some frames; all other frames are zero, and so is their mask."""
    if guide == "render":
        condition = batch["latents"].float().transpose(1, 2)
    else:
        condition = pixel_condition(batch[guide])
    keyed = torch.tensor(list(keyframes), device=condition.device)
    mask = torch.zeros_like(condition[:, :1]).index_fill(2, keyed, 1)
    return Control(encoder, condition * mask, mask, keyframes)


# Of clean latents, text, control, a generator on the latents' device and captions: a scalar.
ClipLoss: TypeAlias = Callable[
    [Tensor, Tensor, Control | None, torch.Generator, Sequence[str]], Tensor
]
# Of text, empty prompt, starting noise and control: latents.
ClipSampler: TypeAlias = Callable[[Tensor, Tensor, Tensor, Control | None], Tensor]


def diffusion_loss_of(
    model: UNetMotionModel, frozen: Frozen, steadiness: float = 0.0, shift: float = 1.0
) -> ClipLoss:
    """The loss that diffusion models are trained with.

    ``steadiness`` as in ``diffusion_loss``, ``shift`` as in ``noisy_and_target``.
    """

    def loss(
        clean: Tensor,
        text: Tensor,
        control: Control | None,
        noise: torch.Generator,
        _: Sequence[str] = (),
    ) -> Tensor:
        shared = side_under(frozen.shared_noise, control, clean.shape[2])
        noisy, time, target = noisy_and_target(frozen.scheduler, clean, noise, shift, shared)
        with half_precision(clean.device):
            prediction = predict(model, noisy, time, text, control)
        return diffusion_loss(prediction, target, steadiness)

    return loss


def guided_sampler(model: UNetMotionModel, scheduler: DDIMScheduler) -> ClipSampler:
    """Ten guided steps of the checkpoint's own schedule."""
    return lambda text, empty, start, control: sample(
        model, scheduler, text, empty, start, control, steps=10
    )


class ClipGrid:
    """Draws two held-out clips: the true ones, and some per number of keyframes."""

    def __init__(
        self,
        frozen: Frozen,
        sampler: ClipSampler,
        held_out: Shards,
        path: Callable[[int], Path],
    ):
        self.frozen, self.sampler, self.path = frozen, sampler, path
        self.batch = held_out.sample(random.Random(3), min(2, len(held_out)))
        with torch.no_grad():
            self.text = frozen.text(self.batch["captions"])
            self.empty = frozen.text([""])

    @torch.no_grad()
    def draw(self, encoders: Mapping[str, SparseControlNetModel], step: int) -> None:
        """Rows of a clip: truth, then, held to the first of ``encoders``, with a guide on all
        frames, on the first and last, and on none."""
        latents = self.batch["latents"].transpose(1, 2)
        frames = latents.shape[2]
        controls: list[Control | None] = [None]
        for guide, encoder in list(encoders.items())[:1]:
            for keyframes in ((0, frames - 1), range(frames)):
                controls.insert(0, sparse_control(encoder, guide, self.batch, keyframes))
        made = []
        for control in controls:
            shared = side_under(self.frozen.shared_noise, control, frames)
            start = start_noise(latents.shape, latents.device, shared)
            clip = self.sampler(self.text, self.empty, start, control)
            flat = clip.transpose(1, 2).flatten(0, 1)
            # A few at a time: large pictures take much memory.
            pictures = torch.cat([decode(self.frozen.vae, part) for part in flat.split(4)])
            made.append(pictures.unflatten(0, (len(latents), frames)))
        rows = []
        for index in range(len(latents)):
            rows.append(self.batch["colour"][index].float() / 255)
            rows += [pictures[index] for pictures in made]
        write_grid([row[:: max(1, frames // 8)] for row in rows], self.path(step))


def train_on_clips(
    stage: str,
    learns: Mapping[str, nn.Module],
    model: UNetMotionModel,
    encoders: Mapping[str, SparseControlNetModel],
    keyframes: Callable[[int, random.Random], Sequence[int]],
    frozen: Frozen,
    data: Shards,
    held_out: Shards,
    folder: Path,
    config: LoopConfig,
    teaching: Teaching,
    loss: ClipLoss | None = None,
    sampler: ClipSampler | None = None,
    recognition: float = 0.0,
    crop: int = 0,
) -> Mapping[str, nn.Module]:
    """Train ``learns``, which is inside ``model`` or ``encoders``; returns its averaged weights.

    ``loss`` and ``sampler``, which draws the grids, are those of a diffusion model by default.
    ``recognition`` weighs, beside it, the loss by which the encoders name the shapes in each frame,
    in those without a guide too; above 0 it needs the clips' field regions. ``crop`` is the side
    of the squares, in pixels, that are cut from the clips (see ``cropped``).

    Whatever else is to stay as it is takes no gradient already. A batch that ``teaching`` holds to
    a guide gets it on ``keyframes(number of frames, rng)``. Sources: AnimateDiff, section 4.2
    (motion modules beside a frozen image model) and 4.3 (MotionLoRA); SparseCtrl, section 3 (an
    encoder beside a frozen video model).
    """
    rng = random.Random(config.seed)
    noise = torch.Generator(data.device).manual_seed(config.seed)
    attend_in_products(model, *encoders.values())
    for encoder in encoders.values():
        use_reference_normalisation(encoder)
    loss = loss or diffusion_loss_of(model, frozen)
    sampler = sampler or guided_sampler(model, frozen.scheduler)

    def loss_of(step: int) -> Tensor:
        if step % 100 == 0:
            data.refresh()
        batch = cropped(data.sample(rng, config.batch), crop, rng)
        clean = batch["latents"].float().transpose(1, 2)
        captions = teaching.captions(batch["captions"], rng)
        guide = teaching.guide(rng)
        with half_precision(data.device):
            text = frozen.text(captions)
        control = None
        if guide:
            chosen = keyframes(clean.shape[2], rng)
            control = sparse_control(encoders[guide], guide, batch, chosen)
            control.condition = teaching.blur_some(control.condition, guide, rng)
        missed = loss(clean, text, control, noise, captions)
        if recogniser is not None and guide:
            missed = missed + recognition * recogniser.loss(batch["regions"].flatten(0, 1))
        return missed

    grid = ClipGrid(
        frozen, sampler, held_out, lambda step: folder / "grids" / f"{stage}_{step:06d}.png"
    )
    learn_together = dict(learns)
    recogniser = None
    if recognition:
        recogniser = Recognition(next(iter(encoders.values()))).to(data.device)
        learn_together["recognition"] = recogniser
    loop = Loop(folder, stage, learn_together, config)
    loop.draw_anew(rng, noise)
    if recogniser is not None:
        # Only now, since the loop's averaged copies are not to be watched.
        for encoder in encoders.values():
            recogniser.watch(encoder)

    def draw(averaged: Mapping[str, nn.Module], step: int) -> None:
        with averaged_weights(learns, averaged):
            grid.draw(encoders, step)

    loop.run(loss_of, draw)
    return {name: loop.average.modules[name] for name in learns}
