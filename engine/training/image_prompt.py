"""Stage image-prompt: an image encoder and an IP-Adapter beside a frozen image model.

Source: IP-Adapter (Ye et al. 2023), section 3.2; tencent-ailab/IP-Adapter, tutorial_train.py. The
paper takes OpenCLIP's encoder; here a small one learns with the adapter, from the same pictures.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from ..vae import decode
from .data import Shards
from .diffusion import (
    Frozen,
    attend_in_products,
    diffusion_loss,
    half_precision,
    noisy_and_target,
    predict,
    sample,
    start_noise,
)
from .image import Teaching, still_control, still_latents
from .loop import Loop, LoopConfig
from .pictures import write_grid

# Where a checkpoint has them (see "image_prompt" in its card).
ENCODER, ADAPTER = "image_encoder", "ip_adapter.safetensors"
# Image tokens, as in the published file.
_TOKENS = 4
# How often a still's reference is left out.
_DROPOUT = 0.1
# The least side of the square that is cut from a still as its reference, as a share of the still.
_LEAST_CROP = 0.6


def build_image_encoder(side: int, width: int, layers: int) -> CLIPVisionModelWithProjection:
    """A CLIP vision model for pictures of ``side`` pixels, untrained."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            image_size=side,
            patch_size=8,
        )
    )


