"""A picture as the clip's first frame, kept exactly: AnimateZero's appearance control.

Source: AnimateZero (Yu et al. 2023), section 4.1. At each step the latents on the picture's own way
from noise take the place of frame 0, and the spatial self-attention of all frames looks at frame
0's keys and values, so that the others take over what it shows. No weight is trained. The picture
is the image model's own (``Recorded``), as in the paper, or one from elsewhere (``Renoised``).
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin, UNetMotionModel
from diffusers.models.attention_processor import Attention

from .attention import join_heads, split_heads

# Given a scheduler set to its steps, and the first one that is made: frame 0's latents [C, h, w]
# before each of them and, last, after all of them.
Trajectory: TypeAlias = Callable[[SchedulerMixin, int], Iterator[torch.Tensor]]
# The image model, guided: what it predicts for one picture's latents [1, C, 1, h, w] at a timestep.
Painter: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def generated(sampling: Mapping[str, Any]) -> bool:
    """Whether a request's ``sampling`` asks for a first picture of the image model's own."""
    return bool(sampling.get("first_frame", {}).get("generated"))


@dataclass(frozen=True)
class Renoised:
    """A finished picture's way from noise: at each step it is covered by as much of one noise as
    the schedule has there. ``latent`` and ``noise`` are float32 [C, h, w]; the noise is frame 0's
    of the clip's starting noise, so that the clip begins as it would without the picture.

    A picture from elsewhere has no latents of its own generation, which the paper inserts.
    """

    latent: torch.Tensor
    noise: torch.Tensor

    def __call__(self, scheduler: SchedulerMixin, begin: int) -> Iterator[torch.Tensor]:
        """The latents before each of the scheduler's steps, and the picture's own after the last.

        The last is ``latent`` to the bit.
        """
        for t in scheduler.timesteps[begin:]:
            yield scheduler.add_noise(self.latent[None], self.noise[None], t.reshape(1))[0]
        yield self.latent


@dataclass(frozen=True)
class Recorded:
    """A picture that ``painter`` makes, by its own way from noise: what the paper inserts.

    ``noise`` is float32 [1, C, 1, h, w]; ``clean``, of the same shape, is the picture that a later
    pass begins with; ``generator`` (on the CPU) feeds schedules that add noise on the way.
    """

    painter: Painter
    noise: torch.Tensor
    generator: torch.Generator
    clean: torch.Tensor | None = None

    def __call__(self, scheduler: SchedulerMixin, begin: int) -> Iterator[torch.Tensor]:
        """The picture's latents before each step, and its finished ones after the last.

        A step is made when what follows it is asked for: beside the clip's own, so that one cancel
        stops both, and residuals of its timestep serve both.
        """
        scheduler = copy.deepcopy(scheduler)  # some remember the steps before
        latents = first_latents(scheduler, self.noise, self.clean, begin)
        step = stepper(scheduler, self.generator)
        for t in scheduler.timesteps[begin:]:
            yield latents[0, :, 0]
            predicted = self.painter(scheduler.scale_model_input(latents, t), t)
            latents = step(predicted, t, latents).prev_sample
        yield latents[0, :, 0]


def first_latents(
    scheduler: SchedulerMixin, noise: torch.Tensor, clean: torch.Tensor | None, begin: int
) -> torch.Tensor:
    """What sampling starts with: ``noise``, or ``clean`` covered by it as before step ``begin``."""
    if clean is None:
        return noise * scheduler.init_noise_sigma
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    return scheduler.add_noise(clean, noise, scheduler.timesteps[begin : begin + 1])


def stepper(scheduler: SchedulerMixin, generator: torch.Generator) -> Callable[..., Any]:
    """``scheduler.step``, given ``generator`` where it adds noise on the way."""
    if "generator" in inspect.signature(scheduler.step).parameters:
        return partial(scheduler.step, generator=generator)
    return scheduler.step


def with_first(latents: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """``latents`` [1, C, F, h, w] with ``first`` [C, h, w] as frame 0; the others unchanged."""
    latents = latents.clone()
    latents[:, :, 0] = first
    return latents


@contextmanager
def first_frame_shared(unet: UNetMotionModel, frames: int) -> Iterator[None]:
    """Inside the block the spatial self-attention of all ``frames`` frames of a clip has the keys
    and values of the first. Cross-attention and motion modules stay as they are.
    """
    shared = SharedFirstFrame(frames)
    changed = []
    try:
        for name, module in unet.named_modules():
            if ".attentions." in name and name.endswith(".attn1"):
                changed.append((module, module.processor))
                module.set_processor(shared)
        yield
    finally:
        for module, processor in changed:
            module.set_processor(processor)


@contextmanager
def each_by_itself(unet: UNetMotionModel) -> Iterator[None]:
    """Inside the block pictures go through ``unet`` one by one, also where a clip shares keys."""
    processors = {m.processor for m in unet.modules() if isinstance(m, Attention)}
    shared = [each for each in processors if isinstance(each, SharedFirstFrame)]
    held = [each.frames for each in shared]
    try:
        for each in shared:
            each.frames = 1
        yield
    finally:
        for each, frames in zip(shared, held, strict=True):
            each.frames = frames


class SharedFirstFrame:
    """Self-attention within each of a clip's ``frames`` pictures, with the first one's keys and
    values.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``hidden_states`` [clips*frames, pixels, channels], a clip's frames side by side."""
        query = attn.to_q(hidden_states)
        first = hidden_states[:: self.frames]
        key, value = (
            layer(first).repeat_interleave(self.frames, dim=0) for layer in (attn.to_k, attn.to_v)
        )
        query, key, value = (split_heads(attn, part) for part in (query, key, value))
        seen = join_heads(F.scaled_dot_product_attention(query, key, value))
        return attn.to_out[1](attn.to_out[0](seen))
