"""Context windows: every frame covered and evenly weighed, one window the same bits, loops."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.bench import MINI
from animatic.engine.conditions import Condition
from animatic.engine.residuals import ResidualCache
from animatic.engine.run import Engine, EngineError
from animatic.engine.windows import (
    SCHEDULES,
    Context,
    Window,
    WindowedDenoiser,
    blend_weights,
    free_noise,
    window_condition,
    windows_at,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from .conftest import Guides

MakeRequest = Callable[..., dict[str, Any]]
LENGTHS = st.integers(1, 20).flatmap(
    lambda length: st.tuples(st.just(length), st.integers(0, length - 1))
)


# On a busy machine any example may take seconds.
@settings(deadline=None)
@given(LENGTHS, st.sampled_from(SCHEDULES), st.integers(1, 70), st.integers(0, 40))
def test_every_frame_is_covered_and_its_weights_sum_to_one(
    length: tuple[int, int], schedule: str, frames: int, step: int
) -> None:
    windows = windows_at(Context(*length, schedule), frames, step)
    assert {frame for window in windows for frame in window} == set(range(frames))
    assert all(len(set(window)) == min(length[0], frames) for window in windows)
    total = torch.zeros(frames)
    for window, weights in zip(windows, blend_weights(windows, frames), strict=True):
        assert weights.min() > 0
        total[list(window)] += weights
    torch.testing.assert_close(total, torch.ones(frames))


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 70), st.integers(0, 40))
def test_frames_in_a_window_are_neighbours_and_a_loop_joins_last_and_first(
    length: tuple[int, int], frames: int, step: int
) -> None:
    for schedule in SCHEDULES:
        for window in windows_at(Context(*length, schedule), frames, step):
            gaps = {(b - a) for a, b in pairwise(window)}
            assert gaps <= ({1, 1 - frames} if schedule == "looped" else {1})


def test_a_loop_treats_its_first_frame_as_the_last_ones_neighbour() -> None:
    """No place of the loop is special: over the steps each pair of neighbours meets as often."""
    context, frames = Context(8, 3, "looped"), 20
    met: Counter[int] = Counter()
    for step in range(1024):
        for window in windows_at(context, frames, step):
            met.update(a for a, b in pairwise(window) if b == (a + 1) % frames)
    assert met[frames - 1] > 0
    assert max(met.values()) < 1.2 * min(met.values())
    turned = {windows_at(Context(16, 4, "looped"), 16, step)[0] for step in range(16)}
    assert len(turned) == 16


def test_uniform_windows_leave_no_border_in_its_place_and_static_ones_do() -> None:
    def borders(schedule: str) -> set[int]:
        context = Context(16, 4, schedule)
        return {window[0] for step in range(12) for window in windows_at(context, 64, step)}

    assert borders("static") == {0, 12, 24, 36, 48}
    assert len(borders("uniform")) > 40


def test_one_window_gives_the_same_bits_and_several_blend() -> None:
    seen: list[Window | None] = []

    def predict(
        latents: torch.Tensor, t: torch.Tensor, window: Window | None = None
    ) -> torch.Tensor:
        seen.append(window)
        # Something that mixes frames, as motion modules do.
        return latents * 1.37 + latents.mean(2, keepdim=True)

    latents = torch.randn(1, 4, 10, 3, 3, generator=torch.Generator().manual_seed(0))
    t = torch.tensor(601)
    whole = predict(latents, t, None)
    for schedule in ("static", "uniform"):
        denoiser = WindowedDenoiser(predict, Context(12, 4, schedule), 10)
        assert torch.equal(denoiser(latents, t), whole)
        assert torch.equal(denoiser(latents, t - 100), whole)
    assert seen == [None] * 5

    several = WindowedDenoiser(predict, Context(6, 2, "static"), 10)(latents, t)
    first = predict(latents[:, :, :6], t, None)
    second = predict(latents[:, :, 4:], t, None)
    assert torch.equal(several[:, :, :4], first[:, :, :4])
    assert torch.equal(several[:, :, 6:], second[:, :, 2:])
    # Frames 4 and 5 are the first window's last two and the second's first two: 2:1 and 1:2.
    torch.testing.assert_close(several[:, :, 4], first[:, :, 4] * 2 / 3 + second[:, :, 0] / 3)


def test_conditions_are_counted_from_the_windows_start() -> None:
    mask = torch.zeros(1, 1, 8, 2, 2)
    mask[:, :, [1, 6]] = 1
    values = torch.arange(8.0)[None, None, :, None, None].expand(1, 3, 8, 2, 2) * mask
    condition = Condition(values, mask, torch.arange(8.0), ("depth", ((1, "a"), (6, "b"))))
    part = window_condition(condition, (5, 6, 7, 0))
    assert part.values[0, 0, :, 0, 0].tolist() == [0, 6, 0, 0]
    assert part.mask[0, 0, :, 0, 0].tolist() == [0, 1, 0, 0]
    assert part.strengths.tolist() == [5, 6, 7, 0]
    empty = window_condition(condition, (2, 3, 4))
    assert not empty.values.any()
    assert not empty.mask.any()
    # All windows that show nothing share one key; the same guide at another place does not.
    assert empty.key == window_condition(condition, (3, 4, 5)).key
    assert part.key != window_condition(condition, (6, 7, 0, 2)).key


def test_free_noise_repeats_the_first_window_in_new_orders() -> None:
    context, frames = Context(16, 12, "static"), 50
    noise = torch.randn(1, 4, frames, 8, 8, generator=torch.Generator().manual_seed(1))
    made = free_noise(noise, context, torch.Generator().manual_seed(2))
    assert torch.equal(made[:, :, :16], noise[:, :, :16])
    source = [
        next(k for k in range(16) if torch.equal(made[:, :, frame], noise[:, :, k]))
        for frame in range(frames)
    ]
    for start in range(16, frames - 3, 4):
        assert sorted(source[start : start + 4]) == sorted(source[start - 16 : start - 12])
    # Every window holds each noise once: no two of its frames are the same picture.
    assert all(len(set(source[start : start + 16])) == 16 for start in range(0, 33, 4))
    assert source[16:32] != source[:16]
    short = free_noise(noise[:, :, :9], context, torch.Generator().manual_seed(2))
    assert torch.equal(short, noise[:, :, :9])


@pytest.mark.parametrize(("length", "overlap", "schedule"), [(8, 8, "static"), (8, 2, "spiral")])
def test_impossible_contexts_are_refused(length: int, overlap: int, schedule: str) -> None:
    with pytest.raises(ValueError, match=r"cannot share 8|'spiral' is none of static"):
        Context(length, overlap, schedule)


def generate(engine: Engine, request: dict[str, Any], guides: Guides) -> np.ndarray:
    return engine.generate(request, guides, 1, lambda event: None, lambda: False).frames


def context(length: int, overlap: int, schedule: str, **more: Any) -> dict[str, Any]:
    return {"context": {"length": length, "overlap": overlap, "schedule": schedule}, **more}


def test_a_take_that_fits_has_the_same_bits_and_a_longer_one_is_made(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    control = guides.control("depth", {0: 1.0, 3: 0.5})
    prompts = [{"clip_frame": 2, "prompt": "a blue box"}]
    plain = generate(engine, request_for(control, prompts=prompts), guides)
    asked = request_for(control, prompts=prompts, sampling=context(4, 1, "uniform", noise="free"))
    assert np.array_equal(generate(engine, asked, guides), plain)

    control = guides.control("depth", {0: 1.0, 35: 0.5})
    longer = request_for(control, clip={"frames": 36}, sampling=context(16, 4, "static", steps=1))
    engine._cache = ResidualCache(10**9)
    calls: list[int] = []
    hook = engine._parts.control("depth").mid_block.register_forward_pre_hook(
        lambda _, args: calls.append(len(args[0]))
    )
    try:
        frames = generate(engine, longer, guides)
    finally:
        hook.remove()
    assert frames.shape == (36, 32, 32, 3)
    # Windows at 0, 12 and 20; both halves of guidance go through the encoder together.
    assert calls == [32, 32, 32]
    engine._cache = ResidualCache(1)
    assert np.array_equal(generate(engine, longer, guides), frames)
    with_prompts = longer | {"prompts": [{"clip_frame": 30, "prompt": "a blue box"}]}
    assert not np.array_equal(generate(engine, with_prompts, guides), frames)


WRONG = {
    "too long a window": (context(33, 4, "static"), "context or span has 33 frames"),
    "all shared": (context(8, 8, "static"), "cannot share 8 with the next"),
    "no window": ({"noise": "free"}, "Set a context with it"),
    "loop and causal": (
        context(8, 2, "looped", attention={"kind": "causal", "span": 4}),
        "A loop has no first frame",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_gets_a_sentence(
    engine: Engine, request_for: MakeRequest, guides: Guides, name: str
) -> None:
    sampling, sentence = WRONG[name]
    with pytest.raises(EngineError, match=sentence):
        generate(engine, request_for(clip={"frames": 40}, sampling=sampling), guides)


@pytest.mark.slow
def test_the_seams_of_windows_are_little_more_than_what_moves(
    tmp_path: Path, request_for: MakeRequest
) -> None:
    """With -s it prints how much frames change where windows of 8 frames that share 2 begin and
    end, and elsewhere, against a clip of one window of blockout-mini.
    """
    frames, side = 16, 128
    engine, guides = Engine("cpu"), Guides(tmp_path)
    engine.load(MINI, lambda event: None)
    rows, columns = np.indices((side, side))
    keyframes = []
    for k in range(0, frames, 3):
        ball = (columns - 24 - 5 * k) ** 2 + (rows - 70) ** 2 < 22**2
        codes = np.where(ball, 50000, np.where(rows > 60, 300 * (rows - 60), 0)).astype(np.uint16)
        sha256 = guides.add(f"{k}.png", Image.fromarray(codes))
        keyframes.append({"clip_frame": k, "sha256": sha256, "strength": 1.0})
    request = request_for(
        {"guide": "depth", "strength": 1.0, "keyframes": keyframes},
        prompt="a red ball on grass at noon",
        checkpoint={"name": "blockout-mini"},
        clip={"frames": frames, "width": side, "height": side},
        sampling={"steps": 10},
    )

    def changes(context: dict[str, Any]) -> np.ndarray:
        asked = {**request, "sampling": {**request["sampling"], **context}}
        take = engine.generate(asked, guides, 1, lambda event: None, lambda: False).frames
        return np.abs(np.diff(take.astype(float), axis=0)).mean(axis=(1, 2, 3))

    whole = changes({})
    windows = windows_at(Context(8, 2, "static"), frames, 0)
    ends = {frame for w in windows for frame in (w[0] - 1, w[-1]) if 0 <= frame < frames - 1}
    elsewhere = sorted(set(range(frames - 1)) - ends)
    for schedule in ("static", "uniform"):
        more = changes({"context": {"length": 8, "overlap": 2, "schedule": schedule}}) / whole
        seams, others = more[sorted(ends)].mean(), more[elsewhere].mean()
        print(f"\n{schedule}: {seams:.2f} times the change at seams, {others:.2f} elsewhere")
        assert seams < 1.5 * others
