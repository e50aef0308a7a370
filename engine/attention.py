"""What the motion modules' attention sees: for each frame, which frames, and at which positions.

Two kinds besides the published one, in which each frame sees all frames:

- "causal" (Make-Your-Video, Xing et al. 2023, section 3.3): a frame sees itself and the frames
  before it, ``span`` frames at most. What comes later has no effect on it, to the last bit. From
  the frame ``span`` on, positions are counted from the first frame seen, as the last frame of a
  clip of ``span`` frames has it; clips may so be longer than the positions that the model knows.
- "window" (AnimateZero, Yu et al. 2023, section 4.2, positional-corrected window attention): a
  frame sees the frames from the first to itself, as many times the first as are missing to the
  clip's length; the frames seen get the clip's positions in order and the seeing frame the last of
  them. It keeps frames close to the first. In the UNet's encoder only; the decoder sees all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import SparseControlNetModel, UNetMotionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn


class Sight(NamedTuple):
    """What one frame sees: its own position, the frames, and their positions, all from 0."""

    position: int
    frames: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class TemporalAttention:
    """``kind`` is "causal" or "window"; ``span`` (1 and more) belongs to "causal" alone."""

    kind: str
    span: int = 0

    @staticmethod
    def asked(sampling: Mapping[str, Any]) -> "TemporalAttention | None":
        """The attention that a request's ``sampling`` asks for, or None for the published one."""
        stored = sampling.get("attention")
        return None if stored is None else TemporalAttention(stored["kind"], stored.get("span", 0))

    def sights(self, frames: int) -> list[Sight]:
        """What each frame of a clip of ``frames`` frames sees."""
        return [
            _causal(frame, self.span) if self.kind == "causal" else _window(frame, frames)
            for frame in range(frames)
        ]

    @contextmanager
    def applied(
        self, unet: UNetMotionModel, encoders: Iterable[SparseControlNetModel]
    ) -> Iterator[None]:
        """Inside the block ``unet`` attends so, and, where it is causal, the control ``encoders``.

        A window leaves the encoders as they are: a keyframe is to reach the frames before it too.
        """
        if self.kind == "causal":
            roots: list[nn.Module] = [unet, *encoders]
        else:
            roots = [unet.down_blocks]
        changed = []
        try:
            for block in _motion_blocks(roots):
                attentions = [block.attn1] + [block.attn2] * (block.attn2 is not None)
                changed.append((block, block.pos_embed, [a.processor for a in attentions]))
                for attention in attentions:
                    attention.set_processor(SightProcessor(self.sights, block.pos_embed))
                # The block would add one position to a frame; here it depends on who is looking.
                block.pos_embed = None
            yield
        finally:
            for block, positions, processors in changed:
                block.pos_embed = positions
                block.attn1.set_processor(processors[0])
                if block.attn2 is not None:
                    block.attn2.set_processor(processors[1])


def _causal(frame: int, span: int) -> Sight:
    first = max(0, frame - span + 1)
    seen = tuple(range(first, frame + 1))
    return Sight(frame - first, seen, tuple(range(len(seen))))


def _window(frame: int, frames: int) -> Sight:
    missing = frames - frame - 1
    return Sight(frames - 1, (0,) * missing + tuple(range(frame + 1)), tuple(range(frames)))


def _motion_blocks(roots: Iterable[nn.Module]) -> Iterator[BasicTransformerBlock]:
    for root in roots:
        for module in root.modules():
            if isinstance(module, AnimateDiffTransformer3D):
                yield from module.transformer_blocks


class SightProcessor:
    """Self-attention over frames by what ``sights(frames)`` says; ``positions`` are the block's.

    A frame's position enters its query, key and value through linear layers, so that it can be
    added behind them: frames go through these once, however many see them at however many places.
    """

    def __init__(
        self,
        sights: Callable[[int], list[Sight]],
        positions: SinusoidalPositionalEmbedding | None = None,
    ) -> None:
        self._sights = sights
        self._positions = positions

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend over the frames of ``hidden_states`` [pixels, frames, channels]; likewise."""
        frames = hidden_states.shape[1]
        sights = self._sights(frames)
        at = None if self._positions is None else self._positions.pe[0].to(hidden_states)
        if all(sight.position == k and _in_place(sight) for k, sight in enumerate(sights)):
            seen = self._together(attn, hidden_states, sights, at)
        else:
            seen = self._one_by_one(attn, hidden_states, sights, at)
        return attn.to_out[1](attn.to_out[0](seen))

    def _together(
        self, attn: Attention, x: torch.Tensor, sights: list[Sight], at: torch.Tensor | None
    ) -> torch.Tensor:
        """Every frame has one position, its own: what is not seen is masked."""
        if at is not None:
            x = x + at[: x.shape[1]]
        mask = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
        for frame, sight in enumerate(sights):
            mask[frame, list(sight.frames)] = True
        query, key, value = (
            split_heads(attn, layer(x)) for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        return join_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=mask))

    def _one_by_one(
        self, attn: Attention, x: torch.Tensor, sights: list[Sight], at: torch.Tensor | None
    ) -> torch.Tensor:
        query, key, value = attn.to_q(x), attn.to_k(x), attn.to_v(x)
        made = []
        for frame, (position, frames, positions) in enumerate(sights):
            q, k, v = query[:, frame : frame + 1], key[:, list(frames)], value[:, list(frames)]
            if at is not None:
                q = q + F.linear(at[position : position + 1], attn.to_q.weight)
                k = k + F.linear(at[list(positions)], attn.to_k.weight)
                v = v + F.linear(at[list(positions)], attn.to_v.weight)
            q, k, v = (split_heads(attn, part) for part in (q, k, v))
            made.append(join_heads(F.scaled_dot_product_attention(q, k, v)))
        return torch.cat(made, dim=1)


def _in_place(sight: Sight) -> bool:
    return sight.frames == sight.positions


def split_heads(attn: Attention, x: torch.Tensor) -> torch.Tensor:
    """[n, places, channels] -> [n, heads, places, channels / heads]."""
    return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def join_heads(x: torch.Tensor) -> torch.Tensor:
    """What ``split_heads`` took apart, together again."""
    return x.transpose(1, 2).flatten(2)
