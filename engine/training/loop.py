"""The loop all stages share: steps within a time budget, averaged weights, resumable, with ETA."""

import copy
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import together
from .data import save_atomically
from .muon import Muon

OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class LoopConfig:
    """How to take steps. The learning rate warms up, then falls along a cosine over the budget,
    to ``last_rate`` of itself. ``optimizer`` is "adamw", or "muon": matrices by Muon, embeddings
    and vectors by AdamW.

    The budget is ``minutes`` of the clock, or ``steps`` where that is given and reached first.
    Pictures are drawn every ``sample_seconds`` and at the end; 0: never, since with large clips
    on a CPU a grid takes minutes.
    """

    minutes: float
    learning_rate: float
    batch: int
    warmup: int = 100
    average: float = 0.999
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    log_seconds: float = 20.0
    save_seconds: float = 90.0
    sample_seconds: float = 480.0
    last_rate: float = 0.05
    steps: int | None = None
    seed: int = 0
    optimizer: str = "adamw"


# The average is taken every so many steps: it costs a pass over all weights.
_AVERAGE_EVERY = 4
# Between the seeds of one step and the next: a prime above those of the processes (see ``Run``).
_SEEDS_APART = 1_000_000_007
# On a graphics card losses are looked at only now and then: it makes the computer wait for it.
_LOOK_EVERY = 8


class Average:
    """Exponential moving average of modules' weights, quick at first (1/step) and then slow."""

    def __init__(self, modules: Mapping[str, nn.Module], decay: float):
        self.modules: dict[str, Any] = {
            n: copy.deepcopy(m).eval().requires_grad_(False) for n, m in modules.items()
        }
        self.decay = decay

    @torch.no_grad()
    def update(self, modules: Mapping[str, nn.Module], step: int) -> None:
        """Take in the weights after a step (most steps are skipped, and made up for)."""
        if step % _AVERAGE_EVERY:
            return
        decay = min(self.decay, (1 + step) / (10 + step)) ** _AVERAGE_EVERY
        for name, module in modules.items():
            averaged: list[Tensor] = list(self.modules[name].parameters())
            torch._foreach_lerp_(averaged, list(module.parameters()), 1 - decay)


@contextmanager
def averaged_weights(
    modules: Mapping[str, nn.Module], averaged: Mapping[str, nn.Module]
) -> Iterator[None]:
    """Give ``modules`` the averaged weights for a while, to draw pictures with."""

    def swap() -> None:
        for name, module in modules.items():
            pairs = zip(module.parameters(), averaged[name].parameters(), strict=True)
            for mine, mean in pairs:
                mine.data, mean.data = mean.data, mine.data

    swap()
    try:
        yield
    finally:
        swap()


class Stopped(Exception):
    """A stage was asked to stop before its time; what it needs to go on is saved."""


