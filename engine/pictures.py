"""Files of the artist's that a request names; and pictures of their own among them, of any common
format and size: a reference and a first picture.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from .errors import EngineError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
LONGEST_SIDE = 8192
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are no pictures, or damaged, or claim to be huge."""
_DEEP = ("I;16", "I;16B")
_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", *_DEEP)
_EXPECTED = f"PNG, JPEG, WebP, TIFF or BMP of up to {LONGEST_SIDE} pixels a side"


def read_named(sha256: str, files: Mapping[str, Path], what: str, it: str, again: str) -> bytes:
    """The content of a file of the artist's that a request names by its hash.

    Raises EngineError where it is not there, or another: the sentence says ``what`` it is ("first
    picture"), to send ``it``, and what to do ``again``.
    """
    path = files.get(sha256)
    if path is None or not path.is_file():
        raise EngineError(f"The {what} {sha256[:12]} is missing. Send {it} again with the request.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise EngineError(
            f"{path} is not the {what} that the request names: its content has changed or is cut "
            f"short. {again}"
        )
    return content


def read_picture(sha256: str, pictures: Mapping[str, Path], what: str) -> Image.Image:
    """The picture with this content in RGB, turned as the camera noted; transparency is left out.

    ``what`` it is, in words ("first picture"). Raises EngineError that says what is wrong with it.
    """
    content = read_named(sha256, pictures, what, "it", "Choose the picture again.")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            if picture.mode not in _MODES or max(picture.size) > LONGEST_SIDE:
                raise EngineError(
                    f"The {what} is {picture.width}x{picture.height} pixels of the kind "
                    f"{picture.mode}; expected {_EXPECTED}. Save it anew as such."
                )
            upright = ImageOps.exif_transpose(picture)
            if upright.mode in _DEEP:
                upright = Image.fromarray((np.asarray(upright) / 257).round().astype(np.uint8))
            return upright.convert("RGB")
    except UNREADABLE as error:
        raise EngineError(
            f"The {what} cannot be read ({error}); expected {_EXPECTED}. Save it anew."
        ) from error


def fitted(
    picture: Image.Image, width: int, height: int, what: str
) -> tuple[torch.Tensor, str | None]:
    """The middle of ``picture`` at a clip's size, float32 [3, height, width] in 0 to 1, and a
    sentence where more than a pixel of it falls off. One of the right size is given as it is.
    """
    fit = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(fit, np.float32) / 255).permute(2, 0, 1)
    scale = max(width / picture.width, height / picture.height)
    for side, own, clip in (("width", picture.width, width), ("height", picture.height, height)):
        if own * scale - clip >= 1:
            lost = round(100 * (1 - clip / (own * scale)))
            return pixels, (
                f"The {what} is {picture.width}x{picture.height} pixels, of another shape than the "
                f"clip's {width}x{height}: its middle was taken, and {lost}% of its {side} cut off."
            )
    return pixels, None
