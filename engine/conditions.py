"""Guides to conditions: what a control encoder gets for a clip.

Source: SparseCtrl (Guo et al. 2023), section 3.2, and guoyww/AnimateDiff, ``latent_condition.yaml``
and ``image_condition.yaml``: condition and mask side by side; a frame without a guide is zero in
both, in latent space too, where zero is not an encoded black picture. An ordinary ControlNet gets
the same pixels; our depth is what the published depth ControlNet (lllyasviel,
``control_v11f1p_sd15_depth``) was trained on: MiDaS's disparity from 0 at the farthest to 1 at the
nearest (lllyasviel/ControlNet, ``annotator/midas``). Only the range differs: one for the whole shot
instead of each picture's own, which would flicker.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, SparseControlNetModel
from PIL import Image

from .errors import EngineError
from .parts import Parts
from .pictures import UNREADABLE, read_named
from .structure import blur_structure
from .upscale import enlarge_guide
from .vae import encode

# Picture modes that a guide may have, as Pillow names them.
_MODES = {"depth": ("I;16",), "lineart": ("L", "RGB"), "render": ("RGB",)}
_EXPECTED = {
    "depth": "a 16-bit gray PNG",
    "lineart": "an 8-bit gray PNG with white lines on black",
    "render": "an 8-bit RGB PNG",
}


@dataclass(frozen=True)
class Condition:
    """One control encoder's input for a clip.

    ``values`` [1, C, F, h, w]: pixels in [0, 1], or scaled latents where the encoder takes these;
    ``mask`` [1, 1, F, h, w]: 1 at keyframes, 0 elsewhere; ``strengths`` [F] float32: what the
    encoder's residuals of each clip frame are multiplied by; ``key`` identifies values and mask.
    It acts in the steps that begin at ``start`` or later and before ``end``, as shares (0 to 1) of
    all steps: two controls of which one ends where the other starts share the steps between them.
    ``over_steps`` are (share, factor), ascending: between them the strength changes in a straight
    line. ``guess`` is ControlNet's guess mode: see ``residuals``.
    """

    values: torch.Tensor
    mask: torch.Tensor
    strengths: torch.Tensor
    key: tuple[Any, ...]
    start: float = 0.0
    end: float = 1.0
    over_steps: tuple[tuple[float, float], ...] = ()
    guess: bool = False

    @property
    def keyed(self) -> list[int]:
        """The frames that have a guide, ascending."""
        return self.mask[0, 0].flatten(1).any(1).nonzero().flatten().tolist()

    def factor_at(self, share: float) -> float:
        """What the strengths are multiplied by where ``share`` of the steps are done."""
        if not self.over_steps:
            return 1.0
        shares, factors = zip(*self.over_steps, strict=True)
        return float(np.interp(share, list(shares), list(factors)))


def build_condition(
    parts: Parts,
    control: Mapping[str, Any],
    guides: Mapping[str, Path],
    clip: Mapping[str, Any],
    size: tuple[int, int] | None = None,
) -> Condition | None:
    """The condition of one entry of the request's ``controls``, or None where it has no strength.

    ``size`` (height, width) is what guides of the clip's size are enlarged to.

    A keyframe with strength 0 is left out, as if it had never been set: scaled only in its own
    frame, it would still reach the others through the motion modules. ``blur`` takes details off
    the guides before they are encoded. Raises EngineError for a guide file that is missing,
    damaged, or not what was asked for, and for depth or lines that show nothing at all.
    """
    guide, kind = control["guide"], control.get("encoder")
    keyframes = [k for k in control["keyframes"] if k["strength"] > 0]
    if not keyframes or control["strength"] == 0:
        return None
    keyframes.sort(key=lambda keyframe: keyframe["clip_frame"])
    encoder = parts.control(guide, kind)
    width, height, frames = clip["width"], clip["height"], clip["frames"]
    blur = control.get("blur", 0)
    encoded, empty = {}, guide != "render"
    for keyframe in keyframes:
        picture = read_guide(guide, keyframe["sha256"], guides, width, height)
        empty = empty and bool(picture.min() == picture.max())
        picture = blur_structure(picture[None], blur)[0]
        picture = enlarge_guide(picture, guide, *(size or (height, width)))
        encoded[keyframe["clip_frame"]] = _encode(parts, encoder, picture, keyframe["sha256"])
    if empty:
        raise EngineError(
            f"The {guide} guides show one shade and nothing else, so there is nothing that they "
            "could hold. Choose keyframes at which the camera sees something, or take the guide "
            "away."
        )
    strengths = frame_strengths(
        list(encoded),
        [keyframe["strength"] for keyframe in keyframes],
        control["strength"],
        frames,
    )
    key = (guide, blur, tuple((k["clip_frame"], k["sha256"]) for k in keyframes))
    return Condition(
        *spread(encoded, frames),
        torch.from_numpy(strengths),
        key,
        control.get("start", 0.0),
        control.get("end", 1.0),
        tuple((each["at"], each["strength"]) for each in control.get("over_steps", [])),
        control.get("guess", False),
    )


def spread(encoded: Mapping[int, torch.Tensor], frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values [1, C, frames, h, w] and mask [1, 1, frames, h, w] of guides set at clip frames.

    ``encoded`` holds each guide as its encoder takes it, [C, h, w]; at least one.
    """
    first = next(iter(encoded.values()))
    values = first.new_zeros((1, first.shape[0], frames, *first.shape[1:]))
    mask = first.new_zeros((1, 1, frames, *first.shape[1:]))
    for frame, guide in encoded.items():
        values[0, :, frame] = guide
        mask[:, :, frame] = 1
    return values, mask


