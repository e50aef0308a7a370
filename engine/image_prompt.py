"""A reference picture beside the text: decoupled text and image cross attention.

The picture becomes a few tokens. In each of the image layers' cross attentions they have keys and
values of their own; what is read from them is added to what is read from the text. Motion modules
and control encoders get the text alone.
Sources: IP-Adapter (Ye et al. 2023), section 3.2; MoonShot (Zhang et al. 2024), section 3.2; it is
also Gen-1's content from a picture. The weights are taken in by huggingface/diffusers,
``loaders/unet.py``, and computed by its ``IPAdapterAttnProcessor2_0``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetMotionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection
from PIL import Image
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from .device import Plan
from .errors import EngineError
from .model_folder import load_model
from .original_files import IMAGE_PROMPT, read_kind

_WHAT = "an IP-Adapter for Stable Diffusion 1"


class ImagePrompt:
    """Image encoder and IP-Adapter of one UNet, which stays as it is outside of ``applied``."""

    def __init__(
        self,
        encoder: CLIPVisionModelWithProjection,
        projection: ImageProjection | IPAdapterPlusImageProjection,
        processors: Mapping[str, IPAdapterAttnProcessor2_0],
    ) -> None:
        self.encoder = encoder
        self.projection = projection
        self.processors = processors
        side: Any = encoder.config.image_size
        # The one that needs Pillow alone, so that a picture gives the same bits everywhere.
        self._prepare = CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )

    def tokens(self, picture: Image.Image, halves: int) -> torch.Tensor:
        """The image tokens of ``picture`` (RGB, its middle square is seen), [halves, n, channels].

        Of two guidance halves the first has no picture: zeros in place of its embedding, as in
        diffusers' ``AnimateDiffPipeline.encode_image``.
        """
        weight = next(self.projection.parameters())
        pixels = self._prepare(picture, return_tensors="pt").pixel_values.to(weight)
        nn.Module.to(self.encoder, weight.device)
        try:
            if isinstance(self.projection, ImageProjection):
                seen = self.encoder(pixels).image_embeds
                nothing = torch.zeros_like(seen)
            else:
                seen = self._last_but_one(pixels)
                nothing = self._last_but_one(torch.zeros_like(pixels))
        finally:
            # It is asked once for a job; at full size sampling can use its gigabyte.
            nn.Module.to(self.encoder, "cpu")
        return self.projection(torch.cat([nothing] * (halves - 1) + [seen]))

    def _last_but_one(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.encoder(pixels, output_hidden_states=True).hidden_states[-2]

    @contextmanager
    def applied(self, unet: UNetMotionModel, scale: float) -> Iterator[None]:
        """Inside the block the image layers of ``unet`` expect text and image tokens, and add what
        the image tokens give them at ``scale``.
        """
        changed = []
        try:
            for name, processor in self.processors.items():
                attention = unet.get_submodule(name.removesuffix(".processor"))
                changed.append((attention, attention.processor))
                processor.scale = [scale]
                attention.set_processor(processor)
            yield
        finally:
            for attention, processor in changed:
                attention.set_processor(processor)


def text_and_image(
    text: torch.Tensor, image: torch.Tensor | None, frames: int
) -> torch.Tensor | tuple[torch.Tensor, list[torch.Tensor]]:
    """What the UNet attends to: ``text`` [halves*frames, tokens, channels], and beside it the image
    tokens [halves, n, channels], the same for all frames, where there are some.
    """
    if image is None:
        return text
    return text, [image.repeat_interleave(frames, dim=0)[:, None]]


def load_image_prompt(paths: Mapping[str, Path], unet: UNetMotionModel, plan: Plan) -> ImagePrompt:
    """Image encoder (a folder) and adapter (a file in the published layout) for ``unet``.

    Raises EngineError that names the file where it is something else or does not fit.
    """
    path = paths["adapter"]
    weights = read_kind(path, IMAGE_PROMPT, _WHAT)
    groups: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in weights.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    if not {"proj.weight", "latents"} & groups["image_proj"].keys():
        raise EngineError(
            f"{path} is an IP-Adapter of another kind (for faces, say); expected one that reads a "
            "whole picture, such as ip-adapter_sd15 or ip-adapter-plus_sd15. Choose such a file."
        )
    try:
        made = unet._convert_ip_adapter_attn_to_diffusers([groups], low_cpu_mem_usage=False)
        projection = unet._convert_ip_adapter_image_proj_to_diffusers(
            groups["image_proj"], low_cpu_mem_usage=False
        )
    except (KeyError, RuntimeError, ValueError) as error:
        raise _misfit(path, "its layers are others") from error
    processors = {
        name: processor
        for name, processor in made.items()
        if isinstance(processor, IPAdapterAttnProcessor2_0)
    }
    if len(groups["ip_adapter"]) != 2 * len(processors):
        raise _misfit(path, f"it is for {len(groups['ip_adapter']) // 2} layers")
    encoder = load_model(
        CLIPVisionModelWithProjection, paths["encoder"], "the encoder of reference pictures", plan
    )
    plain = isinstance(projection, ImageProjection)
    given = encoder.config.projection_dim if plain else encoder.config.hidden_size
    taken = projection.image_embeds if plain else projection.proj_in
    if taken.in_features != given:
        raise EngineError(
            f"{path} reads {taken.in_features} numbers for each picture, and the image encoder "
            f"{paths['encoder']} gives {given}: they are not of one kind. Put the encoder there "
            "that the adapter was made with."
        )
    for model in (projection, *processors.values()):
        nn.Module.to(model, plan.torch_device, plan.torch_dtype).eval()
    return ImagePrompt(encoder, projection, processors)


def _misfit(path: Path, why: str) -> EngineError:
    return EngineError(
        f"{path} does not fit the image model: {why}. Use an IP-Adapter made for this kind of "
        "model."
    )
