"""Temporal attention: causal to the last bit, and AnimateZero's window with corrected positions."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.attention import Sight, TemporalAttention
from animatic.engine.residuals import ResidualCache
from animatic.engine.run import Engine
from torch import nn

from .conftest import Guides

FRAMES = 6


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def models(engine: Engine) -> tuple[nn.Module, nn.Module]:
    """UNet and control encoder with no weight at zero: what is switched off would hide leaks."""
    generator = torch.Generator().manual_seed(0)
    parts = (engine._parts.unet, engine._parts.control("depth"))
    kept = [{name: p.clone() for name, p in part.named_parameters()} for part in parts]
    for part in parts:
        for parameter in part.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    yield parts
    for part, weights in zip(parts, kept, strict=True):
        for name, parameter in part.named_parameters():
            parameter.data.copy_(weights[name])


def clip(frames: int = FRAMES) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"latents": (1, 4, frames, 4, 4), "values": (1, 3, frames, 32, 32)}
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return made | {"mask": torch.ones(1, 1, frames, 32, 32)}


def predict(models: tuple[nn.Module, nn.Module], given: dict[str, torch.Tensor]) -> torch.Tensor:
    unet, encoder = models
    frames = given["latents"].shape[2]
    text = torch.ones(frames, 3, unet.config.cross_attention_dim)
    skips, middle = encoder(
        torch.zeros_like(given["latents"]),
        torch.tensor(601),
        encoder_hidden_states=text,
        controlnet_cond=given["values"],
        conditioning_mask=given["mask"],
        return_dict=False,
    )
    return unet(
        given["latents"],
        torch.tensor(601),
        encoder_hidden_states=text,
        down_block_additional_residuals=skips,
        mid_block_additional_residual=middle,
    ).sample


def with_later_changed(given: dict[str, torch.Tensor], frame: int) -> dict[str, torch.Tensor]:
    changed = {name: value.clone() for name, value in given.items()}
    for value in changed.values():
        value[:, :, frame + 1 :] = 0.3
    return changed


@pytest.mark.parametrize(("frames", "span"), [(FRAMES, 32), (FRAMES, 3), (34, 2)])
def test_a_frame_is_exactly_unaffected_by_later_noise_and_conditions(
    models: tuple[nn.Module, nn.Module], frames: int, span: int
) -> None:
    """34 frames are more than the model has positions for."""
    given = clip(frames)
    with TemporalAttention("causal", span).applied(models[0], [models[1]]):
        before = predict(models, given)
        for frame in (0, frames - 2):
            after = predict(models, with_later_changed(given, frame))
            assert torch.equal(after[:, :, : frame + 1], before[:, :, : frame + 1])
            assert not torch.equal(after[:, :, frame + 1], before[:, :, frame + 1])
    if frames == FRAMES:
        stock = predict(models, given)
        leaky = predict(models, with_later_changed(given, 2))
        assert not torch.equal(stock[:, :, :3], leaky[:, :, :3])


def test_a_span_forgets_what_lies_before_it(engine: Engine) -> None:
    module = next(m for m in engine._parts.unet.modules() if hasattr(m, "motion_scale"))
    x = torch.randn(9, module.in_channels, 2, 2, generator=torch.Generator().manual_seed(0))
    older = x.clone()
    older[:4] *= -1
    with TemporalAttention("causal", 3).applied(engine._parts.unet, []):
        # One block has two attentions on each other, each looking back over 2 more frames.
        reach = 2 * (1 + (module.transformer_blocks[0].attn2 is not None))
        here, there = (module(value, num_frames=9)[4 + reach - 1 :] for value in (x, older))
        assert not torch.equal(here[0], there[0])
        assert torch.equal(here[1:], there[1:])
        # Steady motion looks the same wherever in the clip it lies: positions count from the span.
        same = module(x[:1].repeat(9, 1, 1, 1), num_frames=9)
        torch.testing.assert_close(same[-1], same[-2])
        assert not torch.allclose(same[0], same[-1], rtol=0, atol=1e-4)


def test_both_ways_of_computing_agree(models: tuple[nn.Module, nn.Module]) -> None:
    """A span as long as the clip needs no other positions; one more frame does."""
    given = clip()
    with TemporalAttention("causal", FRAMES).applied(models[0], [models[1]]):
        whole = predict(models, given)
        longer = predict(models, clip_with_one_more(given))
    torch.testing.assert_close(longer[:, :, :FRAMES], whole, rtol=1e-4, atol=1e-4)


def clip_with_one_more(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([value, value[:, :, :1]], 2) for name, value in given.items()}


def test_window_attention_has_the_papers_keys_and_positions() -> None:
    """Frame i of f, from 1: f - i + 1 times frame 1, then 2 to i, at 1 to f; itself at f."""
    assert TemporalAttention("window").sights(4) == [
        Sight(3, (0, 0, 0, 0), (0, 1, 2, 3)),
        Sight(3, (0, 0, 0, 1), (0, 1, 2, 3)),
        Sight(3, (0, 0, 1, 2), (0, 1, 2, 3)),
        Sight(3, (0, 1, 2, 3), (0, 1, 2, 3)),
    ]


def test_the_last_frame_of_a_window_sees_what_global_attention_sees(engine: Engine) -> None:
    unet = engine._parts.unet
    block = next(
        b
        for m in unet.down_blocks.modules()
        if hasattr(m, "motion_scale")
        for b in m.transformer_blocks
    )
    x = torch.randn(5, FRAMES, block.dim, generator=torch.Generator().manual_seed(0))
    attend = lambda: block.attn1(x if block.pos_embed is None else block.pos_embed(x))  # noqa: E731
    everywhere = attend()
    with TemporalAttention("window").applied(unet, []):
        seen = attend()
    torch.testing.assert_close(seen[:, -1], everywhere[:, -1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(seen[:, 0], everywhere[:, 0], rtol=1e-5, atol=1e-6)


def test_everything_is_put_back(models: tuple[nn.Module, nn.Module]) -> None:
    given = clip()
    before = predict(models, given)
    for attention in (TemporalAttention("causal", 3), TemporalAttention("window")):
        with attention.applied(models[0], [models[1]]):
            assert not torch.equal(predict(models, given), before)
        assert torch.equal(predict(models, given), before)


def test_a_request_gets_the_attention_it_asks_for(
    engine: Engine, request_for: Callable[..., dict[str, Any]], guides: Guides
) -> None:
    """A later keyframe has no effect on earlier frames, whatever was kept from another take."""

    def frames(strength: float, **sampling: Any) -> np.ndarray:
        control = guides.control("depth", {0: 1.0, 3: strength})
        request = request_for(control, sampling=sampling)
        return engine.generate(request, guides, 1, lambda event: None, lambda: False).frames

    engine._cache = ResidualCache(10**9)
    assert not np.array_equal(frames(1.0)[0], frames(0.0)[0])
    causal = {"attention": {"kind": "causal", "span": 16}}
    held, free = frames(1.0, **causal), frames(0.0, **causal)
    assert np.array_equal(held[:1], free[:1])
    assert not np.array_equal(held[3], free[3])
