"""CPUs with instructions for it compute in bfloat16, but pictures in float32."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.device import default_plan
from animatic.engine.run import Engine, EngineError

from .conftest import Guides
from .test_generate import MakeRequest, generate

Able = Callable[..., None]


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> Able:
    """Call it with what the CPU is to be able to."""

    def able(**capabilities: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    return able


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_computes_in_the_number_type_that_is_fast_there(
    able: Able, instructions: str
) -> None:
    able(avx512_f=True)
    assert default_plan("cpu").dtype == "float32"
    able(**{instructions: True})
    plan = default_plan("cpu")
    assert (plan.dtype, plan.vae_dtype) == ("bfloat16", "float32")


def test_a_take_in_bfloat16_is_nearly_the_one_in_float32(
    able: Able, checkpoint: Path, request_for: MakeRequest, guides: Guides
) -> None:
    request = request_for(
        guides.control("depth", {0: 1.0}),
        guides.control("render", {3: 1.0}),
        sampling={"guidance": 1.0},  # which multiplies what differs
    )
    made: dict[str, Any] = {}
    for kind, has in (("float32", False), ("bfloat16", True)):
        able(avx512_bf16=has)
        engine = Engine("cpu")
        engine.load(checkpoint, lambda event: None)
        made[kind] = generate(engine, request, guides)
        again = generate(engine, request, guides, plan=made[kind].plan)
        assert made[kind].plan["dtype"] == kind
        assert np.array_equal(again.frames, made[kind].frames)
        assert str(engine.parts.vae.dtype) == "torch.float32"
    assert str(engine.parts.unet.dtype) == "torch.bfloat16"
    apart = np.abs(made["bfloat16"].frames.astype(int) - made["float32"].frames)
    assert 0 < apart.mean() < 2


def test_a_part_that_cannot_be_built_leaves_the_number_type_as_it_was(
    able: Able, checkpoint: Path, tmp_path: Path
) -> None:
    able(avx512_bf16=True)
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copied"))
    card = folder / "unet" / "config.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"norm_num_groups": 7}))
    with pytest.raises(EngineError):
        Engine("cpu").load(folder, lambda event: None)
    assert torch.get_default_dtype() == torch.float32
