"""A chosen picture as the first frame: kept to the bit, and looked at by all frames."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine import vae
from animatic.engine.conditions import read_guide
from animatic.engine.decode import decode
from animatic.engine.device import applied
from animatic.engine.first_frame import Renoised, first_frame_shared
from animatic.engine.noise import noise_of
from animatic.engine.pictures import fitted, read_picture
from animatic.engine.run import Engine, EngineError
from animatic.engine.text import encode_prompts
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from PIL import Image

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
        given, _ = decode(parts, clip, parts.plan.decode_batch, lambda: None, lambda done: None)
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
    way = list(Renoised(latent, noise)(schedule, 0))
    assert len(way) == len(schedule.timesteps) + 1
    assert torch.equal(way[-1], latent)
    amounts = [torch.linalg.vector_norm(x - latent).item() for x in way]
    assert amounts == sorted(amounts, reverse=True)
    start = noise * schedule.init_noise_sigma
    alike = torch.nn.functional.cosine_similarity(way[0].flatten(), start.flatten(), dim=0)
    assert alike > 0.9


def frame_0_at_each_step(
    engine: Engine, request: dict[str, Any], guides: Guides, seed: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], np.ndarray]:
    """What the image model and, as its frame 0, the video model were given; and the frames."""
    pictures, clips = [], []

    def see(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        kept = pictures if args[0].shape[2] == 1 else clips
        kept.append(args[0][0, :, 0].clone())

    hook = engine.parts.unet.register_forward_pre_hook(see)
    try:
        frames = generate(engine, request, guides, seed)
    finally:
        hook.remove()
    return pictures, clips, frames


@pytest.mark.parametrize("schedule", [None, "dpm", "lcm"])
def test_a_generated_first_picture_goes_its_recorded_way(
    engine: Engine, request_for: MakeRequest, guides: Guides, schedule: str | None
) -> None:
    first = {"generated": True, "seed": 5, "share": True}
    sampling = {"first_frame": first, "steps": 3} | ({"schedule": schedule} if schedule else {})
    request = request_for(guides.control("depth", {2: 1.0}), sampling=sampling)
    pictures, clips, frames = frame_0_at_each_step(engine, request, guides, seed=1)
    assert len(pictures) == 3
    assert all(torch.equal(a, b) for a, b in zip(pictures, clips, strict=True))
    # Another take has the same picture and, to the bit, the same first frame; only that one.
    _, _, other = frame_0_at_each_step(engine, request, guides, seed=2)
    assert np.array_equal(frames[0], other[0])
    assert not np.array_equal(frames[1], other[1])
    # Keys and values of the first frame change the others alone, not the picture.
    request["sampling"]["first_frame"] = first | {"share": False}
    _, _, alone = frame_0_at_each_step(engine, request, guides, seed=1)
    assert np.abs(alone[0].astype(int) - frames[0]).max() <= 1
    assert not np.array_equal(alone[1], frames[1])
    # Without a seed of its own it has the take's.
    request["sampling"]["first_frame"] = {"generated": True, "share": False}
    assert np.array_equal(generate(engine, request, guides, seed=5)[0], alone[0])


def test_the_picture_is_the_image_models_own(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    """diffusers' own UNet, without motion modules, in diffusers' own loop makes the same."""
    first = {"generated": True, "share": True}
    request = request_for(sampling={"first_frame": first, "steps": 4})
    frames = generate(engine, request, guides, seed=3)
    parts = engine.parts
    image_model = UNet2DConditionModel.from_pretrained(parts.info.folder / "unet")
    scheduler = DDIMScheduler.from_config(parts.scheduler.config)
    scheduler.set_timesteps(4)
    with applied(parts.plan), torch.inference_mode():
        text = encode_prompts(parts, ["", request["prompt"]])
        size = SIZE // parts.latent_scale
        shape = (1, image_model.config.in_channels, 1, size, size)
        latents = noise_of(torch.Generator().manual_seed(3), shape, torch.device("cpu"))[:, :, 0]
        for t in scheduler.timesteps:
            negative, positive = image_model(latents.expand(2, -1, -1, -1), t, text).sample
            predicted = negative + 7.5 * (positive - negative)
            latents = scheduler.step(predicted[None], t, latents).prev_sample
        (expected,), _ = decode(parts, latents[:, :, None], 1, lambda: None, lambda done: None)
    assert np.abs(frames[0].astype(int) - expected).max() <= 1
    assert expected.std() > 1


def test_the_picture_obeys_guides_and_grows_with_the_clip(
    equipped: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    sampling = {"first_frame": {"generated": True, "share": True}}
    seen = [generate(equipped, request_for(sampling=sampling), guides)[0]]
    for encoder in ("sparse", "image"):
        control = guides.control("depth", {0: 2.0}) | {"encoder": encoder}
        seen.append(generate(equipped, request_for(control, sampling=sampling), guides)[0])
    assert not any(np.array_equal(seen[0], other) for other in seen[1:])
    larger = {**sampling, "upscale": {"scale": 2, "share": 0.5}}
    grown = generate(equipped, request_for(sampling=larger), guides)
    again = generate(equipped, request_for(sampling=larger), guides)
    assert grown.shape[1] == 2 * SIZE
    assert np.array_equal(grown, again)


def test_a_picture_of_any_format_and_size_is_fitted(tmp_path: Any) -> None:
    colour = np.zeros((40, 120, 3), np.uint8)
    colour[:, 40:80] = (10, 200, 30)
    pictures = Guides(tmp_path)
    for name, mode in (("a.jpg", "RGB"), ("b.webp", "RGB"), ("c.tif", "RGB"), ("d.bmp", "RGB"),
                       ("e.png", "RGBA"), ("f.png", "P")):  # fmt: skip
        sha256 = pictures.add(name, Image.fromarray(colour).convert(mode))
        read = read_picture(sha256, pictures, "first picture")
        pixels, note = fitted(read, SIZE, SIZE, "first picture")
        middle = pixels[:, :, 8:-8].mean(dim=(1, 2)) * 255
        assert torch.allclose(middle, torch.tensor([10.0, 200, 30]), atol=6)
        assert note is not None
        assert "67% of its width cut off" in note
    exact = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8))
    pixels, note = fitted(exact, 16, 8, "first picture")
    assert note is None
    assert np.array_equal((pixels * 255).permute(1, 2, 0).round().numpy(), np.asarray(exact))
    sha256 = pictures.add("broken.png", exact)
    (tmp_path / "broken.png").write_bytes((tmp_path / "broken.png").read_bytes()[:60])
    with pytest.raises(EngineError, match="content has changed or is cut short"):
        read_picture(sha256, pictures, "first picture")


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
