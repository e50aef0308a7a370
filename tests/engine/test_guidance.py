"""Temporal guidance, and guidance and controls that act in a part of the steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.motion import FrameNormMotionModule, set_motion_scale
from animatic.engine.residuals import ControlBranch, ResidualCache
from animatic.engine.run import Cancelled, Engine, EngineError
from animatic.engine.sampling import Denoiser

from .conftest import FRAMES, Guides

MakeRequest = Callable[..., dict[str, Any]]
T = torch.tensor(601)


def frames_of(engine: Engine, request: dict[str, Any], guides: Guides) -> np.ndarray:
    return engine.generate(request, guides, 1, lambda event: None, lambda: False).frames


@contextmanager
def counted(module: torch.nn.Module) -> Iterator[list[int]]:
    """The batch size of every call of ``module`` inside the block."""
    batches: list[int] = []
    hook = module.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    try:
        yield batches
    finally:
        hook.remove()


@pytest.fixture
def livelier(engine: Engine) -> Iterator[None]:
    """Motion modules that weigh more than the tiny model's, so that the frames do mix."""
    set_motion_scale(engine.parts.unet, 10)
    yield
    set_motion_scale(engine.parts.unet, 1)


def denoiser(
    engine: Engine, guidance: float, temporal: float, guidance_end: float = 1.0
) -> Denoiser:
    """One without control, whose texts are noise."""
    unet = engine.parts.unet
    shape = (1 if guidance == 1 else 2, 5, unet.config.cross_attention_dim)
    text = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    size = torch.Size((unet.config.in_channels, FRAMES, 4, 4))
    branch = ControlBranch([], text, size, ResidualCache(0), "test")
    return Denoiser(unet, branch, text, guidance, 2, lambda: None, temporal, None, guidance_end)


def noise(engine: Engine) -> torch.Tensor:
    shape = (1, engine.parts.unet.config.in_channels, FRAMES, 4, 4)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("livelier")
@torch.inference_mode()
def test_temporal_guidance_is_the_equation_of_gen_1(engine: Engine) -> None:
    plain, latents = denoiser(engine, 7.5, 1.0), noise(engine)
    negative, positive = plain.halves(latents, T)
    image = plain.frames_alone(latents, T)[0]
    assert not torch.allclose(image, negative, rtol=0.01)
    expected = image + 1.7 * (negative - image) + 7.5 * (positive - negative)
    guided = denoiser(engine, 7.5, 1.7)(latents, T)[0]
    torch.testing.assert_close(guided, expected, rtol=1e-6, atol=1e-6)
    with counted(engine.parts.unet.conv_in) as batches:
        without = plain(latents, T)[0]
    assert batches == [2 * FRAMES]  # a weight of 1 leaves the image model out
    assert torch.equal(without, negative + 7.5 * (positive - negative))


@pytest.mark.usefixtures("livelier")
@pytest.mark.parametrize(("temporal", "alone"), [(0.0, True), (1.0, False), (1.5, False)])
@torch.inference_mode()
def test_at_weight_zero_a_frame_is_by_itself(engine: Engine, temporal: float, alone: bool) -> None:
    latents = noise(engine)
    others = latents.clone()
    others[:, :, 1:] += 1
    model = denoiser(engine, 1.0, temporal)
    here, there = model(latents, T)[:, :, 0], model(others, T)[:, :, 0]
    assert torch.equal(here, there) == alone
    scales = [m.motion_scale for m in engine.parts.unet.modules()
              if isinstance(m, FrameNormMotionModule)]  # fmt: skip
    assert set(scales) == {10}


