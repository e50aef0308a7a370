"""Few steps: latent consistency distillation into a LoRA, and learning in steps of one's own.

Sources of the first: LCM (Luo et al. 2023, arXiv 2310.04378), section 4; as a LoRA: arXiv
2311.05556; diffusers, examples/consistency_distillation/train_lcm_distill_lora_sd_wds.py. The
teacher is the model without the LoRA, under guidance; the student learns to say from anywhere on
the teacher's way to the clip what it says one step further on, so that all of them come to say the
clip itself. Source of the second: DMD2 (Yin et al. 2024, arXiv 2405.14867), section 4.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from diffusers import DDIMScheduler, UNetMotionModel
from torch import Tensor

from ..noise import noise_of
from ..schedules import LCM_PLACES, scheduler_for, shifted_times
from .captions import tells_colours
from .clips import ClipLoss
from .diffusion import (
    Control,
    Frozen,
    diffusion_loss,
    half_precision,
    predict,
    side_under,
)
from .low_rank import without_lora

# The pseudo-Huber loss's threshold, of diffusers' script.
_HUBER = 0.001


def _column(values: Tensor) -> Tensor:
    """[b] -> [b, 1, 1, 1, 1]."""
    return values.reshape(-1, 1, 1, 1, 1)


def levels(scheduler: DDIMScheduler, time: Tensor) -> tuple[Tensor, Tensor]:
    """What is left of the clip and how much noise there is, at ``time`` [b]: [b, 1, 1, 1, 1]."""
    kept = _column(scheduler.alphas_cumprod.to(time.device)[time])
    return kept.sqrt(), (1 - kept).sqrt()


def split(
    scheduler: DDIMScheduler, prediction: Tensor, noisy: Tensor, time: Tensor
) -> tuple[Tensor, Tensor]:
    """The clip and the noise that ``noisy`` is made of at ``time`` [b], by the model's
    ``prediction``; all are [b, c, f, h, w].
    """
    signal, noise = levels(scheduler, time)
    if scheduler.config.prediction_type == "v_prediction":
        return signal * noisy - noise * prediction, signal * prediction + noise * noisy
    return (noisy - noise * prediction) / signal, prediction


def _twice(control: Control | None) -> Control | None:
    if control is None:
        return None
    condition, mask = (torch.cat([t, t]) for t in (control.condition, control.mask))
    return replace(control, condition=condition, mask=mask)


@dataclass(frozen=True)
class Consistency:
    """The loss of a student, ``model`` with its LoRA, whose teacher is guided by ``guidance``.

    ``empty`` [1, l, d] is the empty prompt's encoding. The guidance becomes a part of the student:
    it is to be used with a guidance of 1. ``shift`` moves the places that it learns at, as those of
    sampling are moved (see ``schedules.shifted_times``).
    """

    model: UNetMotionModel
    scheduler: DDIMScheduler
    empty: Tensor
    guidance: float
    shared_noise: int = 0
    shift: float = 1.0

    def __call__(
        self,
        clean: Tensor,
        text: Tensor,
        control: Control | None,
        noise: torch.Generator,
        captions: Sequence[str] = (),
    ) -> Tensor:
        """The loss on latents ``clean`` [b, 4, f, h, w] under ``text`` [b, l, d].

        ``noise`` is a generator on the latents' device.
        """
        device = clean.device
        whole = self.scheduler.config.num_train_timesteps
        steps = whole // LCM_PLACES
        place = torch.randint(LCM_PLACES, (len(clean),), generator=noise, device=device)
        time = shifted_times((place + 1) * steps - 1, whole, self.shift)
        before = (time - steps).clamp(min=0)
        shared = side_under(self.shared_noise, control, clean.shape[2])
        covering = noise_of(noise, clean.shape, device, shared)
        noisy = self.scheduler.add_noise(clean, covering, time)
        with torch.no_grad():
            with without_lora(self.model), half_precision(device):
                both = predict(
                    self.model,
                    torch.cat([noisy, noisy]),
                    torch.cat([time, time]),
                    torch.cat([self.empty.expand_as(text), text]),
                    _twice(control),
                ).float()
            negative, positive = both.chunk(2)
            guided = negative + self.guidance * (positive - negative)
            clip, left = split(self.scheduler, guided, noisy, time)
            level = levels(self.scheduler, before)
            nearer = level[0] * clip + level[1] * left
            target = self.says(nearer, before, text, control)
        said = self.says(noisy, time, text, control)
        return (torch.sqrt((said - target) ** 2 + _HUBER**2) - _HUBER).mean()

    @cached_property
    def _lcm(self) -> Any:
        return scheduler_for("lcm", self.scheduler)

    def says(self, noisy: Tensor, time: Tensor, text: Tensor, control: Control | None) -> Tensor:
        """The clip that the student sees in ``noisy`` at ``time`` [b]; it cannot but say ``noisy``
        itself at 0 (LCM, equation 5).
        """
        with half_precision(noisy.device):
            prediction = predict(self.model, noisy, time, text, control).float()
        clip, _ = split(self.scheduler, prediction, noisy, time)
        own, seen = self._lcm.get_scalings_for_boundary_condition_discrete(_column(time))
        return own * noisy + seen * clip


def own_steps_loss_of(
    model: UNetMotionModel,
    frozen: Frozen,
    counts: Sequence[int],
    share: float,
    shift: float,
    steadiness: float,
    otherwise: ClipLoss,
) -> ClipLoss:
    """On a ``share`` of the batches the loss of what the model says in one of its own few steps,
    beside the true clip.

    A step leaves a mixture of what might be. In training on true clips the model never sees that,
    and in sampling it takes it for data. Here it takes its steps from pure noise as sampling does,
    in one of ``counts``, up to one of them, which is then to say the clip; ``shift`` as in
    ``scheduler_for``, ``steadiness`` as in ``diffusion_loss``. Where the true clip is one of many
    that would do, it would learn their mean (no guide: a blur; a town of red and blue towers:
    purple ones), so there, and on all other batches, it is the loss ``otherwise``.
    """

    def loss(
        clean: Tensor,
        text: Tensor,
        control: Control | None,
        noise: torch.Generator,
        captions: Sequence[str],
    ) -> Tensor:
        device = clean.device
        own = torch.rand((), generator=noise, device=device) < share
        if not own or control is None or not all(map(tells_colours, captions)):
            return otherwise(clean, text, control, noise, captions)

        def below(count: int) -> int:
            return int(torch.randint(count, (), generator=noise, device=device))

        steps = counts[below(len(counts))]
        shared = side_under(frozen.shared_noise, control, clean.shape[2])
        start = noise_of(noise, clean.shape, device, shared)
        noisy, time = take_steps(
            model, frozen, text, start, control, steps, shift, noise, until=below(steps)
        )
        at = time.expand(len(noisy))
        with half_precision(device):
            prediction = predict(model, noisy, at, text, control)
        said, _ = split(frozen.scheduler, prediction.float(), noisy, at)
        return diffusion_loss(said, clean, steadiness)

    return loss


@torch.no_grad()
def take_steps(
    model: UNetMotionModel,
    frozen: Frozen,
    text: Tensor,
    start: Tensor,
    control: Control | None,
    steps: int,
    shift: float,
    noise: torch.Generator,
    until: int,
) -> tuple[Tensor, Tensor]:
    """Latents [b, 4, f, h, w] from the noise ``start`` after ``until`` of LCM's ``steps`` without
    guidance, and the timestep [] of the step that comes next; after the last one, 0.

    ``shift`` as in ``schedules.scheduler_for``.
    """
    shared = side_under(frozen.shared_noise, control, start.shape[2])
    lcm = scheduler_for("lcm", frozen.scheduler, shared, shift)
    lcm.set_timesteps(steps)
    times = lcm.timesteps.to(start.device)
    latents = start
    for time in times[:until]:
        with half_precision(start.device):
            prediction = predict(model, latents, time.expand(len(latents)), text, control)
        latents = lcm.step(prediction.float(), time, latents, generator=noise).prev_sample
    return latents, times[until] if until < steps else torch.zeros_like(times[0])
