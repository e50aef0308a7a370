"""Half precision that overflows: frames come out in float32, or a sentence, but never black."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.decode import PreviewDecoder
from animatic.engine.device import default_plan
from animatic.engine.run import Engine, EngineError

from .conftest import FRAMES, Guides
from .test_generate import MakeRequest, counted, generate
from .test_preview import LinearVae


def test_frames_that_overflow_in_float16_are_decoded_in_float32(
    checkpoint: Path, request_for: MakeRequest, guides: Guides
) -> None:
    engine = Engine("cpu")
    plan = default_plan("cpu").to_json()
    plan |= {"dtype": "float16", "batch": {"guidance": 2, "decode": 2}}
    engine.load(checkpoint, lambda event: None, plan)
    usual = generate(engine, request_for(), guides, plan=plan)
    weights = {name: weight.clone() for name, weight in engine.parts.vae.state_dict().items()}
    calls: list[torch.dtype] = []

    def overflow(module: torch.nn.Module, args: Any, made: torch.Tensor) -> torch.Tensor:
        calls.append(made.dtype)
        first = len(calls) == 1  # of the two batches the second stays as it is
        return made * torch.inf if first and made.dtype == torch.float16 else made

    hook = engine.parts.vae.decoder.register_forward_hook(overflow)
    try:
        take = generate(engine, request_for(), guides, plan=plan)
    finally:
        hook.remove()
    assert calls == [torch.float16, torch.float32, torch.float16]
    (note,) = take.notes
    assert "decoded in float32" in note
    assert np.abs(take.frames[: FRAMES // 2].astype(int) - usual.frames[: FRAMES // 2]).max() <= 2
    assert np.array_equal(take.frames[FRAMES // 2 :], usual.frames[FRAMES // 2 :])
    for name, weight in engine.parts.vae.state_dict().items():
        assert weight.dtype == torch.float16
        assert torch.equal(weight, weights[name])
    again = generate(engine, request_for(), guides, plan=plan)
    assert np.array_equal(again.frames, usual.frames)
    assert not again.notes


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_where_there_are_no_numbers_the_artist_reads_what_to_change(
    engine: Engine, request_for: MakeRequest, guides: Guides, part: str
) -> None:
    seen: list[dict[str, Any]] = []
    module = engine.parts.unet.conv_out if part == "unet" else engine.parts.vae.decoder
    hook = module.register_forward_hook(lambda module, args, made: made * torch.nan)
    try:
        with (
            counted(engine.parts.vae.decoder) as decoded,
            pytest.raises(EngineError, match=r"left their range \(float32\).*Lower the guidance"),
        ):
            generate(engine, request_for(), guides, on_event=seen.append)
    finally:
        hook.remove()
    previews = [event for event in seen if event["type"] == "preview"]
    assert (bool(previews), bool(decoded)) == ((False, False) if part == "unet" else (True, True))


def test_an_autoencoder_that_overflows_has_no_preview() -> None:
    class Overflowing(LinearVae):
        def encode(self, pictures: torch.Tensor) -> SimpleNamespace:
            made = super().encode(pictures).latent_dist.mode() * torch.inf
            return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: made))

    plan = SimpleNamespace(torch_device=torch.device("cpu"))
    parts = SimpleNamespace(vae=Overflowing(), plan=plan, latent_scale=8)
    assert PreviewDecoder(parts).jpeg(torch.zeros(1, 4, 2, 2, 2)) is None