@pytest.mark.usefixtures("livelier")
def test_temporal_guidance_through_a_request(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    control = guides.control("depth", {0: 1.0})
    plain = frames_of(engine, request_for(control), guides)
    one = request_for(control, sampling={"temporal": 1})
    assert np.array_equal(frames_of(engine, one, guides), plain)
    engine._cache = ResidualCache(10**9)
    with counted(engine.parts.control("depth").mid_block) as calls:
        loose = frames_of(engine, request_for(control, sampling={"temporal": 0}), guides)
    assert len(calls) == 2  # the image model takes the residuals of the video model
    assert not np.array_equal(loose, plain)


@pytest.mark.usefixtures("livelier")
@pytest.mark.parametrize("temporal", [1.0, 1.7])
@torch.inference_mode()
def test_after_its_end_guidance_is_one(engine: Engine, temporal: float) -> None:
    latents, guided = noise(engine), denoiser(engine, 7.5, temporal)
    ended = denoiser(engine, 7.5, temporal, guidance_end=0.5)
    unguided = denoiser(engine, 7.5, temporal)
    unguided._text, unguided._guidance = guided._text[1:], 1.0
    for share, same in ((0.0, guided), (0.49, guided), (0.5, unguided), (0.9, unguided)):
        ended.share = share
        assert torch.equal(ended(latents, T), same(latents, T))


def test_steps_after_the_guidances_end_take_half_the_work(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    control = guides.control("depth", {0: 1.0})
    sampling = {"steps": 4, "guidance": 3.0}
    plain = frames_of(engine, request_for(control, sampling=sampling), guides)
    whole = request_for(control, sampling=sampling | {"guidance_end": 1})
    assert np.array_equal(frames_of(engine, whole, guides), plain)
    ends = request_for(control, sampling=sampling | {"guidance_end": 0.5})
    with counted(engine.parts.unet.conv_in) as batches:
        first = frames_of(engine, ends, guides)
    assert sum(batches) == 6 * FRAMES
    # What a take without an end kept of the control is not what these steps need.
    engine._cache = ResidualCache(10**9)
    assert np.array_equal(frames_of(engine, ends, guides), first)
    assert not np.array_equal(first, plain)
    with pytest.raises(EngineError, match="Guidance ends after a share"):
        frames_of(engine, request_for(sampling=sampling | {"guidance_end": 0}), guides)


def test_the_image_model_takes_an_image_controlnets_residuals_too(
    equipped: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    control = guides.control("depth", {0: 1.0}) | {"encoder": "image"}
    with counted(equipped.parts.control("depth", "image").mid_block) as calls:
        frames_of(equipped, request_for(control, sampling={"temporal": 2}), guides)
    assert len(calls) == 2  # once a step, though it sees the noisy latents


def test_a_cancel_inside_the_image_model_leaves_the_motion_modules_as_they_were(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    plain = frames_of(engine, request_for(), guides)

    def stop(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if len(args[0]) == FRAMES:
            raise Cancelled

    hook = engine.parts.unet.conv_in.register_forward_pre_hook(stop)
    with pytest.raises(Cancelled):
        frames_of(engine, request_for(sampling={"temporal": 2}), guides)
    hook.remove()
    assert np.array_equal(frames_of(engine, request_for(), guides), plain)


def previews(engine: Engine, request: dict[str, Any], guides: Guides) -> list[bytes]:
    """The clip as it looks after each step."""
    seen: list[dict[str, Any]] = []
    engine.generate(request, guides, 1, seen.append, lambda: False)
    return [event["jpeg"] for event in seen if event["type"] == "preview"]


def test_outside_its_steps_a_control_is_as_if_not_there(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    control = guides.control("depth", {0: 1.0}, strength=2.0)
    sampling = {"steps": 4}
    free = previews(engine, request_for(sampling=sampling), guides)
    whole = previews(engine, request_for(control, sampling=sampling), guides)
    late = request_for(control | {"start": 0.5}, sampling=sampling)
    early = request_for(control | {"end": 0.5}, sampling=sampling)
    engine._cache = ResidualCache(0)
    encoder = engine.parts.control("depth").mid_block
    with counted(encoder) as calls:
        late_seen = previews(engine, late, guides)
        early_seen = previews(engine, early, guides)
    assert len(calls) == 4  # two steps of each
    assert late_seen[:2] == free[:2]
    assert late_seen[2] != free[2]
    assert early_seen[:2] == whole[:2]
    assert early_seen[2] != whole[2]
    both = request_for(control | {"start": 0, "end": 1}, sampling=sampling)
    assert previews(engine, both, guides) == whole


def test_strength_over_the_steps_is_a_factor_in_straight_lines(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    control = guides.control("depth", {0: 1.0}, strength=2)
    sampling = {"steps": 4}

    def over(*places: tuple[float, float]) -> list[bytes]:
        asked = [{"at": at, "strength": strength} for at, strength in places]
        return previews(
            engine, request_for(control | {"over_steps": asked}, sampling=sampling), guides
        )

    whole = previews(engine, request_for(control, sampling=sampling), guides)
    early = previews(engine, request_for(control | {"end": 0.5}, sampling=sampling), guides)
    half = previews(engine, request_for(control | {"strength": 1}, sampling=sampling), guides)
    assert over((0, 1)) == whole
    assert over((0.3, 0.5)) == half
    assert over((0.25, 1), (0.5, 0)) == early  # its steps begin at 0, a quarter, a half ...
    assert over((0, 1), (1, 0))[0] == whole[0] != over((0, 0.2), (1, 0))[0]
    unordered = [{"at": 0.5, "strength": 1}, {"at": 0.5, "strength": 0}]
    with pytest.raises(EngineError, match="not in order, or two are at one step"):
        frames_of(engine, request_for(control | {"over_steps": unordered}), guides)


@pytest.mark.parametrize("encoder", ["sparse", "image"])
@torch.inference_mode()
def test_guess_mode_works_with_guidance(
    equipped: Engine, request_for: MakeRequest, guides: Guides, encoder: str
) -> None:
    """The negative half gets nothing, the other ever more from the first skip to the middle."""
    plain = guides.control("depth", {0: 1.0, 2: 1.0}) | {"encoder": encoder}
    seen: list[Any] = []

    def see(module: torch.nn.Module, args: Any, asked: dict[str, Any]) -> None:
        down, middle = (asked[f"{name}_block_additional_residual{end}"]
                        for name, end in (("down", "s"), ("mid", "")))  # fmt: skip
        seen.append([each.clone() for each in (*down, middle)])

    hook = equipped.parts.unet.register_forward_pre_hook(see, with_kwargs=True)
    try:
        for control in (plain, plain | {"guess": True}):
            frames_of(equipped, request_for(control, sampling={"steps": 1}), guides)
    finally:
        hook.remove()
    usual, guessed = seen
    weights = torch.logspace(-1, 0, len(usual))
    assert (weights[0].item(), weights[-1].item()) == pytest.approx((0.1, 1))
    for weight, ours, theirs in zip(weights, guessed, usual, strict=True):
        assert not ours[:FRAMES].any()
        torch.testing.assert_close(ours[FRAMES:], weight * theirs[FRAMES:], rtol=1e-4, atol=1e-5)
    # One half after the other, and with temporal guidance, it is made all the same.
    take = equipped.generate(request_for(plain | {"guess": True}), guides, 1, print, lambda: False)
    plan = take.plan | {"batch": {"guidance": 1, "decode": 4}}
    request = request_for(plain | {"guess": True})
    split = equipped.generate(request, guides, 1, lambda event: None, lambda: False, plan)
    assert np.abs(split.frames.astype(int) - take.frames).max() <= 1


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.8, 0.2)])
def test_a_control_that_never_acts_gets_a_sentence(
    engine: Engine, request_for: MakeRequest, guides: Guides, start: float, end: float
) -> None:
    control = guides.control("depth", {0: 1.0}) | {"start": start, "end": end}
    with pytest.raises(EngineError, match=f"acts from {start} to {end} of the steps"):
        frames_of(engine, request_for(control), guides)
