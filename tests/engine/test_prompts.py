"""Prompts at clip frames, blended between them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.residuals import ResidualCache
from animatic.engine.run import Engine, EngineError
from animatic.engine.text import encode_prompts, encode_request

from .conftest import Guides

MakeRequest = Callable[..., dict[str, Any]]
BLUE_LAST = [{"clip_frame": 2, "prompt": "a blue sphere on grass"}]


def frames_of(engine: Engine, request: dict[str, Any], guides: Guides) -> np.ndarray:
    return engine.generate(request, guides, 1, lambda event: None, lambda: False).frames


@torch.inference_mode()
def test_text_moves_in_a_straight_line_from_prompt_to_prompt(
    engine: Engine, request_for: MakeRequest
) -> None:
    text = encode_request(engine.parts, request_for(prompts=BLUE_LAST))
    negative, red, blue = (
        encode_prompts(engine.parts, [prompt])[0]
        for prompt in ("", "a red box", "a blue sphere on grass")
    )
    assert not torch.allclose(red, blue, atol=0.1)
    for ours, theirs in zip(text[1], [red, (red + blue) / 2, blue, blue], strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours in text[0]:
        torch.testing.assert_close(ours, negative)
    own = [{"clip_frame": 0, "prompt": "a blue sphere on grass"}, *BLUE_LAST]
    for ours in encode_request(engine.parts, request_for(prompts=own))[1]:
        torch.testing.assert_close(ours, blue)


def test_the_same_prompt_at_a_frame_changes_no_bit(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    control = guides.control("depth", {0: 1.0}, strength=2.0)
    plain = frames_of(engine, request_for(control), guides)
    same = request_for(control, prompts=[{"clip_frame": 0, "prompt": "a red box"}])
    assert np.array_equal(frames_of(engine, same, guides), plain)
    assert np.array_equal(frames_of(engine, request_for(control, prompts=[]), guides), plain)


def test_the_control_encoder_reads_each_frame_its_own_text(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    seen: list[torch.Tensor] = []
    encoder = engine.parts.control("depth")
    engine._cache = ResidualCache(10**9)
    control = guides.control("depth", {0: 1.0})
    plain = frames_of(engine, request_for(control), guides)
    hook = encoder.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    travelled = frames_of(engine, request_for(control, prompts=BLUE_LAST), guides)
    hook.remove()
    assert len(seen) == 2  # nothing kept of the plain prompt is taken
    with torch.inference_mode():
        text = encode_request(engine.parts, request_for(prompts=BLUE_LAST))
    assert torch.equal(seen[0], text.flatten(0, 1))
    assert not np.array_equal(travelled, plain)


def test_a_prompt_outside_the_clip_or_too_long_is_told(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    outside = request_for(prompts=[{"clip_frame": 4, "prompt": "x"}])
    with pytest.raises(EngineError, match="prompt has a keyframe at clip frame 4"):
        frames_of(engine, outside, guides)
    long = request_for(prompts=[{"clip_frame": 3, "prompt": "1 " * 50}])
    take = engine.generate(long, guides, 1, lambda event: None, lambda: False)
    assert take.notes[0].startswith("The prompt at clip frame 3 has 50 tokens")
