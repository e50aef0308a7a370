"""Noise schedules that a request may ask for in place of the checkpoint's own."""

import inspect
from typing import Any

from diffusers import DPMSolverMultistepScheduler, LCMScheduler, SchedulerMixin

SCHEDULES = ("dpm", "lcm")
# An LCM is distilled on this many places of the schedule, of which its steps are some.
LCM_PLACES = 50


def scheduler_for(asked: str | None, own: SchedulerMixin) -> SchedulerMixin:
    """The schedule ``asked`` for (of SCHEDULES) with a model whose own is ``own``, which is None's.

    "dpm" is DPM-Solver++ of second order, multistep (Lu et al. 2022, arXiv 2211.01095): it solves
    the same equation as DDIM, with any checkpoint, and needs half the steps or fewer. "lcm" is for
    models distilled to a few steps (Luo et al. 2023, arXiv 2310.04378); with others it gives mush.
    The noise that the model was trained with, and what it predicts, stay as they are.
    """
    if asked is None:
        return own
    config: Any = own.config
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
        return LCMScheduler(
            **kept,
            clip_sample=False,
            set_alpha_to_one=False,
            original_inference_steps=LCM_PLACES,
        )
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
