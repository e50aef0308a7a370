"""The control branch: residuals that hold the UNet to the conditions, of all controls together.

SparseCtrl's encoder is given zeros in place of the noisy latents, so what it returns depends only
on condition, text and timestep. It is computed once for each and kept: another seed, strength or
guidance scale of the same shot uses it again, bit for bit the same. An ordinary ControlNet sees
the noisy latents (``image_control``): nothing of it can be kept.
"""

import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from diffusers import ControlNetModel, SparseControlNetModel

from .conditions import Condition
from .device import Plan, free_memory, synchronise
from .image_control import Residuals, image_residuals
from .text import per_frame
from .windows import Window, window_condition, window_text

# Of the computer's memory, which Blender needs too; what is pinned there cannot be swapped out.
HOST_BUDGET = 16 * 2**30
# Whose residuals, and at which moment: a timestep and whatever else tells them apart.
Key: TypeAlias = tuple[Hashable, tuple[Hashable, ...]]


class ResidualCache:
    """Residuals kept for other takes: on the device that made them within ``budget`` bytes, then in
    the computer's own memory within ``host_budget``.

    What a new request cannot use goes first. When the budgets are full nothing more is taken in:
    throwing out the oldest would, for steps that always come in the same order, throw out exactly
    what the next take asks for first. In ``lockstep`` what finds no room stays until another step's
    residuals are asked for: takes made side by side, step by step, need no more.
    """

    def __init__(self, budget: int, host_budget: int = 0) -> None:
        self.budget = budget
        self.host_budget = host_budget
        self._kept: dict[Key, Residuals] = {}
        self._device: torch.device | None = None
        self._size = {"device": 0, "host": 0}
        self._full = False
        self._lockstep = False
        self._timestep: Hashable = None
        self._now: dict[Key, Residuals] = {}

    def keep_only(self, wanted: Collection[tuple[Hashable, float]]) -> None:
        """Drop everything but what these owners made at these timesteps."""
        kept = {key: made for key, made in self._kept.items() if (key[0], key[1][0]) in wanted}
        if len(kept) < len(self._kept) or not kept:
            self._full = False
        self._kept, self._size = kept, {"device": 0, "host": 0}
        for residuals in kept.values():
            if residuals[0].device == self._device:
                self._size["device"] += _bytes(residuals)
            else:
                self._size["host"] += _pinned_bytes(residuals)

    def holds(self, steps: float) -> bool:
        """Whether another take would find all residuals, ``steps`` times those of its first step;
        asked after that one.
        """
        # keep_only leaves nothing of other requests: both budgets are for this one.
        first = sum(_bytes(r) for (_, at), r in self._kept.items() if at[0] == self._timestep)
        return not self._full and first * steps <= self.budget + self.host_budget

    @contextmanager
    def lockstep(self) -> Iterator[None]:
        """Inside the block the residuals of the step at hand are kept, whatever the budget."""
        self._lockstep = True
        try:
            yield
        finally:
            self._lockstep, self._timestep, self._now = False, None, {}

    def get(
        self, owner: Hashable, moment: tuple[Hashable, ...], compute: Callable[[], Residuals]
    ) -> Residuals:
        """What ``owner`` made at ``moment`` (see ``Key``); computed where it is not kept."""
        key = owner, moment
        if moment[0] != self._timestep:
            self._timestep, self._now = moment[0], {}
        if key in self._kept:
            return tuple(r.to(self._device, non_blocking=True) for r in self._kept[key])
        if key in self._now:
            return self._now[key]
        made = compute()
        size, pinned, self._device = _bytes(made), _pinned_bytes(made), made[0].device
        if self._size["device"] + size <= self.budget:
            self._kept[key] = made
            self._size["device"] += size
        elif self._size["host"] + pinned <= self.host_budget:
            self._kept[key] = tuple(_in_host_memory(residual) for residual in made)
            self._size["host"] += pinned
        else:
            self._full = True
        if self._lockstep and self._kept.get(key) is not made:
            self._now[key] = made
        return made


