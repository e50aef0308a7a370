"""Pictures of the artist's own that go along with a request: a reference and a first picture."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ShotError
from .png import SIGNATURE, read_png, write_png

MAX_SCALE = 2
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class OwnPictures:
    """By itself it asks for nothing.

    ``reference``, a PNG or JPEG, is looked at beside the prompt, at ``scale`` (0 to 2). ``first``,
    a PNG, is kept as the clip's first frame, whose look all frames share.
    """

    reference: Path | None = None
    scale: float = 1.0
    first: Path | None = None

    def check(self) -> None:
        """Raise ShotError where a picture is not there, or is of a kind that cannot be used."""
        # Written so that NaN is refused too.
        if not 0 <= self.scale <= MAX_SCALE:
            raise ShotError(
                f"The reference picture's scale is {self.scale}: set it from 0 to {MAX_SCALE}."
            )
        if self.reference is not None and not _head(self.reference).startswith((SIGNATURE, _JPEG)):
            raise ShotError(f"{self.reference} is neither PNG nor JPEG: save the picture as one.")
        if self.first is not None and not _head(self.first).startswith(SIGNATURE):
            raise ShotError(f"{self.first} is no PNG: save the first picture as one.")

    def place(self, folder: Path, width: int, height: int) -> PlacedPictures:
        """Put the pictures into ``folder``, the first one fitted to a clip of this size.

        Raises ShotError where one cannot be read.
        """
        placed = PlacedPictures()
        if self.reference is not None:
            kind = "jpg" if _head(self.reference).startswith(_JPEG) else "png"
            placed.files.append(folder / f"reference.{kind}")
            shutil.copyfile(self.reference, placed.files[-1])
            placed.request["image_prompt"] = {
                "sha256": _sha256(placed.files[-1]),
                "scale": float(self.scale),
            }
        if self.first is not None:
            placed.files.append(folder / "first.png")
            write_png(placed.files[-1], fit(rgb8(read_png(self.first)), width, height))
            placed.sampling["first_frame"] = {"sha256": _sha256(placed.files[-1]), "share": True}
        return placed


class PlacedPictures:
    """``files`` to send; what ``request`` and its ``sampling`` hold of them."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.request: dict[str, Any] = {}
        self.sampling: dict[str, Any] = {}


def rgb8(picture: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """A picture as ``read_png`` returns it as uint8 [H, W, 3]; transparency is left out."""
    if picture.dtype == np.uint16:
        picture = np.round(picture / 257).astype(np.uint8)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    colour = picture[:, :, :1] if picture.shape[2] < 3 else picture[:, :, :3]
    return np.broadcast_to(colour, (*colour.shape[:2], 3)).astype(np.uint8)


def fit(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The middle of ``picture`` [H, W, 3] of the shape of a clip, at its size [height, width, 3].

    Where the size is right already, the same numbers come out. Scaled by a triangle filter, as
    wide as what becomes one pixel.
    """
    rows, columns = picture.shape[:2]
    if (columns, rows) == (width, height):
        return picture
    scale = min(rows / height, columns / width)
    down = _weights(rows, height, scale)
    across = _weights(columns, width, scale)
    scaled = np.einsum("yr,rcx->ycx", down, picture.astype(np.float32), optimize=True)
    scaled = np.einsum("xc,ycz->yxz", across, scaled, optimize=True)
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def _weights(there: int, wanted: int, scale: float) -> NDArray[np.float32]:
    """How much of ``there`` pixels each of ``wanted`` takes, ``scale`` pixels each, centred."""
    centres = (np.arange(wanted) + 0.5) * scale + (there - wanted * scale) / 2
    distance = np.abs(np.arange(there) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = np.clip(1 - distance, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE))
    except OSError as error:
        raise ShotError(f"The picture {path} cannot be read: {error.strerror}.") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
