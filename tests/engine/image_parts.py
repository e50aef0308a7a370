"""A small random image ControlNet and IP-Adapter for any checkpoint folder.

``python tests/engine/image_parts.py FOLDER`` adds both to a copy of presets/blockout-mini, say.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

SIDE, EMBEDDING, HIDDEN = 32, 16, 32


def add_image_parts(folder: Path, plus: bool = False, strength: float = 1.0) -> None:
    """Write controlnet_depth/, image_encoder/ and ip_adapter.safetensors, and name them on the
    card. What the parts add is of the size of ``strength``; ``plus`` makes an IP-Adapter Plus.
    """
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    card = json.loads((folder / "animatic.json").read_text())
    vae = json.loads((folder / "vae" / "config.json").read_text())
    pyramid = (4, 8, 16, 16)[: len(vae["block_out_channels"])]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=pyramid)
        for output in (*control.controlnet_down_blocks, control.controlnet_mid_block):
            nn.init.normal_(output.weight, std=0.02 * strength)
        nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight)
        control.save_pretrained(folder / "controlnet_depth")
        config = CLIPVisionConfig(
            hidden_size=HIDDEN,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=SIDE,
            patch_size=8,
            projection_dim=EMBEDDING,
        )
        CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
        save_file(adapter_weights(unet, plus, strength), folder / "ip_adapter.safetensors")
    card["image_guides"] = {"depth": "controlnet_depth"}
    card["image_prompt"] = {"encoder": "image_encoder", "adapter": "ip_adapter"}
    (folder / "animatic.json").write_text(json.dumps(card, indent=2))


def adapter_weights(
    unet: UNet2DConditionModel, plus: bool, strength: float
) -> dict[str, torch.Tensor]:
    """Random weights of an IP-Adapter for ``unet``, in the published layout."""
    width = unet.config.cross_attention_dim
    if plus:
        weights = _resampler(width)
    else:
        weights = {
            "proj.weight": torch.randn(4 * width, EMBEDDING),
            "proj.bias": torch.randn(4 * width) * 0.1,
            "norm.weight": torch.ones(width),
            "norm.bias": torch.randn(width) * 0.1,
        }
    weights = {f"image_proj.{name}": tensor for name, tensor in weights.items()}
    layers = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(layers):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for side in ("to_k_ip", "to_v_ip"):
            shape = attention.to_k.weight.shape
            key = f"ip_adapter.{2 * number + 1}.{side}.weight"
            weights[key] = torch.randn(shape) / shape[1] ** 0.5 * strength
    return weights


def _resampler(width: int) -> dict[str, torch.Tensor]:
    """The shapes of IP-Adapter Plus: four layers, 2 heads of 64, 4 tokens."""
    inner = 2 * 64
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, 4, inner),
        "proj_in.weight": (inner, HIDDEN),
        "proj_in.bias": (inner,),
        "proj_out.weight": (width, inner),
        "proj_out.bias": (width,),
        "norm_out.weight": (width,),
        "norm_out.bias": (width,),
    }
    for layer in range(4):
        attention, feed = f"layers.{layer}.0", f"layers.{layer}.1"
        shapes |= {
            f"{attention}.{norm}.{side}": (inner,)
            for norm in ("norm1", "norm2")
            for side in ("weight", "bias")
        }
        shapes |= {f"{attention}.{side}.weight": (inner, inner) for side in ("to_q", "to_out")}
        shapes[f"{attention}.to_kv.weight"] = (2 * inner, inner)
        shapes |= {f"{feed}.0.weight": (inner,), f"{feed}.0.bias": (inner,)}
        shapes |= {f"{feed}.1.weight": (4 * inner, inner), f"{feed}.3.weight": (inner, 4 * inner)}
    return {name: torch.randn(shape) / shape[-1] ** 0.5 for name, shape in shapes.items()}


if __name__ == "__main__":
    add_image_parts(Path(sys.argv[1]), strength=float(sys.argv[2]) if sys.argv[2:] else 1.0)
