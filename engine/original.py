"""Published files to diffusers' models: Stable Diffusion 1, AnimateDiff, SparseCtrl, ControlNet.

These files hold weights alone, so each model's configuration is read from their names and shapes.
What shapes cannot tell is as published: 8 attention heads, groups of 32 channels, a VAE for
pictures of 512x512.
Source of the names: guoyww/AnimateDiff, animatediff/models; huggingface/diffusers,
loaders/single_file_utils.py, whose conversions are used here.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_animatediff_checkpoint_to_diffusers,
    convert_controlnet_checkpoint,
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from .errors import EngineError
from .original_files import BASE, CONTROL, IMAGE_CONTROL, MOTION, Weights, read_kind

ModelT = TypeVar("ModelT", bound=nn.Module)

HEADS = 8
# Width of one attention head in every CLIP.
_CLIP_HEAD = 64


def load_motion(path: Path, dtype: torch.dtype) -> MotionAdapter:
    """Motion modules from a published file (``v3_sd15_mm.ckpt``, ``mm_sd_v15_v2.ckpt``).

    Raises EngineError that names the file where it is something else or not whole.
    """
    what = "AnimateDiff motion modules for Stable Diffusion 1"
    weights = read_kind(path, MOTION, what)
    longest = _positions(weights)
    weights = convert_animatediff_checkpoint_to_diffusers(weights)

    def configuration() -> dict[str, Any]:
        first = "down_blocks.{}.motion_modules.0.norm.weight"
        block = "down_blocks.0.motion_modules.0.transformer_blocks"
        return {
            "block_out_channels": _each(weights, first, lambda norm: norm.shape[0]),
            "motion_layers_per_block": _count(weights, "down_blocks.0.motion_modules"),
            "motion_transformer_layers_per_block": _count(weights, block),
            "motion_num_attention_heads": HEADS,
            "motion_max_seq_length": longest,
            "use_motion_mid_block": any(name.startswith("mid_block.") for name in weights),
        }

    return _build(MotionAdapter, configuration, weights, path, what, dtype)


def load_control(
    path: Path, dtype: torch.dtype, heads: int | tuple[int, ...] = HEADS
) -> SparseControlNetModel:
    """A SparseCtrl encoder from a published file (``v3_sd15_sparsectrl_rgb.ckpt``, ``_scribble``).

    ``heads`` is the number of attention heads in the image model whose copy the encoder is.
    Raises EngineError that names the file where it is something else or not whole.
    """
    what = "a SparseCtrl encoder for Stable Diffusion 1"
    weights = read_kind(path, CONTROL, what)
    longest = _positions(weights)
    weights = convert_animatediff_checkpoint_to_diffusers(weights)

    def configuration() -> dict[str, Any]:
        embedding = "controlnet_cond_embedding"
        simplified = f"{embedding}.weight" in weights
        # Condition and mask come in side by side: see SparseCtrl, section 3.2.
        entry = weights[f"{embedding}.weight" if simplified else f"{embedding}.conv_in.weight"]
        # Where it is not built it is never looked at.
        pyramid = (16, 32, 96, 256) if simplified else _pyramid(weights)
        return _encoder(weights, "Motion") | {
            "attention_head_dim": heads,  # the number of heads, whatever it is called
            "conditioning_channels": entry.shape[1] - 1,
            "use_simplified_condition_embedding": simplified,
            "conditioning_embedding_out_channels": pyramid,
            "concat_conditioning_mask": True,
            "motion_max_seq_length": longest,
            "motion_num_attention_heads": HEADS,
        }

    return _build(SparseControlNetModel, configuration, weights, path, what, dtype)


def load_image_control(
    path: Path, dtype: torch.dtype, heads: int | tuple[int, ...] = HEADS
) -> ControlNetModel:
    """An image ControlNet from a single file, named as published (``control_v11f1p_sd15_depth``) or
    as in diffusers. ``heads`` as for ``load_control``.

    Raises EngineError that names the file where it is something else or not whole.
    """
    what = "an image ControlNet for Stable Diffusion 1"
    given = read_kind(path, IMAGE_CONTROL, what)
    layers = _layers(given, "control_model.input_blocks.") or _layers(given, "input_blocks.") or 2
    converted = convert_controlnet_checkpoint(given, {"layers_per_block": layers})
    # It puts None where a weight is missing.
    weights = {name: weight for name, weight in converted.items() if weight is not None}

    def configuration() -> dict[str, Any]:
        return _encoder(weights, "2D") | {
            "attention_head_dim": heads,  # the number of heads, whatever it is called
            "conditioning_channels": weights["controlnet_cond_embedding.conv_in.weight"].shape[1],
            "conditioning_embedding_out_channels": _pyramid(weights),
        }

    return _build(ControlNetModel, configuration, weights, path, what, dtype)


def load_base(
    path: Path, dtype: torch.dtype, vae_dtype: torch.dtype
) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """Image UNet, VAE and text encoder from a single-file Stable Diffusion 1 checkpoint.

    Raises EngineError that names the file where it is something else or lacks one of the three.
    """
    weights = read_kind(
        path, BASE, "a Stable Diffusion 1 checkpoint with UNet, VAE and text encoder"
    )
    return (
        _base_unet(weights, path, dtype),
        _base_vae(weights, path, vae_dtype),
        _base_text(weights, path, dtype),
    )


def image_unet(
    weights: Mapping[str, torch.Tensor], path: Path, dtype: torch.dtype, heads: int = HEADS
) -> UNet2DConditionModel:
    """An image UNet from weights in diffusers' naming that came from ``path``."""

    def configuration() -> dict[str, Any]:
        encoder = _encoder(weights, "2D")
        down = encoder["down_block_types"]
        return encoder | {
            "attention_head_dim": heads,  # the number of heads, whatever it is called
            "up_block_types": tuple(kind.replace("Down", "Up") for kind in reversed(down)),
        }

    what = "the UNet of Stable Diffusion 1"
    return _build(UNet2DConditionModel, configuration, weights, path, what, dtype)


