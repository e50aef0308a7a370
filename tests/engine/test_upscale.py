"""The upscale pass: larger frames of the same clip, held to the same guides."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.run import Engine
from animatic.engine.upscale import Upscale, enlarge, enlarge_guide

from .conftest import FRAMES, SIZE, Guides
from .test_generate import counted

MakeRequest = Callable[..., dict[str, Any]]


def test_sizes_and_what_is_enlarged() -> None:
    assert Upscale(1.5, 0.4).size(128, 128, 8) == (192, 192)
    assert Upscale(1.5, 0.4).size(136, 120, 8) == (208, 176)
    flat = torch.full((1, 4, 2, 6, 5), 1.5)
    assert torch.allclose(enlarge(flat, 9, 8), torch.full((1, 4, 2, 9, 8), 1.5))
    frames = torch.randn(1, 4, 3, 6, 6)
    alone = enlarge(frames[:, :, 1:2], 9, 9)
    assert torch.equal(enlarge(frames, 9, 9)[:, :, 1:2], alone)
    depth = torch.zeros(3, 4, 4)
    depth[:, :, 2:] = 0.75
    assert set(enlarge_guide(depth, "depth", 6, 6).unique().tolist()) == {0.0, 0.75}
    assert len(enlarge_guide(depth, "lineart", 6, 6).unique()) > 2


@pytest.mark.parametrize("schedule", [None, "dpm", "lcm"])
def test_larger_frames_of_the_same_clip(
    engine: Engine, request_for: MakeRequest, guides: Guides, schedule: str | None
) -> None:
    controls = [guides.control("depth", {0: 1.0, 3: 1.0}), guides.control("render", {1: 1.0})]
    named = {} if schedule is None else {"schedule": schedule}
    upscale = {"upscale": {"scale": 1.5, "share": 0.5}}
    seen: list[dict[str, Any]] = []

    def take(sampling: dict[str, Any], seed: int = 1) -> np.ndarray:
        request = request_for(*controls, sampling={"steps": 4, **named, **sampling})
        return engine.generate(request, guides, seed, seen.append, lambda: False).frames

    plain = take({})
    seen.clear()
    larger = take(upscale)
    assert larger.shape == (FRAMES, 48, 48, 3)
    steps = [(e["done"], e["of"]) for e in seen if e.get("phase") == "sampling"]
    assert steps == [(k, 6) for k in range(1, 7)]
    encoder = engine.parts.control("depth").mid_block
    with counted(encoder) as calls:
        assert np.array_equal(take(upscale), larger)
    assert not calls  # residuals of both sizes are kept
    assert not np.array_equal(take(upscale, seed=2), larger)
    assert np.array_equal(take({}), plain)
    assert plain.shape == (FRAMES, SIZE, SIZE, 3)


def test_windows_and_a_first_picture_go_with_it(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    picture = {"sha256": guides.sha["render", 0], "share": True}
    upscale = {"steps": 2, "upscale": {"scale": 1.25, "share": 0.5}}
    window = {"context": {"length": 2, "overlap": 1, "schedule": "uniform"}}
    for extra in ({"first_frame": picture}, window):
        request = request_for(guides.control("depth", {0: 1.0}), sampling={**upscale, **extra})
        take = engine.generate(request, guides, 1, lambda event: None, lambda: False)
        assert take.frames.shape == (FRAMES, 40, 40, 3)
