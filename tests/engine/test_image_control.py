"""An ordinary image ControlNet: frame by frame, held to the keyframes, beside a sparse encoder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.conditions import build_condition
from animatic.engine.motion import use_reference_normalisation
from animatic.engine.residuals import ControlBranch, ResidualCache
from animatic.engine.run import Engine, EngineError, describe
from diffusers import (
    AnimateDiffControlNetPipeline,
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from .conftest import FRAMES, SIZE, Guides

MakeRequest = Callable[..., dict[str, Any]]
CLIP = {"frames": FRAMES, "fps": "8", "width": SIZE, "height": SIZE}
LATENTS = (4, FRAMES, SIZE // 8, SIZE // 8)


def image(control: dict[str, Any]) -> dict[str, Any]:
    return control | {"encoder": "image"}


def generate(engine: Engine, request: dict[str, Any], guides: Guides, **more: Any) -> np.ndarray:
    return engine.generate(request, guides, 1, lambda event: None, lambda: False, **more).frames


def branch(engine: Engine, guides: Guides, *controls: dict[str, Any]) -> ControlBranch:
    parts = engine.parts
    text = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    pairs = []
    for control in controls:
        condition = build_condition(parts, control, guides, CLIP)
        assert condition is not None
        pairs.append((parts.control(control["guide"], control.get("encoder")), condition))
    return ControlBranch(pairs, text, torch.Size(LATENTS), ResidualCache(0), "test")


@torch.inference_mode()
def test_each_keyed_frame_by_itself_and_nothing_elsewhere(equipped: Engine, guides: Guides) -> None:
    control = image(guides.control("depth", {0: 1.0, 2: 0.5}, strength=0.8))
    held = branch(equipped, guides, control)
    latents = torch.randn(1, *LATENTS, generator=torch.Generator().manual_seed(2))
    t = torch.tensor(301)
    made = held.at(t, slice(0, 2), latents=latents)
    assert made is not None
    encoder = equipped.parts.control("depth", "image")
    condition, text = held._controls[0][1], held._text
    for half in range(2):
        for frame, strength in ((0, 0.8), (2, 0.4)):
            skips, middle = encoder(
                latents[:, :, frame],
                t,
                encoder_hidden_states=text[half : half + 1],
                controlnet_cond=condition.values[:, :, frame],
                conditioning_scale=strength,
                return_dict=False,
            )
            for ours, theirs in zip(made, (*skips, middle), strict=True):
                place = half * FRAMES + frame
                torch.testing.assert_close(ours[place], theirs[0], rtol=1e-5, atol=1e-6)
                assert theirs.any()
                assert not ours[half * FRAMES + 1].any()
                assert not ours[half * FRAMES + 3].any()
    # A window shows a frame the same, wherever it lies in it; without a keyframe there is nothing.
    later = held.at(t, slice(0, 2), window=(2, 3), latents=latents[:, :, 2:])
    assert later is not None
    for ours, whole in zip(later, made, strict=True):
        torch.testing.assert_close(ours[0], whole[2], rtol=1e-5, atol=1e-6)
    assert held.at(t, slice(0, 2), window=(3,), latents=latents[:, :, 3:]) is None


@torch.inference_mode()
def test_beside_a_sparse_encoder_the_residuals_add_up(equipped: Engine, guides: Guides) -> None:
    sparse = guides.control("depth", {3: 1.0})
    dense = image(guides.control("depth", {1: 1.0}, strength=0.5))
    latents = torch.randn(1, *LATENTS, generator=torch.Generator().manual_seed(2))
    both, first, second = (
        branch(equipped, guides, *controls).at(torch.tensor(301), slice(0, 2), latents=latents)
        for controls in ((sparse, dense), (sparse,), (dense,))
    )
    for total, a, b in zip(both, first, second, strict=True):
        assert torch.equal(total, a + b)


def test_the_other_frames_keep_their_bits(
    equipped: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    """Where frames are made by themselves, a guide changes its own frame alone."""
    alone = {"guidance": 1.0, "temporal": 0.0}
    free = generate(equipped, request_for(sampling=alone), guides)
    request = request_for(image(guides.control("depth", {0: 1.0, 2: 1.0})), sampling=alone)
    held = generate(equipped, request, guides)
    assert np.array_equal(held[1::2], free[1::2])
    assert not np.array_equal(held[0], free[0])
    assert not np.array_equal(held[2], free[2])
    late = request["controls"][0] | {"start": 0.5}
    assert not np.array_equal(generate(equipped, request | {"controls": [late]}, guides), held)


def test_on_every_frame_it_is_the_pipelines_video(
    equipped: Engine, equipped_folder: Path, request_for: MakeRequest, guides: Guides
) -> None:
    noise = np.random.default_rng(3)
    keyframes, pictures = [], []
    for frame in range(FRAMES):
        levels = noise.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        pictures.append(Image.fromarray(levels).convert("RGB"))
        codes = Image.fromarray(levels.astype(np.uint16) * 257)
        sha256 = guides.add(f"every{frame}.png", codes)
        keyframes.append({"clip_frame": frame, "sha256": sha256, "strength": 1.0})
    control = {"guide": "depth", "encoder": "image", "strength": 0.9, "keyframes": keyframes}
    request = request_for(control, sampling={"steps": 3}, negative_prompt="blurry")
    ours = generate(equipped, request, guides)

    def load(cls: Any, part: str) -> Any:
        return cls.from_pretrained(equipped_folder / part, torch_dtype=torch.float32)

    pipeline = AnimateDiffControlNetPipeline(
        vae=load(AutoencoderKL, "vae"),
        text_encoder=load(CLIPTextModel, "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(equipped_folder / "tokenizer"),
        unet=load(UNet2DConditionModel, "unet"),
        motion_adapter=load(MotionAdapter, "motion_adapter"),
        controlnet=load(ControlNetModel, "controlnet_depth"),
        scheduler=DDIMScheduler.from_pretrained(equipped_folder / "scheduler"),
    )
    use_reference_normalisation(pipeline.unet)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=request["prompt"],
        negative_prompt="blurry",
        conditioning_frames=pictures,
        controlnet_conditioning_scale=0.9,
        num_frames=FRAMES,
        num_inference_steps=3,
        guidance_scale=request["sampling"]["guidance"],
        width=SIZE,
        height=SIZE,
        generator=torch.Generator().manual_seed(1),
        output_type="np",
    ).frames[0]
    assert np.abs(ours - theirs * 255).max() < 1


def test_a_part_that_may_be_added(
    equipped: Engine,
    equipped_folder: Path,
    checkpoint: Path,
    request_for: MakeRequest,
    guides: Guides,
    tmp_path: Path,
) -> None:
    """Adding it makes no other checkpoint, but takes made with it know which one it was."""
    without, there = describe(checkpoint), describe(equipped_folder)
    assert there["sha256"] == without["sha256"]
    assert without["encoders"]["depth"] == ["sparse"]
    assert there["encoders"]["depth"] == ["sparse", "image"]
    sparse = request_for(guides.control("depth", {1: 1.0}))
    dense = request_for(image(guides.control("depth", {1: 1.0})))
    made = equipped.generate(dense, guides, 1, lambda event: None, lambda: False)
    assert made.plan["parts"].keys() == {"controlnet_depth"}
    again = equipped.generate(dense, guides, 1, lambda event: None, lambda: False, made.plan)
    assert np.array_equal(made.frames, again.frames)
    plain = equipped.generate(sparse, guides, 1, lambda event: None, lambda: False)
    assert "parts" not in plain.plan
    other = made.plan | {"parts": {"controlnet_depth": "0" * 64}}
    with pytest.raises(EngineError, match="made with another controlnet_depth"):
        equipped.generate(dense, guides, 1, lambda event: None, lambda: False, other)
    twice = request_for(*dense["controls"], *dense["controls"])
    with pytest.raises(EngineError, match="Two controls give depth guides to the image encoder"):
        generate(equipped, twice, guides)
    lines = request_for(image(guides.control("lineart", {1: 1.0})))
    with pytest.raises(EngineError, match="no image encoder for lineart guides, only a sparse one"):
        generate(equipped, lines, guides)

    # Without a sparse encoder it is the one that a depth guide goes to.
    alone = tmp_path / "alone"
    shutil.copytree(equipped_folder, alone)
    card = json.loads((alone / "animatic.json").read_text())
    card["guides"].pop("depth")
    (alone / "animatic.json").write_text(json.dumps(card))
    assert describe(alone)["encoders"]["depth"] == ["image"]
    engine = Engine("cpu")
    engine.load(alone, lambda event: None)
    assert np.array_equal(generate(engine, sparse, guides), made.frames)
    shutil.rmtree(alone / "controlnet_depth")
    assert "depth" not in describe(alone)["guides"]