def published_schedule() -> DDIMScheduler:
    """The noise schedule that AnimateDiff was published with; single files hold none.

    Source: guoyww/AnimateDiff, configs/inference/inference-v3.yaml, ``noise_scheduler_kwargs``.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        steps_offset=1,
        clip_sample=False,
    )


def _base_unet(weights: Weights, path: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    layers = _layers(weights, "model.diffusion_model.input_blocks.") or 2
    return image_unet(
        convert_ldm_unet_checkpoint(weights, {"layers_per_block": layers}), path, dtype
    )


def _base_vae(weights: Weights, path: Path, dtype: torch.dtype) -> AutoencoderKL:
    what = "the VAE of Stable Diffusion 1"
    prefix = "first_stage_model."
    own = {name: weight for name, weight in weights.items() if name.startswith(prefix)}
    levels = _count(own, prefix + "encoder.down")
    kinds = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    vae = convert_ldm_vae_checkpoint(own, kinds) if own else {}

    def configuration() -> dict[str, Any]:
        first = "encoder.down_blocks.{}.resnets.0.conv1.weight"
        return kinds | {
            "block_out_channels": _each(vae, first, lambda conv: conv.shape[0]),
            "layers_per_block": _count(vae, "encoder.down_blocks.0.resnets"),
            "latent_channels": vae["post_quant_conv.weight"].shape[0],
            "scaling_factor": 0.18215,
            "sample_size": 512,  # a tile of tiled decoding
        }

    return _build(AutoencoderKL, configuration, vae, path, what, dtype)


def _base_text(weights: Weights, path: Path, dtype: torch.dtype) -> CLIPTextModel:
    what = "the text encoder of Stable Diffusion 1"
    text = {
        name.removeprefix("text_model."): weight
        for name, weight in convert_ldm_clip_checkpoint(weights).items()
        # Older versions of transformers stored this count from 0 as if it were learned.
        if not name.endswith("position_ids")
    }

    def configuration() -> dict[str, Any]:
        vocabulary, width = text["embeddings.token_embedding.weight"].shape
        return {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": text["encoder.layers.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": _count(text, "encoder.layers"),
            "num_attention_heads": max(1, width // _CLIP_HEAD),
            "max_position_embeddings": text["embeddings.position_embedding.weight"].shape[0],
            "hidden_act": "quick_gelu",
        }

    def make(**entries: Any) -> CLIPTextModel:
        return CLIPTextModel(CLIPTextConfig(**entries))

    return _build(make, configuration, text, path, what, dtype)


def _encoder(weights: Mapping[str, torch.Tensor], kind: str) -> dict[str, Any]:
    """What UNet and control encoder have in common; ``kind`` ends their blocks' class names."""
    widths = _each(weights, "down_blocks.{}.resnets.0.conv1.weight", lambda conv: conv.shape[0])
    attends = [f"down_blocks.{i}.attentions.0.norm.weight" in weights for i in range(len(widths))]
    key = "attentions.0.transformer_blocks.0.attn2.to_k.weight"
    return {
        "in_channels": weights["conv_in.weight"].shape[1],
        "block_out_channels": widths,
        "layers_per_block": _count(weights, "down_blocks.0.resnets"),
        "down_block_types": tuple(
            f"CrossAttnDownBlock{kind}" if attention else f"DownBlock{kind}"
            for attention in attends
        ),
        "cross_attention_dim": weights[f"mid_block.{key}"].shape[1],
    }


