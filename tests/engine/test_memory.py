"""What is given back, and when: an old checkpoint, memory that ran out, models that wait."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from animatic.engine import run
from animatic.engine.device import release_memory
from animatic.engine.run import Engine, EngineError

from .conftest import Guides
from .test_generate import MakeRequest, generate


def test_the_old_checkpoint_is_gone_before_the_new_one_comes(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine("cpu")
    engine.load(checkpoint, lambda event: None)
    models = engine.parts.unet, engine.parts.vae, engine.parts.text_encoder
    engine.parts.unet.held = engine.parts.unet.forward  # a cycle, as a compiled model has
    old = [weakref.ref(model) for model in models]
    del models
    alive: list[bool] = []
    load_parts = run.load_parts

    def noted(*args: Any) -> Any:
        alive.extend(model() is not None for model in old)
        return load_parts(*args)

    monkeypatch.setattr(run, "load_parts", noted)
    gc.disable()  # it may not help by chance
    try:
        plan = engine.parts.plan.to_json() | {"dtype": "bfloat16"}
        engine.load(checkpoint, lambda event: None, plan)
    finally:
        gc.enable()
    assert alive == [False] * 3
    assert engine.parts.unet.dtype == torch.bfloat16


def test_pinned_memory_goes_back_with_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: released.append("card"))
    for place, name in ((torch.accelerator, "empty_host_cache"), (torch._C, "_host_emptyCache")):
        monkeypatch.setattr(place, name, lambda name=name: released.append(name), raising=False)
    release_memory(torch.device("cuda:0"))
    monkeypatch.delattr(torch.accelerator, "empty_host_cache")
    release_memory(torch.device("cuda"))
    assert released == ["card", "empty_host_cache", "card", "_host_emptyCache"]
    release_memory(torch.device("cpu"))
    assert len(released) == 4


def test_what_may_not_be_a_lack_of_memory_is_told_in_its_own_words(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    said = "GET was unable to find an engine to execute this computation"
    batches: list[int] = []

    def refuse(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        batches.append(len(args[0]))
        raise RuntimeError(said)

    hook = engine.parts.unet.conv_in.register_forward_pre_hook(refuse)
    try:
        with pytest.raises(EngineError, match=rf"Lower the size .* update its driver.*\({said}\)"):
            generate(engine, request_for(), guides)
    finally:
        hook.remove()
    assert batches == [8, 4]  # the smaller plan was tried


def test_loras_are_merged_into_a_text_encoder_that_is_back_on_its_device(
    engine: Engine, request_for: MakeRequest, guides: Guides, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = generate(engine, request_for(), guides).plan
    # Here the device is the CPU too, but only what waits is sent there by its name.
    at: dict[torch.nn.Module, Any] = {}
    move: Any = torch.nn.Module.to

    def noted(module: torch.nn.Module, *args: Any, **more: Any) -> Any:
        at[module] = args[0]
        return move(module, *args, **more)

    merged_at: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "to", noted)
    monkeypatch.setattr(
        engine.parts.loras, "use", lambda wanted: merged_at.append(at[engine.parts.text_encoder])
    )
    at[engine.parts.text_encoder] = "cpu"
    generate(engine, request_for(), guides, plan=plan | {"batch": {"guidance": 1, "decode": 4}})
    assert at[engine.parts.text_encoder] == "cpu"
    generate(engine, request_for(), guides)
    assert merged_at == [torch.device("cpu")] * 2
