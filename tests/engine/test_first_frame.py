"""A chosen picture as the first frame: kept to the bit, and looked at by all frames."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine import vae
from animatic.engine.conditions import read_guide
from animatic.engine.decode import decode
from animatic.engine.first_frame import Renoised, first_frame_shared
from animatic.engine.run import Engine, EngineError
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from .conftest import FRAMES, SIZE, Guides

MakeRequest = Callable[..., dict[str, Any]]


def generate(engine: Engine, request: dict[str, Any], guides: Guides, seed: int = 1) -> np.ndarray:
    return engine.generate(request, guides, seed, lambda event: None, lambda: False).frames


@pytest.mark.parametrize("share", [True, False])
def test_the_first_frame_is_the_chosen_picture_to_the_bit(
    engine: Engine, request_for: MakeRequest, guides: Guides, share: bool
) -> None:
    sha256 = guides.sha["render", 0]
    first = {"sha256": sha256, "share": share}
    request = request_for(guides.control("depth", {2: 1.0}), sampling={"first_frame": first})
    takes = [generate(engine, request, guides, seed) for seed in (1, 2)]
    parts = engine._parts
    with torch.inference_mode():
        picture = read_guide("render", sha256, guides, SIZE, SIZE)
        latent = vae.encode(parts.vae, picture[None])[0]
        clip = latent[None, :, None].repeat(1, 1, FRAMES, 1, 1)
        given = decode(parts, clip, parts.plan.decode_batch, lambda: None, lambda done: None)
    for take in takes:
        assert np.array_equal(take[0], given[0])
    assert not np.array_equal(takes[0][1], takes[1][1])
    free = generate(engine, request_for(guides.control("depth", {2: 1.0})), guides)
    assert not np.array_equal(takes[0][1], free[1])


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler]
)
def test_a_picture_comes_out_of_the_clips_own_noise(scheduler: Any) -> None:
    """From nearly the starting noise, by ever less of it, to the picture exactly."""
    schedule = scheduler(beta_start=0.00085, beta_end=0.012)
    schedule.set_timesteps(5)
    generator = torch.Generator().manual_seed(0)
    latent, noise = (torch.randn(4, 8, 8, generator=generator) for _ in range(2))
    way = Renoised(latent, noise)(schedule)
    assert len(way) == len(schedule.timesteps) + 1
    assert torch.equal(way[-1], latent)
    amounts = [torch.linalg.vector_norm(x - latent).item() for x in way]
    assert amounts == sorted(amounts, reverse=True)
    start = noise * schedule.init_noise_sigma
    alike = torch.nn.functional.cosine_similarity(way[0].flatten(), start.flatten(), dim=0)
    assert alike > 0.9


def test_all_frames_take_their_keys_and_values_from_the_first(engine: Engine) -> None:
    unet = engine._parts.unet
    name, attention = next(
        (name, module)
        for name, module in unet.named_modules()
        if ".attentions." in name and name.endswith(".attn1")
    )
    assert "motion_modules" not in name
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * FRAMES, 9, attention.query_dim, generator=generator)
    later = x.clone()
    later[1] *= -1
    with torch.inference_mode():
        stock = attention(x)
        with first_frame_shared(unet, FRAMES):
            shared, changed = attention(x), attention(later)
        # The first frame of either clip looks at itself, as ever; the others at it.
        torch.testing.assert_close(shared[::FRAMES], stock[::FRAMES], rtol=1e-5, atol=1e-6)
        query, first = x[1:2], x[:1]
        torch.testing.assert_close(
            shared[1:2], attention(query, encoder_hidden_states=first), rtol=1e-5, atol=1e-6
        )
        assert torch.equal(shared[2:], changed[2:])
        assert torch.equal(attention(x), stock)


def test_a_first_picture_needs_the_whole_clip_at_once(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    sampling = {
        "first_frame": {"sha256": guides.sha["render", 0], "share": True},
        "context": {"length": 3, "overlap": 1, "schedule": "static"},
    }
    with pytest.raises(EngineError, match="need the whole clip at once"):
        generate(engine, request_for(sampling=sampling), guides)