def frame_strengths(
    keyed: Sequence[int], strengths: Sequence[float], overall: float, frames: int
) -> np.ndarray:
    """Strength of a control at each clip frame, float32 [frames].

    A keyframe's own strength holds at its frame and fades in a straight line to the next
    keyframe's; before the first and after the last it stays. ``overall`` multiplies all of them.
    """
    curve = np.interp(np.arange(frames), keyed, strengths) * overall
    return curve.astype(np.float32)


def read_guide(
    guide: str, sha256: str, guides: Mapping[str, Path], width: int, height: int
) -> torch.Tensor:
    """A guide's pixels, float32 [3, height, width] in [0, 1].

    Depth codes are divided by 65535 and repeated in three equal channels (near is white, 0 is
    nothing there), line-art likewise by 255. Raises EngineError that names the file.
    """
    content = read_named(sha256, guides, f"{guide} guide", "the guides", "Render the guides again.")
    path = guides[sha256]
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.mode not in _MODES[guide]:
                raise EngineError(
                    f"{path} is a PNG of mode {picture.mode}; a {guide} guide is "
                    f"{_EXPECTED[guide]}. Render the guides again."
                )
            if picture.size != (width, height):
                raise EngineError(
                    f"{path} is {picture.width}x{picture.height} pixels and the clip is "
                    f"{width}x{height}. Render the guides at the clip's size."
                )
            pixels = np.asarray(picture.convert("L") if guide == "lineart" else picture)
    except UNREADABLE as error:
        raise EngineError(
            f"{path} cannot be read ({error}); a {guide} guide is {_EXPECTED[guide]}. "
            "Render the guides again."
        ) from error
    values = torch.from_numpy(pixels.astype(np.float32) / (65535 if guide == "depth" else 255))
    return values.permute(2, 0, 1) if values.ndim == 3 else values.expand(3, height, width)


def _encode(
    parts: Parts,
    encoder: SparseControlNetModel | ControlNetModel,
    picture: torch.Tensor,
    sha256: str,
) -> torch.Tensor:
    """A guide as the encoder takes it, [C, h, w]: pixels, or the VAE's latent."""
    picture, dtype = picture.to(parts.plan.torch_device), parts.plan.torch_dtype
    # An ordinary ControlNet takes pixels in 0 to 1, whatever they show: it has no such entry.
    if not encoder.config.get("use_simplified_condition_embedding"):
        return picture.to(dtype)
    # The reference draws the latent from the VAE's distribution. Its noise comes from the guide's
    # own content: two takes that differ in the seed then share one condition, a replay gets the
    # same, and the residuals computed from it can be kept.
    generator = torch.Generator().manual_seed(int(sha256[:15], 16))
    return encode(parts.vae, picture[None], generator)[0].to(dtype)
