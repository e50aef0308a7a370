"""The control branch: residuals that hold the UNet to the conditions.

SparseCtrl's encoder is given zeros in place of the noisy latents, so what it returns depends only
on condition, text and timestep. It is computed once for each and kept: another seed, strength or
guidance scale of the same shot uses it again, bit for bit the same.
"""

import time
from collections.abc import Callable, Hashable, Sequence

import torch
from diffusers import SparseControlNetModel

from .conditions import Condition
from .device import synchronise
from .text import per_frame
from .windows import Window, window_condition, window_text

# One tensor for each skip connection of the UNet and, last, one for its middle;
# each [batch*frames, channels, h, w].
Residuals = tuple[torch.Tensor, ...]


class ResidualCache:
    """Residuals kept on the device that made them, within a budget of bytes.

    What a new request cannot use goes first. When the budget is full nothing more is taken in:
    throwing out the oldest would, for steps that always come in the same order, throw out exactly
    what the next take asks for first.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: dict[Hashable, dict[Hashable, Residuals]] = {}

    def keep_only(self, owners: Sequence[Hashable]) -> None:
        """Drop everything that belongs to none of ``owners``."""
        self._kept = {owner: kept for owner, kept in self._kept.items() if owner in owners}

    def get(self, owner: Hashable, moment: Hashable, compute: Callable[[], Residuals]) -> Residuals:
        """The residuals of ``owner`` at ``moment``, computed where they are not kept."""
        kept = self._kept.setdefault(owner, {})
        if moment in kept:
            return kept[moment]
        made = compute()
        if self._size() + _bytes(made) <= self.budget:
            kept[moment] = made
        return made

    def _size(self) -> int:
        return sum(_bytes(made) for kept in self._kept.values() for made in kept.values())


def _bytes(residuals: Residuals) -> int:
    return sum(r.numel() * r.element_size() for r in residuals)


class ControlBranch:
    """All controls of one request, summed.

    ``controls`` are encoder and condition in the request's order, which fixes the order of the sum;
    ``text`` is [guidance halves, tokens, channels], or [guidance halves, F, tokens, channels];
    ``latent_shape`` is [C, F, h, w]; ``identity`` stands for everything else that the residuals
    depend on (weights, text, plan). ``seconds`` adds up what computing took.
    """

    def __init__(
        self,
        controls: Sequence[tuple[SparseControlNetModel, Condition]],
        text: torch.Tensor,
        latent_shape: torch.Size,
        cache: ResidualCache,
        identity: Hashable,
    ) -> None:
        self.seconds = 0.0
        self._controls = controls
        self._text = text
        self._latent_shape = latent_shape
        self._cache = cache
        self._owners = [(identity, latent_shape, condition.key) for _, condition in controls]
        cache.keep_only(self._owners)

    def at(
        self,
        t: torch.Tensor,
        halves: slice,
        share: float = 0.0,
        window: Window | None = None,
    ) -> Residuals | None:
        """Residuals for these guidance halves at timestep ``t``; None where nothing controls.

        ``share``, 0 to 1, is how much of the schedule is done: each control has its part of it.
        Only the frames of ``window``, where one is given, are computed, as a clip of their own.
        """
        total: Residuals | None = None
        started = time.perf_counter()
        for (encoder, condition), owner in zip(self._controls, self._owners, strict=True):
            if not condition.start <= share < condition.end:
                continue
            moment: tuple[Hashable, ...] = (t.item(), halves.start, halves.stop)
            text = self._text[halves]
            if window is not None:
                condition, text = window_condition(condition, window), window_text(text, window)
                # Windows that show the same share what is kept, unless their texts may differ.
                moment = (*moment, condition.key, window if text.ndim == 4 else None)

            def compute(
                encoder: SparseControlNetModel = encoder,
                condition: Condition = condition,
                text: torch.Tensor = text,
            ) -> Residuals:
                return self._run(encoder, condition, t, text)

            made = _scaled(self._cache.get(owner, moment, compute), condition.strengths)
            total = (
                made if total is None else tuple(a + b for a, b in zip(total, made, strict=True))
            )
        synchronise(self._text.device)
        self.seconds += time.perf_counter() - started
        return total

    def _run(
        self,
        encoder: SparseControlNetModel,
        condition: Condition,
        t: torch.Tensor,
        text: torch.Tensor,
    ) -> Residuals:
        channels, _, height, width = self._latent_shape
        frames = condition.mask.shape[2]
        skips, middle = encoder(
            text.new_zeros((text.shape[0], channels, frames, height, width)),
            t,
            encoder_hidden_states=per_frame(text, frames),
            controlnet_cond=condition.values,
            conditioning_mask=condition.mask,
            return_dict=False,
        )
        return (*skips, middle)


def _scaled(residuals: Residuals, strengths: torch.Tensor) -> Residuals:
    if bool((strengths == 1).all()):
        return residuals
    halves = residuals[0].shape[0] // len(strengths)
    factor = strengths.to(residuals[0]).repeat(halves)[:, None, None, None]
    return tuple(residual * factor for residual in residuals)
