"""The upscale pass: a finished clip is made larger in latents, covered with some noise and denoised
again at the larger size, held to the same guides.

Source: the "hires fix" of Stable Diffusion's user interfaces (AUTOMATIC1111/
stable-diffusion-webui, modules/processing.py), an image-to-image pass (SDEdit, Meng et al. 2022).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Upscale:
    """Enlarge ``scale`` times (above 1), then denoise in the last ``share`` (0 to 1) of the steps.
    The more, the more is drawn anew, and the less remains of the first pass.
    """

    scale: float
    share: float

    @staticmethod
    def asked(sampling: Mapping[str, Any]) -> "Upscale | None":
        """The pass that a request's ``sampling`` asks for, or None."""
        stored = sampling.get("upscale")
        return None if stored is None else Upscale(stored["scale"], stored["share"])

    def size(self, width: int, height: int, multiple: int) -> tuple[int, int]:
        """The larger (width, height) in pixels: the nearest multiples of ``multiple``."""
        larger = (multiple * round(side * self.scale / multiple) for side in (width, height))
        wide, high = larger
        return wide, high


def enlarge(latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``latents`` [1, C, F, h, w] at another size, each frame by itself.

    Bicubic: it neither blurs as bilinear does nor leaves steps, both of which the second pass
    would take for what the clip shows.
    """
    frames = latents[0].transpose(0, 1)
    larger = F.interpolate(frames, size=(height, width), mode="bicubic")
    return larger.transpose(0, 1)[None]


def enlarge_guide(picture: torch.Tensor, kind: str, height: int, width: int) -> torch.Tensor:
    """A guide's pixels [3, H, W] at the larger size of the second pass.

    Depth takes the nearest pixel: between a thing and the nothing beside it (0) there is no depth.
    """
    if picture.shape[1:] == (height, width):
        return picture
    if kind == "depth":
        return F.interpolate(picture[None], size=(height, width), mode="nearest-exact")[0]
    larger = F.interpolate(picture[None], size=(height, width), mode="bilinear")
    return larger[0]