class ImagePromptLayers(nn.Module):
    """What learns beside the encoder: the tokens' projection, and keys and values of their own for
    each cross-attention of ``unet``, which get theirs from the text's, as published.
    """

    def __init__(self, unet: UNet2DConditionModel, given: int) -> None:
        super().__init__()
        config: Any = unet.config
        self.projection = ImageProjection(given, config.cross_attention_dim, _TOKENS)
        self.attention = nn.ModuleList()
        self._names: list[str] = []
        for name in unet.attn_processors:
            if name.endswith("attn2.processor"):
                layer: Any = unet.get_submodule(name.removesuffix(".processor"))
                own = IPAdapterAttnProcessor2_0(
                    layer.to_k.out_features, config.cross_attention_dim, num_tokens=(_TOKENS,)
                )
                own.to_k_ip[0].load_state_dict(layer.to_k.state_dict())
                own.to_v_ip[0].load_state_dict(layer.to_v.state_dict())
                self.attention.append(own)
                self._names.append(name.removesuffix(".processor"))

    def put_into(self, unet: UNet2DConditionModel) -> None:
        """Let ``unet`` attend to image tokens from now on."""
        for name, processor in zip(self._names, self.attention, strict=True):
            layer: Any = unet.get_submodule(name)
            layer.set_processor(processor)

    def _published(self) -> dict[str, nn.Parameter]:
        """The weights by their names in h94/IP-Adapter's ip-adapter_sd15."""
        embeds, norm = self.projection.image_embeds, self.projection.norm
        state = {
            "image_proj.proj.weight": embeds.weight,
            "image_proj.proj.bias": embeds.bias,
            "image_proj.norm.weight": norm.weight,
            "image_proj.norm.bias": norm.bias,
        }
        for number, layer in enumerate(self.attention):
            own: Any = layer
            # The published numbers count self-attentions too.
            state[f"ip_adapter.{2 * number + 1}.to_k_ip.weight"] = own.to_k_ip[0].weight
            state[f"ip_adapter.{2 * number + 1}.to_v_ip.weight"] = own.to_v_ip[0].weight
        return state

    def write(self, path: Path) -> None:
        """Write the layers under their published names, in half precision."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = self._published()
        halves = {name: value.detach().half().cpu().contiguous() for name, value in state.items()}
        save_file(halves, path, {"format": "pt"})

    @torch.no_grad()
    def read(self, path: Path) -> None:
        """Go on from what ``write`` wrote for a model of these sizes."""
        stored = load_file(path)
        for name, weight in self._published().items():
            weight.copy_(stored[name])


class References:
    """Stills as the engine shows its reference to the encoder, but for what it must not rely on."""

    def __init__(self, side: int, device: torch.device) -> None:
        prepare = CLIPImageProcessorPil()
        self._side = side
        self._mean, self._spread = (
            torch.tensor(values, device=device).reshape(1, 3, 1, 1)
            for values in (prepare.image_mean, prepare.image_std)
        )

    def __call__(self, stills: Tensor, rng: random.Random | None = None) -> Tensor:
        """Stills [b, 3, h, w] uint8 as the encoder takes them; with ``rng`` a random square of
        them, now and then mirrored, so that they tell what there is and not where.
        """
        pictures = stills.float() / 255
        if rng is not None:
            height = pictures.shape[-2]
            side = round(height * rng.uniform(_LEAST_CROP, 1.0))
            top, left = (rng.randint(0, height - side) for _ in range(2))
            pictures = pictures[..., top : top + side, left : left + side]
            if rng.random() < 0.5:
                pictures = pictures.flip(-1)
        sized = F.interpolate(pictures, (self._side, self._side), mode="bicubic", antialias=True)
        return (sized.clamp(0, 1) - self._mean) / self._spread


def train_image_prompt(
    encoder: CLIPVisionModelWithProjection,
    frozen: Frozen,
    guides: Mapping[str, nn.Module],
    data: Shards,
    held_out: Shards,
    folder: Path,
    config: LoopConfig,
    teaching: Teaching,
    before: Path | None = None,
) -> tuple[CLIPVisionModelWithProjection, ImagePromptLayers]:
    """Train ``encoder`` and layers for the frozen image model; returns their averaged weights.

    ``guides`` are control encoders by their folders' names. The stills have fields colour, latents
    and the guides'. The layers go on from the file ``before``, without it from the text's.
    """
    rng = random.Random(config.seed)
    noise = torch.Generator(data.device).manual_seed(config.seed)
    unet: Any = frozen.unet
    attend_in_products(unet, *guides.values())
    settings: Any = encoder.config
    layers = ImagePromptLayers(unet, settings.projection_dim).to(data.device)
    if before is not None:
        layers.read(before)
    layers.put_into(unet)
    references = References(settings.image_size, data.device)

    def loss_of(step: int) -> Tensor:
        batch = data.sample(rng, config.batch)
        clean = still_latents(batch)
        captions = teaching.captions(batch["captions"], rng)
        noisy, time, target = noisy_and_target(frozen.scheduler, clean, noise)
        guide = teaching.guide(rng)
        seen = torch.rand(len(clean), 1, generator=noise, device=data.device) >= _DROPOUT
        with half_precision(data.device):
            text = frozen.text(captions)
            embeds = encoder(references(batch["colour"][:, 0], rng)).image_embeds
            image = layers.projection(torch.where(seen, embeds, torch.zeros_like(embeds)))
            control = still_control(guides, guide, batch) if guide else None
            prediction = predict(unet, noisy, time, text, control, image)
        return diffusion_loss(prediction, target)

    shown = held_out.sample(random.Random(7), 10)

    @torch.no_grad()
    def draw(averaged: Mapping[str, nn.Module], step: int) -> None:
        """Rows of references and what they give under no prompt, held to the first guide."""
        made_with: Any = averaged["layers"]
        seen_by: Any = averaged["encoder"]
        made_with.put_into(unet)
        start = start_noise((10, 4, 1, *shown["latents"].shape[-2:]), data.device)
        text = frozen.text([""]).expand(10, -1, -1)
        kind = next(iter(teaching.guides), None)
        control = still_control(guides, kind, shown) if kind else None
        rows = [shown[kind].float() / 255] if kind else []
        nothing = torch.zeros(10, settings.projection_dim, device=data.device)
        without = made_with.projection(nothing)
        for turn in (0, 1, 4):
            colour = shown["colour"][:, 0].roll(turn, dims=0)
            image = made_with.projection(seen_by(references(colour)).image_embeds)
            made = sample(
                unet, frozen.scheduler, text, text[:1], start, control, images=(image, without)
            )
            rows += [colour.float() / 255, decode(frozen.vae, made[:, :, 0])]
        write_grid(rows, folder / "grids" / f"image_prompt_{step:06d}.png")
        layers.put_into(unet)

    loop = Loop(folder, "image_prompt", {"encoder": encoder, "layers": layers}, config)
    loop.draw_anew(rng, noise)
    loop.run(loss_of, draw)
    averaged: Any = loop.average.modules
    return averaged["encoder"], averaged["layers"]