class Loop:
    """Trains ``modules``; keeps everything needed to go on in ``folder/<stage>.pt``.

    Of processes that train together (see ``together``) each calls it with batches of its own.
    """

    def __init__(
        self, folder: Path, stage: str, modules: Mapping[str, nn.Module], config: LoopConfig
    ):
        self.path, self.stage, self.config = folder / f"{stage}.pt", stage, config
        self.modules = dict(modules)
        self.step, self.elapsed = 0, 0.0
        self.optimizers = self._optimizers()
        self.average = Average(self.modules, config.average)
        if self.path.exists():
            self._resume()
        together.start_alike([*self.modules.values(), *self.average.modules.values()])

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        config, optimizers = self.config, list[torch.optim.Optimizer]()
        matrices = [p for p in self._parameters() if p.dim() > 1]
        if config.optimizer == "muon":
            # Rows of an embedding are looked up one by one: they are vectors.
            embedded = {
                id(part.weight)
                for module in self.modules.values()
                for part in module.modules()
                if isinstance(part, nn.Embedding)
            }
            whole = [p for p in matrices if id(p) not in embedded]
            matrices = [p for p in matrices if id(p) in embedded]
            optimizers.append(Muon(whole, config.learning_rate, config.weight_decay))
        groups: list[dict[str, Any]] = [
            {"params": matrices},
            {"params": [p for p in self._parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        optimizers.append(
            torch.optim.AdamW(
                [group for group in groups if group["params"]],
                lr=config.learning_rate,
                betas=(0.9, 0.98),
                weight_decay=config.weight_decay,
                fused=True,
            )
        )
        return optimizers

    def _parameters(self) -> list[nn.Parameter]:
        return [p for module in self.modules.values() for p in module.parameters()]

    def _resume(self) -> None:
        device = self._parameters()[0].device
        state = torch.load(self.path, weights_only=True, map_location=device)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
            self.average.modules[name].load_state_dict(state["average"][name])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step, self.elapsed = state["step"], state["elapsed"]

    def draw_anew(self, rng: random.Random, noise: torch.Generator | None = None) -> None:
        """Let a stage that goes on draw other batches and other noise than those it began with.

        ``rng`` and ``noise`` come seeded with the config's ``seed``, and stay so at step 0.
        """
        if self.step:
            seed = self.config.seed + _SEEDS_APART * self.step
            rng.seed(seed)
            if noise is not None:
                noise.manual_seed(seed)

    def save(self) -> None:
        """Write the whole state."""
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "average": {name: m.state_dict() for name, m in self.average.modules.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "elapsed": self.elapsed,
        }
        save_atomically(state, self.path)

    def _spent(self) -> float:
        """The share of the budget that is used up, 1 at the end."""
        if self.config.minutes <= 0:
            return 1.0
        by_steps = self.step / self.config.steps if self.config.steps else 0.0
        return min(1.0, max(by_steps, self.elapsed / (60 * self.config.minutes)))

    def _rate(self) -> float:
        share = self._spent()
        low = self.config.last_rate
        cosine = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share))
        return self.config.learning_rate * cosine * min(1.0, (self.step + 1) / self.config.warmup)

    def run(
        self,
        loss_of: Callable[[int], Tensor],
        sample: Callable[[Mapping[str, nn.Module], int], None] | None = None,
    ) -> float:
        """Step until the budget is spent; returns the last mean loss.

        ``loss_of(step)`` gives a scalar; ``sample(averaged modules, step)`` is called now and then
        to draw pictures. A loss that is not finite raises RuntimeError; the state on disk is then
        the last good one. Raises Stopped, the state saved, after the step in which Ctrl-C or
        SIGTERM came.
        """
        asked = threading.Event()
        with together.on_stop_signals(asked.set):
            return self._run(loss_of, sample, asked)

    def _run(
        self,
        loss_of: Callable[[int], Tensor],
        sample: Callable[[Mapping[str, nn.Module], int], None] | None,
        asked: threading.Event,
    ) -> float:
        config, parameters = self.config, self._parameters()
        every = 1 if parameters[0].device.type == "cpu" else _LOOK_EVERY
        started = logged = saved = sampled = time.monotonic()
        before = self.elapsed
        unseen: list[Tensor] = []
        losses: list[float] = []
        mean, stopped = math.nan, False
        if not together.leads() or not config.sample_seconds:
            sample = None
        while self._spent() < 1 and not stopped:
            loss = loss_of(self.step)
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            together.average_gradients(parameters)
            nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self._rate()
                optimizer.step()
            self.step += 1
            self.average.update(self.modules, self.step)
            unseen.append(loss.detach())
            if self.step % every == 0:
                losses += self._looked_at(unseen)
                now = time.monotonic()
                if together.leads() and now - logged > config.log_seconds:
                    mean = sum(losses) / len(losses)
                    self._log(mean, len(losses) / (now - logged))
                    losses, logged = [], now
                if together.leads() and now - saved > config.save_seconds:
                    self.save()
                    saved = time.monotonic()
                if sample is not None and now - sampled > config.sample_seconds:
                    sample(self.average.modules, self.step)
                    sampled = time.monotonic()
            self.elapsed = together.agree(before + time.monotonic() - started)
            stopped = bool(together.agree(asked.is_set()))
        losses += self._looked_at(unseen)
        if losses:
            mean = sum(losses) / len(losses)
        if together.leads():
            self.save()
        if stopped:
            # A process that ends takes the others with it, and the first may still be writing.
            together.wait()
            raise Stopped(
                f"Stage {self.stage} stopped after step {self.step}, and all of it is saved: the "
                "same command goes on from there."
            )
        if sample is not None:
            sample(self.average.modules, self.step)
        return mean

    def _looked_at(self, unseen: list[Tensor]) -> list[float]:
        """The values of the losses since the last look, all of them numbers; empties the list."""
        values = torch.stack(unseen).tolist() if unseen else []
        unseen.clear()
        for value in values:
            if not math.isfinite(value):
                raise RuntimeError(
                    f"Training stage {self.stage} lost its way before step {self.step}: the loss "
                    f"is {value}. Lower the learning rate and start it again."
                )
        return values

    def _log(self, loss: float, pace: float) -> None:
        left = 60 * self.config.minutes - self.elapsed
        record = {
            "stage": self.stage,
            "step": self.step,
            "loss": round(loss, 5),
            "steps_per_second": round(pace, 2),
            "minutes_left": round(left / 60, 1),
            "learning_rate": self._rate(),
        }
        with self.path.with_suffix(".jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")
        print(
            f"{self.stage}: step {self.step}, loss {loss:.4f}, {pace:.2f} steps/s, "
            f"{left / 60:.1f} min left",
            flush=True,
        )
