"""Latents to pictures: the frames at full quality, and a cheap preview on the way."""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from . import vae
from .errors import EngineError
from .parts import Parts

PREVIEW_HEIGHT = 64
PREVIEW_COLUMNS = 8
_IN_FLOAT32 = (
    "Some frames are beyond the range of float16 and were decoded in float32, which takes longer."
)


def decode(
    parts: Parts,
    latents: torch.Tensor,
    batch: int,
    check: Callable[[], None],
    on_frames: Callable[[int], None],
) -> tuple[np.ndarray, list[str]]:
    """Frames uint8 [F, H, W, 3] of the clip ``latents`` [1, C, F, h, w], and sentences that the
    artist should read.

    ``batch`` frames at once, so that a long clip needs no more memory than a short one; the plan
    may have a frame decoded in tiles. ``on_frames(done)`` is called after each batch. What
    overflows in half precision is decoded again in float32. Raises EngineError where there are no
    numbers to make pictures of: they would all be black.
    """
    frames = latents[0].transpose(0, 1)
    if not frames.isfinite().all():
        raise _overflow(parts)
    made, notes = [], []
    for start in range(0, len(frames), batch):
        check()
        some = frames[start : start + batch]
        picture = vae.decode(parts.vae, some, parts.plan.decode_tiles)
        if not picture.isfinite().all() and parts.vae.dtype != torch.float32:
            picture = vae.decode_in_float32(parts.vae, some, parts.plan.decode_tiles)
            notes = [_IN_FLOAT32]
        if not picture.isfinite().all():
            raise _overflow(parts)
        pixels = picture.float().clamp(0, 1) * 255
        made.append(pixels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
        on_frames(min(start + batch, len(frames)))
    return np.concatenate(made), notes


def _overflow(parts: Parts) -> EngineError:
    return EngineError(
        f"The numbers that {parts.info.name} computes with left their range ({parts.plan.dtype}), "
        "and no picture can be made of them. Lower the guidance, the strengths of the guides or "
        "those of the LoRAs, take another seed, or use the device cpu."
    )


class PreviewDecoder:
    """Latents to small pictures by one linear map, fitted to the checkpoint's own VAE.

    A latent pixel's colour is nearly a linear function of its channels. The map is found by least
    squares on smooth random colour fields that the VAE encodes, so that it fits every VAE, where
    the factors that are passed around fit Stable Diffusion's alone.
    """

    def __init__(self, parts: Parts) -> None:
        side = 8 * parts.latent_scale
        generator = torch.Generator().manual_seed(0)
        colours = torch.rand((8, 3, 4, 4), generator=generator)
        pictures = torch.nn.functional.interpolate(colours, size=side, mode="bilinear")
        latents = vae.encode(parts.vae, pictures.to(parts.plan.torch_device))
        seen = _with_one(latents.float().cpu())
        wanted = torch.nn.functional.avg_pool2d(pictures, parts.latent_scale)
        wanted = wanted.permute(0, 2, 3, 1).reshape(-1, 3)
        # Half precision may overflow, and least squares fail on what is no number.
        self._map: torch.Tensor | None = None
        if seen.isfinite().all():
            # gelsd also copes with a VAE that has learned nothing yet: its columns are the same.
            self._map = torch.linalg.lstsq(seen, wanted, driver="gelsd").solution

    def frames(self, latents: torch.Tensor) -> np.ndarray | None:
        """uint8 [F, h, w, 3] at the latents' own size, from a clip [1, C, F, h, w].

        None where numbers have overflowed and there is nothing to see.
        """
        clip = latents[0].transpose(0, 1).float().cpu()
        if self._map is None or not clip.isfinite().all():
            return None
        count, _, height, width = clip.shape
        pixels = (_with_one(clip) @ self._map).clamp(0, 1) * 255
        return pixels.round().to(torch.uint8).reshape(count, height, width, 3).numpy()

    def jpeg(self, latents: torch.Tensor) -> bytes | None:
        """The whole clip as one small JPEG, frames from left to right in rows of eight; None as for
        ``frames``.
        """
        frames = self.frames(latents)
        if frames is None:
            return None
        height = PREVIEW_HEIGHT
        width = max(1, round(height * frames.shape[2] / frames.shape[1]))
        columns = min(PREVIEW_COLUMNS, len(frames))
        sheet = Image.new("RGB", (columns * width, math.ceil(len(frames) / columns) * height))
        for k, frame in enumerate(frames):
            small = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
            sheet.paste(small, (k % columns * width, k // columns * height))
        file = io.BytesIO()
        sheet.save(file, "JPEG", quality=80)
        return file.getvalue()


def _with_one(latents: torch.Tensor) -> torch.Tensor:
    """Latents [N, C, h, w] as rows [N*h*w, C+1], with a column of ones for the offset."""
    rows = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
