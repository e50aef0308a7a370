"""Writes small models the way the big ones were published, names and containers included.

Source of the names: huggingface/diffusers, convert_diffusers_to_original_stable_diffusion.py in
scripts/, and guoyww/AnimateDiff, animatediff/models/motion_module.py.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

Weights = dict[str, torch.Tensor]
WIDTHS = (32, 64)
TEXT_WIDTH = 64
LENGTH = 40

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_MOTION = {
    ".attn1.pos_embed.": ".attention_blocks.0.pos_encoder.",
    ".pos_embed.": ".attention_blocks.0.pos_encoder.",
    ".attn1.": ".attention_blocks.0.",
    ".attn2.": ".attention_blocks.1.",
    ".norm1.": ".norms.0.",
    ".norm2.": ".norms.1.",
    ".norm3.": ".ff_norm.",
}
_VAE = {
    ".down_blocks.": ".down.",
    ".resnets.": ".block.",
    ".downsamplers.0.": ".downsample.",
    ".upsamplers.0.": ".upsample.",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "mid_block.attentions.0.": "mid.attn_1.",
    "mid_block.block.0": "mid.block_1",
    "mid_block.block.1": "mid.block_2",
    ".group_norm.": ".norm.",
    ".to_q.": ".q.",
    ".to_k.": ".k.",
    ".to_v.": ".v.",
    ".to_out.0.": ".proj_out.",
}


def small_models(vocabulary: int) -> dict[str, nn.Module]:
    """Stable Diffusion 1, AnimateDiff v3 and SparseCtrl in small, no weight of them zero."""
    torch.manual_seed(0)
    models: dict[str, nn.Module] = {
        "unet": UNet2DConditionModel(
            block_out_channels=WIDTHS,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=8,
        ),
        "vae": AutoencoderKL(
            block_out_channels=(32, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=2,
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=TEXT_WIDTH,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=1,
                max_position_embeddings=LENGTH,
                bos_token_id=0,
                eos_token_id=1,
            )
        ),
        "motion_adapter": MotionAdapter(block_out_channels=WIDTHS, use_motion_mid_block=False),
        "sparsectrl_rgb": _control(True),
        "sparsectrl_lineart": _control(False),
    }
    with torch.no_grad():
        for model in models.values():
            for weight in model.parameters():
                if not weight.any():
                    weight.normal_(std=0.05)
    return {name: model.eval() for name, model in models.items()}


def _control(simplified: bool) -> SparseControlNetModel:
    return SparseControlNetModel(
        block_out_channels=WIDTHS,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
        conditioning_channels=4 if simplified else 3,
        use_simplified_condition_embedding=simplified,
        conditioning_embedding_out_channels=(8, 16),
    )


def write_base(models: Mapping[str, nn.Module], path: Path) -> None:
    """A single-file Stable Diffusion checkpoint."""
    weights = {
        f"model.diffusion_model.{_unet_name(name)}": weight
        for name, weight in models["unet"].state_dict().items()
    }
    for name, weight in models["vae"].state_dict().items():
        published = _vae_name(name)
        # Attention was written with convolutions of one pixel.
        pixel = "attn_1" in published and weight.ndim == 2
        weights[f"first_stage_model.{published}"] = weight[..., None, None] if pixel else weight
    text = "cond_stage_model.transformer.text_model"
    for name, weight in models["text_encoder"].state_dict().items():
        weights[f"{text}.{name}"] = weight
    weights[f"{text}.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)


def write_motion(model: nn.Module, path: Path) -> None:
    """Motion modules like ``v3_sd15_mm.ckpt``."""
    weights = {f"module.{k}": w for k, w in motion_names(model.state_dict()).items()}
    torch.save({"state_dict": weights, "animatediff_config": {"a": 1}, "epoch": 0}, path)


def write_control(model: nn.Module, path: Path) -> None:
    """A control encoder like ``v3_sd15_sparsectrl_rgb.ckpt``."""
    torch.save({"controlnet": motion_names(model.state_dict()), "epoch": 0}, path)


def image_control(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet for ``unet`` that shrinks guides 8 times, as the published ones do."""
    model = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 16, 16))
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(std=0.05)
    return model.eval()


def write_image_control(model: nn.Module, path: Path) -> None:
    """A ControlNet like ``control_v11f1p_sd15_depth.safetensors``."""
    named = {f"control_model.{_control_name(k)}": w for k, w in model.state_dict().items()}
    save_file({name: weight.contiguous() for name, weight in named.items()}, path)


def _control_name(name: str) -> str:
    _, part, *rest = re.split(r"controlnet_|\.", name) if "controlnet" in name else ("", "")
    if part == "down_blocks":
        return f"zero_convs.{rest[0]}.0.{rest[1]}"
    if part == "mid_block":
        return f"middle_block_out.0.{rest[0]}"
    if part == "cond_embedding":
        places = {"conv_in": 0, "conv_out": 14}
        place = places.get(rest[0]) if rest[0] in places else 2 * int(rest[1]) + 2
        return f"input_hint_block.{place}.{rest[-1]}"
    return _unet_name(name)


def motion_names(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Weights with the names of their motion modules as published."""
    named = {}
    for name, weight in weights.items():
        if "motion_modules" in name:
            name = re.sub(r"(motion_modules\.\d+)\.", r"\1.temporal_transformer.", name)
            for ours, theirs in _MOTION.items():
                name = name.replace(ours, theirs)
        named[name] = weight
    return named


def _unet_name(name: str) -> str:
    layers = 2 + 1
    for ours, theirs in _ENDS.items():
        if name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    found = re.fullmatch(r"(down|mid|up)_block(?:s\.(\d))?\.(\w+)\.(\d)\.(.+)", name)
    assert found is not None
    way, part, inner = found[1], found[3], found[5]
    level, layer = int(found[2] or 0), int(found[4])
    if part == "resnets":
        inner = re.sub(r"^\w+", lambda word: _RESNET[word[0]], inner)
    if way == "mid":
        return f"middle_block.{1 if part == 'attentions' else 2 * layer}.{inner}"
    if part == "downsamplers":
        return f"input_blocks.{(level + 1) * layers}.0.{inner.replace('conv', 'op')}"
    if part == "upsamplers":
        # After the attention, where the level has one; the first level here has none.
        return f"output_blocks.{(level + 1) * layers - 1}.{1 if level == 0 else 2}.{inner}"
    column = 1 if part == "attentions" else 0
    if way == "down":
        return f"input_blocks.{level * layers + layer + 1}.{column}.{inner}"
    return f"output_blocks.{level * layers + layer}.{column}.{inner}"


def _vae_name(name: str) -> str:
    for ours, theirs in _VAE.items():
        name = name.replace(ours, theirs)
    # The decoder's levels are counted from the picture.
    return re.sub(r"\.up_blocks\.(\d)\.", lambda level: f".up.{1 - int(level[1])}.", name)
