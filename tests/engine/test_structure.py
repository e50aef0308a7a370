"""Structure fidelity: blurred depth guides leave less to follow."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.conditions import Condition, build_condition
from animatic.engine.residuals import ResidualCache
from animatic.engine.run import Engine, EngineError
from animatic.engine.structure import BLUR_LEVELS

from .conftest import FRAMES, SIZE, Guides

MakeRequest = Callable[..., dict[str, Any]]
CLIP = {"width": SIZE, "height": SIZE, "frames": FRAMES}


def frames_of(engine: Engine, request: dict[str, Any], guides: Guides) -> np.ndarray:
    return engine.generate(request, guides, 1, lambda event: None, lambda: False).frames


def condition(engine: Engine, guides: Guides, **options: Any) -> Condition:
    control = guides.control("depth", {1: 1.0}) | options
    made = build_condition(engine.parts, control, guides, CLIP)
    assert made is not None
    return made


@torch.inference_mode()
def test_each_level_takes_more_detail_and_no_more_than_detail(
    engine: Engine, guides: Guides
) -> None:
    made = [condition(engine, guides, blur=level) for level in range(BLUR_LEVELS)]
    assert torch.equal(made[0].values, condition(engine, guides).values)
    pictures = [one.values[0, 0, 1] for one in made]
    details = [(picture[1:] - picture[:-1]).square().mean().item() for picture in pictures]
    assert all(less < 0.5 * more for more, less in pairwise(details))
    assert all(abs(picture.mean() - pictures[0].mean()) < 0.02 for picture in pictures)
    for one in made:
        assert torch.equal(one.mask, made[0].mask)
        assert not one.values[0, :, [0, 2, 3]].any()


def test_a_blurred_guide_gets_residuals_of_its_own(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    control = guides.control("depth", {0: 1.0}, strength=2.0)
    engine._cache = ResidualCache(10**9)
    sharp = frames_of(engine, request_for(control), guides)
    blurred = frames_of(engine, request_for(control | {"blur": 3}), guides)
    assert not np.array_equal(blurred, sharp)
    engine._cache = ResidualCache(1)  # keeps nothing
    assert np.array_equal(frames_of(engine, request_for(control | {"blur": 3}), guides), blurred)
    assert np.array_equal(frames_of(engine, request_for(control | {"blur": 0}), guides), sharp)


@pytest.mark.parametrize("guide", ["lineart", "render"])
def test_only_depth_can_be_blurred(
    engine: Engine, request_for: MakeRequest, guides: Guides, guide: str
) -> None:
    control = guides.control(guide, {0: 1.0}) | {"blur": 1}
    with pytest.raises(EngineError, match=f"{guide} guides cannot be blurred"):
        frames_of(engine, request_for(control), guides)
