"""Other noise schedules: the same equation solved in fewer steps, and the same bits each time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.noise import with_shared_means
from animatic.engine.run import Engine, EngineError
from animatic.engine.schedules import SCHEDULES, scheduler_for
from animatic.engine.training.architecture import build_scheduler
from diffusers import LCMScheduler, PNDMScheduler

from .conftest import Guides

MakeRequest = Callable[..., dict[str, Any]]


MINI = Path(__file__).parents[2] / "presets" / "blockout-mini"


def test_dpm_comes_to_where_ddim_comes_and_sooner(request_for: MakeRequest) -> None:
    mini = Engine("cpu")
    mini.load(MINI, lambda event: None)

    def frames(steps: int, **named: str) -> np.ndarray:
        request = request_for(
            prompt="a red box on grass",
            checkpoint={"name": "blockout-mini"},
            clip={"frames": 1, "width": 64, "height": 64},
            sampling={"steps": steps, "guidance": 1.0, **named},
        )
        take = mini.generate(request, {}, 3, lambda event: None, lambda: False)
        return take.frames.astype(float)

    slow = frames(40)
    error = {
        (name, steps): np.abs(frames(steps, **named) - slow).mean()
        for name, named, steps in (
            ("ddim", {}, 8),
            ("dpm", {"schedule": "dpm"}, 8),
            ("dpm", {"schedule": "dpm"}, 40),
        )
    }
    assert error["dpm", 40] < 4  # of 255; the two end at slightly different noise
    assert error["dpm", 8] < 0.9 * error["ddim", 8]


def test_a_schedule_keeps_the_models_noise_and_what_it_predicts() -> None:
    own = PNDMScheduler(beta_start=0.001, beta_end=0.02, prediction_type="v_prediction")
    assert scheduler_for(None, own) is own
    for asked in SCHEDULES:
        made = scheduler_for(asked, own)
        assert torch.equal(made.alphas_cumprod, own.alphas_cumprod)
        assert made.config.prediction_type == "v_prediction"
    assert isinstance(made, LCMScheduler)


@pytest.mark.parametrize("asked", [None, *SCHEDULES])
def test_from_pure_noise_a_perfect_model_comes_to_its_picture(asked: str | None) -> None:
    own = build_scheduler("v_prediction", zero_snr=True)
    assert own.alphas_cumprod[-1] == 0
    schedule: Any = scheduler_for(asked, own)
    schedule.set_timesteps(4)
    assert schedule.timesteps[0] == 999
    noise = torch.Generator().manual_seed(1)
    picture, latents = (torch.randn(1, 4, 8, 8, generator=noise) for _ in range(2))
    for time in schedule.timesteps:
        kept = own.alphas_cumprod[time]
        covering = (latents - kept.sqrt() * picture) / (1 - kept).sqrt()
        velocity = kept.sqrt() * covering - (1 - kept).sqrt() * picture
        named = {"generator": noise} if asked == "lcm" else {}
        latents = schedule.step(velocity, time, latents, **named).prev_sample
    assert (latents - picture).abs().max() < 0.1


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 50])
def test_a_shift_moves_lcms_steps_towards_noise(steps: int) -> None:
    own = build_scheduler("v_prediction", zero_snr=True)
    even, moved = (scheduler_for("lcm", own, shift=shift) for shift in (1.0, 2.0))
    for schedule in (even, moved):
        schedule.set_timesteps(steps)
    assert len(moved.timesteps) == steps
    assert moved.timesteps[0] == 999
    assert (moved.timesteps.diff() < 0).all()
    assert (moved.timesteps[1:] > even.timesteps[1:]).all()
    # What was half of the way becomes two thirds of it, and so on.
    share = (even.timesteps + 1) / 1000
    expected = 1000 * 2 * share / (1 + share) - 1
    assert (moved.timesteps - expected).abs().max() <= 0.5
    if steps == 2:
        assert moved.timesteps.tolist() == [999, 666]


def test_noise_that_lcm_adds_is_shared_too() -> None:
    own = build_scheduler("v_prediction", zero_snr=True)
    latents, output = (torch.randn(1, 4, 3, 8, 8) for _ in range(2))

    def added(shared: int) -> list[torch.Tensor]:
        schedule: Any = scheduler_for("lcm", own, shared)
        schedule.set_timesteps(3)
        noise, drawn = torch.Generator().manual_seed(1), []
        for time, after in zip(schedule.timesteps, [*schedule.timesteps[1:], None], strict=True):
            stepped = schedule.step(output, time, latents, generator=noise)
            kept = 1.0 if after is None else own.alphas_cumprod[after].sqrt()
            drawn.append(stepped.prev_sample - kept * stepped.denoised)
        return drawn

    *plain, last = added(0)
    *shared, end = added(4)
    assert last.abs().max() == end.abs().max() == 0
    for before, now in zip(plain, shared, strict=True):
        torch.testing.assert_close(now, with_shared_means(before, 4), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("schedule", ["dpm", "lcm"])
def test_through_a_request(
    engine: Engine, request_for: MakeRequest, guides: Guides, schedule: str
) -> None:
    control = guides.control("depth", {0: 1.0})

    def frames(**sampling: Any) -> np.ndarray:
        request = request_for(control, sampling={"steps": 3, **sampling})
        return engine.generate(request, guides, 1, seen.append, lambda: False).frames

    seen: list[dict[str, Any]] = []
    first = frames(schedule=schedule)
    steps = [(e["done"], e["of"]) for e in seen if e.get("phase") == "sampling"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert np.array_equal(frames(schedule=schedule), first)
    assert not np.array_equal(frames(), first)


def test_more_steps_than_an_lcm_knows_are_refused(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    request = request_for(sampling={"steps": 51, "schedule": "lcm"})
    with pytest.raises(EngineError, match="lcm schedule makes at most 50 steps"):
        engine.generate(request, guides, 1, lambda event: None, lambda: False)
