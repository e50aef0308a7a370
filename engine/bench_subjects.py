"""What `animatic bench engine` compares: this engine and diffusers' pipeline, on one folder."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import (
    AnimateDiffSparseControlNetPipeline,
    AutoencoderKL,
    DDIMScheduler,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .checkpoint import read_json
from .device import Plan, synchronise
from .residuals import ResidualCache
from .run import Engine, Take
from .training.architecture import build_scheduler
from .training.export import describe, write_checkpoint
from .training.vocabulary import build_tokenizer
from .vae import VAE_CLASSES

PROMPT = "a red box on grass, under a blue sky"


def sd15_parts(device: torch.device) -> dict[str, Any]:
    """Models of the sizes of Stable Diffusion 1.5, AnimateDiff v3 and SparseCtrl's pixel encoder,
    of random weights in half precision.
    """
    held = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    text = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    try:
        with device:
            return {
                "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
                "motion_adapter": MotionAdapter(use_motion_mid_block=False),
                "vae": AutoencoderKL(
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    up_block_types=("UpDecoderBlock2D",) * 4,
                    block_out_channels=(128, 256, 512, 512),
                    layers_per_block=2,
                    sample_size=512,
                ),
                "text_encoder": CLIPTextModel(text),
                "sparsectrl_depth": SparseControlNetModel(
                    conditioning_channels=3, use_simplified_condition_embedding=False
                ),
            }
    finally:
        torch.set_default_dtype(held)


def write_sd15(folder: Path, side: int, frames: int, device: torch.device) -> None:
    """Write a checkpoint of ``sd15_parts``: four gigabytes."""
    about = describe("sd15-random", side, side, frames, 8, 2.0)
    fixed = {"tokenizer": build_tokenizer(1200, 77), "scheduler": build_scheduler("epsilon")}
    write_checkpoint(folder, about, sd15_parts(device), fixed)


class Shot:
    """A shot to measure with: depth guides on the first and the last frame."""

    def __init__(self, checkpoint: Path, folder: Path, side: int, frames: int, steps: int) -> None:
        self.checkpoint = checkpoint
        self.side, self.frames, self.steps, self.guidance = side, frames, steps, 7.5
        rows = np.linspace(1, 60000, side).astype(np.uint16)
        self.codes = np.repeat(rows[:, None], side, axis=1)
        path = folder / "depth.png"
        Image.fromarray(self.codes).save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.keyed = sorted({0, frames - 1})
        self.guides = {sha256: path}
        keyframes = [{"clip_frame": k, "sha256": sha256, "strength": 1.0} for k in self.keyed]
        card = json.loads((checkpoint / "animatic.json").read_text(encoding="utf-8"))
        self.request: dict[str, Any] = {
            "prompt": PROMPT,
            "negative_prompt": "",
            "checkpoint": {"name": card["name"], "sha256": None},
            "loras": [],
            "clip": {"frames": frames, "fps": "8", "width": side, "height": side},
            "controls": [{"guide": "depth", "strength": 1.0, "keyframes": keyframes}],
            "sampling": {"steps": steps, "guidance": self.guidance},
        }


class Subject(Protocol):
    """One of the two that are compared."""

    def take(self, seed: int) -> np.ndarray:
        """A take from nothing but loaded weights; frames uint8 [F, H, W, 3]."""

    def takes(self, count: int) -> None:
        """Takes of one shot."""

    def again(self, seed: int) -> np.ndarray:
        """The shot of the last take once more, with another seed."""


class Animatic:
    """This engine."""

    def __init__(self, shot: Shot, plan: Plan) -> None:
        self.shot = shot
        self.plan = plan.to_json()
        self.engine = Engine(plan.device)
        self.engine._plan = plan  # so that it loads what it computes with
        self.engine.load(shot.checkpoint, lambda event: None)
        self.engine.parts.control("depth")  # loaded when it is first needed; the other has it
        self.preview_seconds = 0.0

    def take(self, seed: int) -> np.ndarray:
        self.forget()
        return self.again(seed)

    def again(self, seed: int) -> np.ndarray:
        made: list[Take] = []
        self._run([seed], None, made)
        return made[0].frames

    def takes(self, count: int) -> None:
        self.forget()
        self._run(list(range(1, count + 1)), None, [])

    def lockstep(self, count: int) -> None:
        """As ``takes``, step by step side by side; nothing is kept beyond a step."""
        self.engine._cache = ResidualCache(1)
        self._run(list(range(1, count + 1)), True, [])

    def uncached(self, seed: int) -> np.ndarray:
        """As ``again``, but nothing is kept."""
        self.engine._cache = ResidualCache(1)
        return self.again(seed)

    def forget(self) -> None:
        """Drop what earlier takes have left."""
        self.engine._cache = ResidualCache(0)

    def _run(self, seeds: list[int], together: bool | None, made: list[Take]) -> None:
        shot = self.shot
        self.engine.generate_takes(
            shot.request,
            shot.guides,
            seeds,
            lambda event: None,
            lambda index, take: made.append(take),
            lambda: False,
            self.plan,
            together,
        )

    def preview_share(self, seed: int) -> float:
        """The share of a take's time that its previews take."""
        preview = self.engine._preview
        assert preview is not None
        spent = 0.0
        draw = preview.jpeg

        def timed(latents: torch.Tensor) -> bytes | None:
            nonlocal spent
            synchronise(latents.device)
            clock = time.perf_counter()
            made = draw(latents)
            spent += time.perf_counter() - clock
            return made

        preview.jpeg = timed  # type: ignore[method-assign]
        try:
            clock = time.perf_counter()
            self.take(seed)
            return spent / (time.perf_counter() - clock)
        finally:
            preview.jpeg = draw  # type: ignore[method-assign]


class Stock:
    """diffusers' AnimateDiffSparseControlNetPipeline, as it is."""

    def __init__(self, shot: Shot, plan: Plan) -> None:
        self.shot = shot

        def load(cls: Any, part: str) -> Any:
            return cls.from_pretrained(shot.checkpoint / part, torch_dtype=plan.torch_dtype)

        config = read_json(shot.checkpoint / "vae" / "config.json", "the VAE's configuration")
        self.pipeline = AnimateDiffSparseControlNetPipeline(
            vae=load(VAE_CLASSES[config["_class_name"]], "vae"),
            text_encoder=load(CLIPTextModel, "text_encoder"),
            tokenizer=CLIPTokenizer.from_pretrained(shot.checkpoint / "tokenizer"),
            unet=load(UNet2DConditionModel, "unet"),
            motion_adapter=load(MotionAdapter, "motion_adapter"),
            controlnet=load(SparseControlNetModel, "sparsectrl_depth"),
            scheduler=DDIMScheduler.from_pretrained(shot.checkpoint / "scheduler"),
        ).to(plan.torch_device)
        self.pipeline.set_progress_bar_config(disable=True)
        picture = Image.fromarray((shot.codes >> 8).astype(np.uint8)).convert("RGB")
        self.pictures = [picture] * len(shot.keyed)

    def take(self, seed: int) -> np.ndarray:
        shot = self.shot
        frames = self.pipeline(
            prompt=PROMPT,
            negative_prompt="",
            conditioning_frames=self.pictures,
            controlnet_frame_indices=shot.keyed,
            controlnet_conditioning_scale=1.0,
            num_frames=shot.frames,
            width=shot.side,
            height=shot.side,
            num_inference_steps=shot.steps,
            guidance_scale=shot.guidance,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).frames[0]
        return (frames * 255).round().astype(np.uint8)

    again = take

    def takes(self, count: int) -> None:
        for seed in range(1, count + 1):
            self.take(seed)