def cache_for(plan: Plan, held: ResidualCache) -> ResidualCache:
    """``held``, or, where it has no room, one with room by what is free under ``plan``."""
    if min(plan.guidance_batch, plan.decode_batch) == 1:
        # A replay of a take for which memory was short: nothing was kept for it either.
        return ResidualCache(0)
    if held.budget > 0:
        return held
    device, host = plan.torch_device, 0
    if device.type == "cuda":
        host = min(free_memory(torch.device("cpu")) // 4, HOST_BUDGET)
    return ResidualCache(free_memory(device) // 4, host)


def _bytes(residuals: Residuals) -> int:
    return sum(r.numel() * r.element_size() for r in residuals)


def _pinned_bytes(residuals: Residuals) -> int:
    # torch rounds each up to a power of two (ATen/core/CachingHostAllocator.h).
    return sum(1 << (r.numel() * r.element_size() - 1).bit_length() for r in residuals)


def _in_host_memory(residual: torch.Tensor) -> torch.Tensor:
    # Pinned memory is copied back several times as fast.
    pinned = residual.device.type == "cuda"
    return torch.empty_like(residual, device="cpu", pin_memory=pinned).copy_(residual)


class ControlBranch:
    """All controls of one request, summed.

    ``controls`` are encoder and condition in the request's order, which fixes the order of the sum;
    ``text`` is [guidance halves, tokens, channels], or [guidance halves, F, tokens, channels];
    ``latent_shape`` is [C, F, h, w]; ``identity`` stands for everything else that the residuals
    depend on (weights, text, plan). ``seconds`` adds up what computing took.
    """

    def __init__(
        self,
        controls: Sequence[tuple[SparseControlNetModel | ControlNetModel, Condition]],
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
        self.owners = [(identity, latent_shape, condition.key) for _, condition in controls]

    def at(
        self,
        t: torch.Tensor,
        halves: slice,
        share: float = 0.0,
        window: Window | None = None,
        latents: torch.Tensor | None = None,
        frame: int | None = None,
    ) -> Residuals | None:
        """Residuals for these guidance halves at timestep ``t``; None where nothing controls.

        ``share``, 0 to 1, is how much of the schedule is done: each control has its part of it.
        Only the frames of ``window``, where one is given, are computed, as a clip of their own.
        ``latents`` [1, C, F, h, w], those frames as the UNet gets them, are what image encoders
        see; without such an encoder they may be left out. For one ``frame`` of the clip, as a
        picture, they are that frame's alone, and sparse encoders' what they make of the clip there.
        """
        total: Residuals | None = None
        started = time.perf_counter()
        for (encoder, condition), owner in zip(self._controls, self.owners, strict=True):
            factor = condition.factor_at(share)
            if not condition.start <= share < condition.end or factor == 0:
                continue
            guided = halves
            if condition.guess and len(self._text) > 1:
                # What the negative prompt makes goes its own way.
                guided = slice(max(halves.start, 1), halves.stop)
                if guided.start >= guided.stop:
                    continue
            moment: tuple[Hashable, ...] = (t.item(), guided.start, guided.stop)
            text = self._text[guided]
            if window is not None:
                condition, text = window_condition(condition, window), window_text(text, window)
                # Windows that show the same share what is kept, unless their texts may differ.
                moment = (*moment, condition.key, window if text.ndim == 4 else None)
            if isinstance(encoder, ControlNetModel):
                assert latents is not None, "an image encoder was given no latents"
                if frame is not None:
                    condition = window_condition(condition, (frame,))
                    text = window_text(text, (frame,))
                seen = image_residuals(encoder, condition, latents, t, text)
                if seen is not None:
                    seen = _in_steps(seen, factor, condition.guess, halves, guided)
                total = _sum(total, seen)
                continue

            def compute(
                encoder: SparseControlNetModel = encoder,
                condition: Condition = condition,
                text: torch.Tensor = text,
            ) -> Residuals:
                return self._run(encoder, condition, t, text)

            made = _scaled(self._cache.get(owner, moment, compute), condition.strengths)
            if frame is not None:
                made = tuple(each.unflatten(0, (len(text), -1))[:, frame] for each in made)
            total = _sum(total, _in_steps(made, factor, condition.guess, halves, guided))
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


def _sum(total: Residuals | None, more: Residuals | None) -> Residuals | None:
    if total is None or more is None:
        return more if total is None else total
    return tuple(a + b for a, b in zip(total, more, strict=True))


def _in_steps(
    residuals: Residuals, factor: float, guess: bool, halves: slice, guided: slice
) -> Residuals:
    """``residuals`` of the ``guided`` ones of the ``halves``, as all of them get them.

    In guess mode the deepest counts in full and the first skip a tenth, and the negative half gets
    none: the control then leads without a prompt. Source: lllyasviel/ControlNet, guess mode, and
    huggingface/diffusers, ``ControlNetModel.forward``, which forgets the negative half here.
    """
    if factor != 1:
        residuals = tuple(factor * each for each in residuals)
    if guess:
        depth = torch.logspace(-1, 0, len(residuals)).tolist()
        residuals = tuple(part * each for part, each in zip(depth, residuals, strict=True))
    if guided == halves:
        return residuals
    # Of two halves one is left.
    return tuple(torch.cat([torch.zeros_like(each), each]) for each in residuals)


def _scaled(residuals: Residuals, strengths: torch.Tensor) -> Residuals:
    if bool((strengths == 1).all()):
        return residuals
    halves = residuals[0].shape[0] // len(strengths)
    factor = strengths.to(residuals[0]).repeat(halves)[:, None, None, None]
    return tuple(residual * factor for residual in residuals)
