"""Noise schedules that a request may ask for in place of the checkpoint's own."""

import inspect
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler, SchedulerMixin
from diffusers.schedulers.scheduling_lcm import LCMSchedulerOutput

from .noise import with_shared_means

SCHEDULES = ("ddim", "dpm", "lcm")
# An LCM is distilled on this many places of the schedule, of which its steps are some.
LCM_PLACES = 50


def shifted(share: torch.Tensor, shift: float) -> torch.Tensor:
    """Shares 0..1 of the way to pure noise, moved towards it by a ``shift`` above 1.

    Source: Esser et al. 2024 (arXiv 2403.03206), section 5.3.2.
    """
    return shift * share / (1 + (shift - 1) * share)


def shifted_times(times: torch.Tensor, of: int, shift: float) -> torch.Tensor:
    """Timesteps 0..of - 1 moved towards pure noise by a ``shift`` above 1 (see ``shifted``)."""
    return (shifted((times + 1) / of, shift) * of).round().long() - 1


class CardLCMScheduler(LCMScheduler):
    """LCM's schedule with what a checkpoint's card says of its noise (see ``scheduler_for``)."""

    side = 0
    shift = 1.0
    timesteps: torch.Tensor

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **more: Any) -> None:
        """As diffusers' one, the steps moved by ``shift``."""
        super().set_timesteps(num_inference_steps, device, **more)
        if self.shift != 1:
            whole = self.config.num_train_timesteps
            self.timesteps = shifted_times(self.timesteps, whole, self.shift)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> Any:
        """As diffusers' one, with noise whose means over squares all frames share."""
        stepped = super().step(model_output, timestep, sample, generator)
        after, seen = stepped.prev_sample, stepped.denoised
        if self.side and self.step_index < self.num_inference_steps:
            clip = self.alphas_cumprod[self.timesteps[self.step_index]].sqrt() * seen
            after = clip + with_shared_means(after - clip, self.side)
        return LCMSchedulerOutput(after, seen) if return_dict else (after, seen)


def scheduler_for(
    asked: str | None, own: SchedulerMixin, shared_noise: int = 0, shift: float = 1.0
) -> SchedulerMixin:
    """The schedule ``asked`` for (of SCHEDULES) with a model whose own is ``own``, which is None's.

    "ddim" is what AnimateDiff and SparseCtrl sample with (Song et al. 2021, arXiv 2010.02502).
    "dpm" is DPM-Solver++ of second order, multistep (Lu et al. 2022, arXiv 2211.01095): it solves
    the same equation as DDIM, with any checkpoint, and needs half the steps or fewer. "lcm" is for
    models distilled to a few steps (Luo et al. 2023, arXiv 2310.04378); others give mush with it,
    unless their pictures are as plain as blockout-mini's, whose faults fresh noise covers up.
    The noise that the model was trained with, and what it predicts, stay as they are.
    ``shared_noise`` is the side of the squares whose means all frames share in noise that the
    schedule adds (see ``with_shared_means``). ``shift`` moves LCM's steps (see ``shifted``), for
    a model that was trained so.
    """
    if asked is None or (asked == "ddim" and isinstance(own, DDIMScheduler)):
        return own
    config: Any = own.config
    if asked == "ddim":
        return DDIMScheduler.from_config(config, clip_sample=False, set_alpha_to_one=False)
    kept = {
        name: config[name]
        for name in (
            "num_train_timesteps",
            "beta_start",
            "beta_end",
            "beta_schedule",
            "trained_betas",
            "prediction_type",
            "rescale_betas_zero_snr",
        )
        if name in config
    }
    if asked == "lcm":
        made = CardLCMScheduler(
            **kept,
            clip_sample=False,
            set_alpha_to_one=False,
            original_inference_steps=LCM_PLACES,
        )
        made.side, made.shift = shared_noise, shift
        return made
    known = inspect.signature(DPMSolverMultistepScheduler).parameters
    return DPMSolverMultistepScheduler(
        **{name: value for name, value in kept.items() if name in known},
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
        # Of diffusers' spacings (also Karras's, and log(signal/noise)) the one that in 8 and 12
        # steps came closest to DDIM's 80 with blockout-mini's earlier weights.
        timestep_spacing="trailing",
    )