def _layers(weights: Mapping[str, torch.Tensor], prefix: str) -> int | None:
    """Layers of a level in the published naming; None where that cannot be told."""
    # Blocks are numbered through; a downsampler ends each level but the last.
    ends = [
        int(name[len(prefix) :].split(".")[0])
        for name in weights
        if re.fullmatch(re.escape(prefix) + r"\d+\.0\.op\.weight", name)
    ]
    return min(ends) - 1 if ends else None


def _pyramid(weights: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    """Widths of the levels that shrink a guide's pixels to the latents' size."""
    embedding = "controlnet_cond_embedding"
    widths = _each(weights, embedding + ".blocks.{}.weight", lambda w: w.shape[1])[::2]
    return (*widths, weights[f"{embedding}.conv_out.weight"].shape[1])


def _positions(weights: Mapping[str, torch.Tensor]) -> int:
    """How many frames the motion modules were trained for: the length of their position table,
    which some files leave out because it is computed."""
    return next((w.shape[1] for name, w in weights.items() if name.endswith(".pe")), 32)


def _count(weights: Mapping[str, torch.Tensor], prefix: str) -> int:
    """How many numbered entries follow ``prefix`` and a dot."""
    start = prefix + "."
    return len({name[len(start) :].split(".")[0] for name in weights if name.startswith(start)})


def _each(
    weights: Mapping[str, torch.Tensor], name: str, read: Callable[[torch.Tensor], int]
) -> tuple[int, ...]:
    """``read`` of the weights ``name`` with 0, 1, 2 and so on in place of {}."""
    prefix = name.split(".{}")[0]
    return tuple(read(weights[name.format(i)]) for i in range(_count(weights, prefix)))


def _build(
    make: Callable[..., ModelT],
    configuration: Callable[[], dict[str, Any]],
    weights: Mapping[str, torch.Tensor],
    path: Path,
    what: str,
    dtype: torch.dtype,
) -> ModelT:
    """The model with exactly these weights: none missing, none over, each of its shape."""
    try:
        entries = configuration()
    except KeyError as error:
        raise _lacking(path, what, [str(error.args[0])]) from error
    try:
        # Only what is learned stays without memory; tables that are computed are made for good.
        with init_empty_weights(include_buffers=False):
            model = make(**entries)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise EngineError(
            f"{path} is not laid out like {what} ({error}). Choose a published file."
        ) from error
    wanted = dict(model.named_parameters())
    missing = sorted(wanted.keys() - weights.keys())
    if missing:
        raise _lacking(path, what, missing)
    misshapen = [n for n in wanted if wanted[n].shape != weights[n].shape]
    unknown = sorted(n for n in weights.keys() - wanted.keys() if not n.endswith(".pe"))
    if misshapen or unknown:
        raise EngineError(
            f"{path} is not {what}: {len(misshapen) + len(unknown)} of its weights do not belong "
            f"to one, {(misshapen + unknown)[0]} for one. Choose the right file."
        )
    # Position tables are computed, and so the model's own.
    given = {name: weights.get(name, own).to(dtype) for name, own in model.state_dict().items()}
    model.load_state_dict(given, assign=True)
    return model.eval()


def _lacking(path: Path, what: str, names: list[str]) -> EngineError:
    return EngineError(
        f"{path} is not whole: expected {what}, but {len(names)} or more of its weights are "
        f"missing, {names[0]} for one. Copy or download it again."
    )
