"""A chosen picture as the clip's first frame, kept exactly: AnimateZero's appearance control.

Source: AnimateZero (Yu et al. 2023), section 4.1. At each step the latents on the picture's own way
from noise take the place of frame 0, and the spatial self-attention of all frames looks at frame
0's keys and values, so that the others take over what it shows. No weight is trained.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin, UNetMotionModel
from diffusers.models.attention_processor import Attention

from .attention import join_heads, split_heads

# Given a scheduler set to its steps, frame 0's latents [C, h, w] before each of them and, last,
# after all of them.
Trajectory: TypeAlias = Callable[[SchedulerMixin], list[torch.Tensor]]


@dataclass(frozen=True)
class Renoised:
    """A finished picture's way from noise: at each step it is covered by as much of one noise as
    the schedule has there. ``latent`` and ``noise`` are float32 [C, h, w]; the noise is frame 0's
    of the clip's starting noise, so that the clip begins as it would without the picture.

    The paper has the latents of the picture's own generation, which a picture from elsewhere
    does not have.
    """

    latent: torch.Tensor
    noise: torch.Tensor

    def __call__(self, scheduler: SchedulerMixin) -> list[torch.Tensor]:
        """The latents before each of the scheduler's steps, and the picture's own after the last.

        The last is ``latent`` to the bit.
        """
        covered = [
            scheduler.add_noise(self.latent[None], self.noise[None], t.reshape(1))[0]
            for t in scheduler.timesteps
        ]
        return [*covered, self.latent]


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


class SharedFirstFrame:
    """Self-attention within each of a clip's ``frames`` pictures, with the first one's keys and
    values.
    """

    def __init__(self, frames: int) -> None:
        self._frames = frames

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
        first = hidden_states[:: self._frames]
        key, value = (
            layer(first).repeat_interleave(self._frames, dim=0) for layer in (attn.to_k, attn.to_v)
        )
        query, key, value = (split_heads(attn, part) for part in (query, key, value))
        seen = join_heads(F.scaled_dot_product_attention(query, key, value))
        return attn.to_out[1](attn.to_out[0](seen))
