"""Checkpoint folders written from what was trained, alone or beside a base."""

import json
import os
import shutil
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from torch import nn

from ..evaluation.eight_bits import save_in_eight_bits

MODEL_FOLDERS = (
    "unet",
    "motion_adapter",
    "vae",
    "text_encoder",
    "sparsectrl_depth",
    "sparsectrl_lineart",
    "sparsectrl_rgb",
)
GUIDE_FOLDERS = {
    "depth": "sparsectrl_depth",
    "lineart": "sparsectrl_lineart",
    "render": "sparsectrl_rgb",
}
# What `animatic evaluate` measures with; the engine itself has no use for it.
PER_FRAME = "evaluation/per_frame_depth"
EVALUATION_FOLDERS = ("evaluation/depth_estimator", PER_FRAME)
# The LoRA of stage few-steps, where the engine looks for LoRAs.
FEW_STEPS = "loras/few-steps.safetensors"
_LINKED = (".safetensors", ".json", ".txt", ".model")


def describe(
    name: str,
    width: int,
    height: int,
    frames: int,
    fps: int,
    lineart_width: float,
    steps: int = 20,
    guidance: float = 3.0,
    licence: str = "CC0-1.0",
    guidance_end: float = 1.0,
    schedule: str | None = None,
    timestep_shift: float = 1.0,
    keyframes: Mapping[str, str] | None = None,
    deflicker: bool = False,
) -> dict[str, Any]:
    """The content of animatic.json, but for the guides."""
    defaults: dict[str, Any] = {
        "steps": steps,
        "guidance": guidance,
        "guidance_end": guidance_end,
    }
    defaults |= {"keyframes": dict(keyframes)} if keyframes else {}
    defaults |= {"deflicker": True} if deflicker else {}
    return {
        "schema": 1,
        "name": name,
        "native": {"width": width, "height": height, "frames": frames, "fps": fps},
        "defaults": defaults | ({"schedule": schedule} if schedule else {}),
        "lineart_width": lineart_width,
        "licence": licence,
    } | ({"timestep_shift": timestep_shift} if timestep_shift != 1 else {})


@torch.no_grad()
def mean_weights(trained: nn.Module, before: nn.Module, share: float) -> None:
    """Make of ``trained`` the mean of its weights and those of ``before``, which it was trained on
    from, with ``share`` (0 to 1) of its own (model soups, Wortsman et al. 2022, arXiv 2203.05482).
    """
    for mine, earlier in zip(trained.parameters(), before.parameters(), strict=True):
        mine.lerp_(earlier, 1 - share)


@torch.no_grad()
def strengthen(encoder: SparseControlNetModel, factor: float) -> None:
    """Make of ``factor`` what the encoder is used with at a strength of 1: its residuals, which
    the layers at its outputs (ControlNet's zero convolutions) are the last to make, grow by it.
    """
    for layer in (*encoder.controlnet_down_blocks, encoder.controlnet_mid_block):
        for weight in layer.parameters():
            weight.mul_(factor)


def write_checkpoint(
    folder: Path,
    about: dict[str, Any],
    parts: dict[str, Any],
    fixed: dict[str, Any],
    base: Path | None = None,
    shard_size: str = "10GB",
    files: Mapping[str, Path] | None = None,
) -> None:
    """Write a checkpoint folder: ``parts`` (models by folder name) in half precision, those for
    `animatic evaluate` alone in eight bits, ``fixed`` (tokenizer, scheduler) and ``files`` (by
    their place in the folder) as they are, and what is in ``base`` and not among these as links:
    a model's parts, LoRAs, image ControlNets, and what reference pictures need.

    No file of weights is larger than ``shard_size``. The models are converted in place, so pass
    copies of what goes on training. Raises FileNotFoundError where a part is in neither.
    """
    if base is not None and folder.resolve() == base.resolve():
        raise FileExistsError(f"{folder} is the base itself. Name another folder to write.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in parts.items():
        place = _emptied(folder / name)
        if name in EVALUATION_FOLDERS:
            _save_for_evaluation(model, place)
        else:
            model.half().save_pretrained(place, max_shard_size=shard_size)
        _forget_origin(place / "config.json")
    for name, thing in fixed.items():
        thing.save_pretrained(_emptied(folder / name))
    if base is not None:
        named = (about.get(brought, {}).values() for brought in ("image_prompt", "image_guides"))
        for name in ("loras", *chain.from_iterable(named)):
            if name not in parts and (base / name).exists():
                _link(base / name, folder / name)
    for name, path in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        # An earlier export's file may be a link to the base's.
        (folder / name).unlink(missing_ok=True)
        shutil.copy2(path, folder / name)
    optional = (*GUIDE_FOLDERS.values(), *EVALUATION_FOLDERS)
    for name in (*MODEL_FOLDERS, *EVALUATION_FOLDERS, "tokenizer", "scheduler"):
        present = name in parts or name in fixed
        if not present and base is not None and (base / name).is_dir():
            _link(base / name, folder / name)
        elif not present and name not in optional:
            raise FileNotFoundError(f"There is no {name} yet, neither trained nor in the base.")
    guides = {guide: name for guide, name in GUIDE_FOLDERS.items() if (folder / name).is_dir()}
    _write_json(folder / "animatic.json", {**about, "guides": guides})
    vae = json.loads((folder / "vae" / "config.json").read_text("utf-8"))["_class_name"]
    index = {
        "_class_name": "AnimateDiffPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "motion_adapter": ["diffusers", "MotionAdapter"],
        "vae": ["diffusers", vae],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    _write_json(folder / "model_index.json", index)


def _emptied(folder: Path) -> Path:
    """The folder of a part without an earlier export's files, which may be links to a base."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.suffix in _LINKED:
            path.unlink()
    return folder


def _save_for_evaluation(model: Any, folder: Path) -> None:
    """Silent motion modules are a third of an encoder's weights, and say nothing."""
    kept = {k: v for k, v in model.state_dict().items() if "motion_modules" not in k}
    model.save_config(folder)
    save_in_eight_bits(kept, folder / "diffusion_pytorch_model.safetensors")


def _forget_origin(config: Path) -> None:
    """Where a part was loaded from is this machine's own business."""
    content = json.loads(config.read_text("utf-8"))
    content.pop("_name_or_path", None)
    _write_json(config, content)


def _link(source: Path, target: Path) -> None:
    """Hard links where the file system has them, so that a base is not on the disk twice.

    ``source`` is a folder of files, or a file.
    """
    if source.is_dir():
        _emptied(target)
        for path in source.iterdir():
            if path.suffix in _LINKED:
                _link(path, target / path.name)
        return
    target.parent.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
