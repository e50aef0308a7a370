"""Our sampling against diffusers' own pipeline, its motion modules set right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.motion import use_reference_normalisation
from animatic.engine.run import Engine
from diffusers import (
    AnimateDiffSparseControlNetPipeline,
    AutoencoderKL,
    DDIMScheduler,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from .conftest import FRAMES, SIZE, Guides


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_same_frames_as_the_pipeline(
    engine: Engine,
    checkpoint: Path,
    request_for: Callable[..., dict[str, Any]],
    guides: Guides,
    guidance: float,
) -> None:
    """Only line-art can be compared: the pipeline takes no 16-bit depth, and encodes colour
    conditions with the global random generator."""
    control = guides.control("lineart", {0: 1.0, 2: 1.0}, strength=1.0)
    sampling = {"steps": 4, "guidance": guidance}
    request = request_for(control, sampling=sampling, negative_prompt="blurry")
    ours = engine.generate(request, guides, 5, lambda event: None, lambda: False)

    def load(cls: Any, part: str) -> Any:
        return cls.from_pretrained(checkpoint / part, torch_dtype=torch.float32)

    pipeline = AnimateDiffSparseControlNetPipeline(
        vae=load(AutoencoderKL, "vae"),
        text_encoder=load(CLIPTextModel, "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(checkpoint / "tokenizer"),
        unet=load(UNet2DConditionModel, "unet"),
        motion_adapter=load(MotionAdapter, "motion_adapter"),
        controlnet=use_reference_normalisation(load(SparseControlNetModel, "sparsectrl_lineart")),
        scheduler=DDIMScheduler.from_pretrained(checkpoint / "scheduler"),
    )
    use_reference_normalisation(pipeline.unet)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=request["prompt"],
        negative_prompt=request["negative_prompt"],
        conditioning_frames=[
            Image.open(guides[keyframe["sha256"]]).convert("RGB")
            for keyframe in control["keyframes"]
        ],
        controlnet_frame_indices=[0, 2],
        controlnet_conditioning_scale=1.0,
        num_frames=FRAMES,
        width=SIZE,
        height=SIZE,
        num_inference_steps=4,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).frames[0]
    assert np.abs(ours.frames - theirs * 255).max() < 0.51
