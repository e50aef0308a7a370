"""Takes side by side, residuals kept in two places, memory that runs out, and the bench."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine import bench, run
from animatic.engine.bench_subjects import sd15_parts
from animatic.engine.parts import join_motion
from animatic.engine.residuals import ResidualCache
from animatic.engine.run import Cancelled, Engine, Take

from .conftest import Guides
from .test_generate import counted, generate

MakeRequest = Callable[..., dict[str, Any]]


def takes_of(
    engine: Engine, request: dict[str, Any], guides: Guides, together: bool | None, **options: Any
) -> dict[int, Take]:
    made: dict[int, Take] = {}
    engine.generate_takes(
        request,
        guides,
        [5, 6, 7],
        options.get("on_event", lambda event: None),
        made.__setitem__,
        lambda: False,
        None,
        together,
    )
    return made


@pytest.mark.parametrize(
    "schedule", [{}, {"schedule": "dpm"}, {"upscale": {"scale": 1.5, "share": 0.5}}]
)
def test_takes_in_lockstep_are_the_single_takes_and_share_residuals(
    engine: Engine, request_for: MakeRequest, guides: Guides, schedule: dict[str, Any]
) -> None:
    request = request_for(guides.control("depth", {0: 1.0}), sampling={"steps": 4, **schedule})
    engine._cache = ResidualCache(10**9)
    single = [generate(engine, request, guides, seed).frames for seed in (5, 6, 7)]
    seen: list[dict[str, Any]] = []
    engine._cache = ResidualCache(1)  # no room: lockstep by itself
    with counted(engine.parts.control("depth").mid_block) as calls:
        made = takes_of(engine, request, guides, None, on_event=seen.append)
    steps = 6 if "upscale" in schedule else 4
    assert len(calls) == steps  # not three times as many
    assert list(made) == [0, 1, 2]
    for index, frames in enumerate(single):
        assert np.array_equal(made[index].frames, frames)
    phases = [e for e in seen if e.get("phase") == "sampling"]
    assert [(e["done"], e["take"]) for e in phases[:4]] == [(1, 0), (2, 1), (3, 2), (4, 0)]
    assert {(e["of"], e["together"]) for e in phases} == {(3 * steps, 3)}
    assert [e["take"] for e in seen if e.get("phase") == "decode"] == [0, 1, 2]
    assert engine._cache._now == {}


def test_with_room_takes_come_one_after_the_other(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    request = request_for(guides.control("depth", {0: 1.0}))
    engine._cache = ResidualCache(10**9)
    seen: list[dict[str, Any]] = []
    with counted(engine.parts.control("depth").mid_block) as calls:
        takes_of(engine, request, guides, None, on_event=seen.append)
    assert len(calls) == 2
    order = [e["take"] for e in seen if e.get("phase") in ("sampling", "decode")]
    assert order == sorted(order)


def test_a_second_pass_at_a_larger_size_counts_with_what_it_takes(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    upscale = {"upscale": {"scale": 2, "share": 0.5}}
    control = guides.control("depth", {0: 1.0})
    engine._cache = ResidualCache(10**9)
    generate(engine, request_for(control, sampling={"steps": 1}), guides)
    one = sum(engine._cache._size.values())
    for room, together in ((9, True), (13, False)):  # 4 steps, and 2 of four times the size
        engine._cache = ResidualCache(room * one)
        seen: list[dict[str, Any]] = []
        request = request_for(control, sampling={"steps": 4, **upscale})
        takes_of(engine, request, guides, None, on_event=seen.append)
        assert any("together" in event for event in seen) == together


def test_residuals_of_steps_that_are_not_made_any_more_give_way(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    control = guides.control("depth", {0: 1.0})

    def steps(count: int, **more: Any) -> dict[str, Any]:
        return request_for(control, sampling={"steps": count, **more})

    engine._cache = ResidualCache(10**9)
    generate(engine, steps(1), guides)
    engine._cache = ResidualCache(5 * sum(engine._cache._size.values()))
    generate(engine, steps(6), guides)  # one finds no room
    seen: list[dict[str, Any]] = []
    takes_of(engine, steps(5), guides, None, on_event=seen.append)
    assert not any("together" in event for event in seen)
    with counted(engine.parts.control("depth").mid_block) as calls:
        generate(engine, steps(5), guides, seed=9)
    assert not calls
    # The first step of both is the same, but now all of them find no room.
    generate(engine, steps(5, schedule="dpm"), guides)
    takes_of(engine, steps(8, schedule="dpm"), guides, None, on_event=seen.append)
    assert any("together" in event for event in seen)


def test_pictures_laid_out_channels_last_are_the_same_but_for_rounding(
    checkpoint: Path, request_for: MakeRequest, guides: Guides
) -> None:
    engine = Engine("cpu")
    engine.load(checkpoint, lambda event: None)
    request = request_for(guides.control("depth", {0: 1.0}))
    plain = generate(engine, request, guides)
    assert "channels_last" not in plain.plan
    plan = plain.plan | {"channels_last": True}
    last, again = (generate(engine, request, guides, plan=plan) for _ in range(2))
    assert engine.parts.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert last.plan == plan
    assert np.array_equal(last.frames, again.frames)
    assert np.abs(last.frames.astype(int) - plain.frames).max() <= 1
    assert np.array_equal(generate(engine, request, guides).frames, plain.frames)


def test_residuals_go_to_the_host_where_the_device_has_no_room() -> None:
    def made(value: float) -> tuple[torch.Tensor, ...]:
        return (torch.full((256,), value), torch.full((256,), value))

    def refused() -> tuple[torch.Tensor, ...]:
        raise AssertionError("computed again")

    cache = ResidualCache(2048, host_budget=2048)
    for t in (1.0, 2.0, 3.0):
        cache.get("shot", (t,), lambda t=t: made(t))
    assert not cache.holds(3)
    for t in (1.0, 2.0):
        assert torch.equal(cache.get("shot", (t,), refused)[0], made(t)[0])
    with pytest.raises(AssertionError):
        cache.get("shot", (3.0,), refused)
    with cache.lockstep():
        cache.get("shot", (3.0,), lambda: made(3.0))
        assert torch.equal(cache.get("shot", (3.0,), refused)[0], made(3.0)[0])
    cache.keep_only([])
    assert cache.holds(3)


def test_the_host_counts_what_torch_pins() -> None:
    cache = ResidualCache(0, host_budget=4096)
    for t in range(3):
        cache.get("shot", (t,), lambda: (torch.zeros(300),))  # 1200 bytes, pinned 2048
        assert cache.holds(2) == (t < 2)


@pytest.mark.parametrize("stage", ["sampling", "decode"])
def test_out_of_memory_steps_down_once_and_tells(
    engine: Engine, request_for: MakeRequest, guides: Guides, stage: str
) -> None:
    request = request_for(guides.control("depth", {0: 1.0}))
    usual = generate(engine, request, guides)
    assert not usual.notes

    def too_much(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if len(args[0]) > (4 if stage == "sampling" else 1):
            torch.empty(10**16)

    module = engine.parts.unet.conv_in if stage == "sampling" else engine.parts.vae.decoder
    hook = module.register_forward_pre_hook(too_much)
    try:
        take = generate(engine, request, guides)
    finally:
        hook.remove()
    smaller = {"sampling": {"guidance": 1, "decode": 4}, "decode": {"guidance": 2, "decode": 1}}
    assert take.plan["batch"] == smaller[stage]
    (note,) = take.notes
    assert note.startswith("Memory ran out once: ")
    assert np.array_equal(generate(engine, request, guides, plan=take.plan).frames, take.frames)
    again = generate(engine, request, guides)  # the next request begins at full size
    assert np.array_equal(again.frames, usual.frames)
    assert again.plan == usual.plan


def test_all_that_is_kept_makes_way_where_memory_runs_out(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    generate(engine, request_for(guides.control("lineart", {0: 1.0})), guides)
    engine._cache = ResidualCache(10**9)
    request = request_for(guides.control("depth", {0: 1.0}), sampling={"steps": 3, "guidance": 1.0})

    def too_much(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if "lineart" in engine.parts.controls or len(engine._cache._kept) > 1:
            torch.empty(10**16)

    hook = engine.parts.unet.conv_in.register_forward_pre_hook(too_much)
    try:
        take = generate(engine, request, guides)
        assert len(take.notes) == 1
        replayed = generate(engine, request, guides, plan=take.plan)
    finally:
        hook.remove()
    assert np.array_equal(replayed.frames, take.frames)
    generate(engine, request, guides)
    assert len(engine._cache._kept) == 3  # the next request keeps them again


def test_where_memory_is_short_sampling_is_alone_with_the_unet(
    engine: Engine, request_for: MakeRequest, guides: Guides, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(guides.control("render", {0: 1.0}))
    plan = generate(engine, request, guides).plan | {"batch": {"guidance": 1, "decode": 4}}
    # Here the device is the CPU too, but only what waits is sent there by its name.
    at: dict[torch.nn.Module, Any] = {}
    move: Any = torch.nn.Module.to

    def noted(module: torch.nn.Module, *args: Any, **more: Any) -> Any:
        at[module] = args[0]
        return move(module, *args, **more)

    monkeypatch.setattr(torch.nn.Module, "to", noted)
    phases = []

    def on_event(event: dict[str, Any]) -> None:
        if event["type"] == "phase" and event["phase"] in ("sampling", "decode"):
            waiting = [at[part] == "cpu" for part in (engine.parts.vae, engine.parts.text_encoder)]
            phases.append((event["phase"], event["take"], waiting))

    engine.generate_takes(
        request, guides, [1, 2], on_event, lambda index, take: None, lambda: False, plan, False
    )
    assert [*dict.fromkeys((name, take, *waiting) for name, take, waiting in phases)] == [
        ("sampling", 0, True, True),
        ("decode", 0, False, True),
        ("sampling", 1, True, True),
        ("decode", 1, False, True),
    ]


def test_between_jobs_the_card_is_free_for_others(
    engine: Engine, request_for: MakeRequest, guides: Guides, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[torch.device] = []
    monkeypatch.setattr(run, "release_memory", released.append)
    generate(engine, request_for(), guides)
    with pytest.raises(Cancelled):
        generate(engine, request_for(), guides, should_cancel=lambda: True)
    assert released == [torch.device("cpu")] * 2


def test_a_cancel_leaves_no_tensor_behind(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    request = request_for(guides.control("depth", {0: 1.0}), sampling={"steps": 6})
    generate(engine, request, guides)
    engine._cache = ResidualCache(0)

    def tensors() -> int:
        gc.collect()
        return sum(1 for thing in gc.get_objects() if type(thing) is torch.Tensor)

    before = tensors()
    steps: list[dict[str, Any]] = []
    with pytest.raises(Cancelled) as raised:
        generate(
            engine, request, guides, on_event=steps.append, should_cancel=lambda: len(steps) > 8
        )
    assert tensors() == before  # while the exception is still held
    assert raised.value.__traceback__ is not None


def test_the_bench_compares_and_finds_the_same_bits(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    options = ["--model", checkpoint, "--device", "cpu", "--side", 32, "--frames", 2, "--steps", 2]
    options += ["--takes", 2, "--repeats", 1, "--threads", 1, "--no-memory", "--json", file]
    assert bench.main([str(option) for option in options]) == 0
    figures = json.loads(file.read_text())
    assert figures["same_bits_cached"] is True
    assert figures["bound"]["again"] > figures["bound"]["takes"] > 1
    assert min(figures["work_tflop"].values()) > 0
    assert {"take", "again", "takes", "lockstep"} == set(figures["seconds"]["animatic"])
    told = capsys.readouterr().out
    assert "| a re-roll with another seed |" in told
    assert set(figures["levels"]) == {
        "channels-last", "fused projections", "two takes in one batch",
    }  # fmt: skip
    assert "- as expected: the same bits with and without what is kept" in told


def test_the_full_size_of_the_bench_is_that_of_the_published_models() -> None:
    parts = sd15_parts(torch.device("meta"))
    millions = {
        name: sum(p.numel() for p in model.parameters()) / 1e6 for name, model in parts.items()
    }
    assert abs(millions["unet"] - 859.52) < 0.01
    assert abs(millions["motion_adapter"] - 417.14) < 0.01
    assert abs(millions["sparsectrl_depth"] - 497.80) < 0.01
    assert abs(millions["vae"] - 83.65) < 0.01
    assert abs(millions["text_encoder"] - 123.06) < 0.01
    assert {p.dtype for model in parts.values() for p in model.parameters()} == {torch.float16}
    models = {
        "unet": join_motion(parts["unet"], parts["motion_adapter"], Path(), Path()).float(),
        "control": parts["sparsectrl_depth"].float(),
        "vae": parts["vae"].float(),
    }
    work = bench.operations(models, 77, 512, 16)
    assert {name: round(tflop, 2) for name, tflop in work.items()} == {
        "unet": 35.35,
        "control": 11.98,
        "decode": 40.23,
    }


@pytest.mark.slow
def test_compiled_models_agree_and_are_compiled_once(
    checkpoint: Path, request_for: MakeRequest, guides: Guides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANIMATIC_COMPILE", "1")
    compiled = Engine("cpu")
    compiled.load(checkpoint, lambda event: None)
    monkeypatch.delenv("ANIMATIC_COMPILE")
    plain = Engine("cpu")
    plain.load(checkpoint, lambda event: None)
    request = request_for(guides.control("depth", {0: 1.0}))
    made = generate(compiled, request, guides)
    assert made.plan["compiled"] is True
    assert np.abs(made.frames.astype(int) - generate(plain, request, guides).frames).max() <= 1
    other = request_for(
        guides.control("depth", {1: 0.5}), prompt="a blue box", sampling={"steps": 3}
    )
    with torch.compiler.set_stance("fail_on_recompile"):
        generate(compiled, other, guides, seed=9)
