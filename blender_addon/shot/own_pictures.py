"""Pictures of the artist's own that go along with a request: a reference and a first picture."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ShotError
from .request import MAX_SEED

MAX_SCALE = 2
# What a file begins with, and the suffix it gets. The engine reads these, and fits their size.
_KINDS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpg",
    b"RIFF": "webp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"BM": "bmp",
}
SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".bmp")


@dataclass(frozen=True)
class OwnPictures:
    """By itself it asks for nothing.

    ``reference`` is looked at beside the prompt, at ``scale`` (0 to 2). ``first`` is kept as the
    clip's first frame; or, where ``generate``, one that the image model makes, from ``first_seed``
    (None: from each take's own). ``share``: all frames share its look. Files are PNG, JPEG, WebP,
    TIFF or BMP, of any size.
    """

    reference: Path | None = None
    scale: float = 1.0
    first: Path | None = None
    generate: bool = False
    first_seed: int | None = None
    share: bool = True

    def check(self) -> None:
        """Raise ShotError where a picture is not there, or is of a kind that cannot be used."""
        # Written so that NaN is refused too.
        if not 0 <= self.scale <= MAX_SCALE:
            raise ShotError(
                f"The reference picture's scale is {self.scale}: set it from 0 to {MAX_SCALE}."
            )
        for picture in (self.reference, self.first):
            if picture is not None:
                _kind(picture)
        if self.first is not None and self.generate:
            raise ShotError(
                f"The first picture is {self.first}, and one is to be generated: choose either."
            )
        if self.first_seed is not None and not 0 <= self.first_seed <= MAX_SEED:
            raise ShotError(
                f"The first picture's seed {self.first_seed} is out of range: use a whole number "
                f"from 0 to {MAX_SEED}."
            )

    def place(self, folder: Path) -> PlacedPictures:
        """Put copies of the pictures into ``folder``. Raises ShotError where one cannot be read."""
        placed = PlacedPictures()
        if self.reference is not None:
            sha256 = placed.copy(self.reference, folder, "reference")
            placed.request["image_prompt"] = {"sha256": sha256, "scale": float(self.scale)}
        if self.first is not None:
            sha256 = placed.copy(self.first, folder, "first")
            placed.sampling["first_frame"] = {"sha256": sha256, "share": self.share}
        elif self.generate:
            own = {} if self.first_seed is None else {"seed": self.first_seed}
            placed.sampling["first_frame"] = {"generated": True, **own, "share": self.share}
        return placed


class PlacedPictures:
    """``files`` to send; what ``request`` and its ``sampling`` hold of them."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.request: dict[str, Any] = {}
        self.sampling: dict[str, Any] = {}

    def copy(self, picture: Path, folder: Path, name: str) -> str:
        """Copy ``picture`` into ``folder`` under ``name``; return its SHA-256."""
        target = folder / f"{name}.{_kind(picture)}"
        shutil.copyfile(picture, target)
        self.files.append(target)
        return hashlib.sha256(target.read_bytes()).hexdigest()


def _kind(picture: Path) -> str:
    """The suffix of ``picture`` by what it begins with."""
    try:
        with picture.open("rb") as file:
            head = file.read(max(map(len, _KINDS)))
    except OSError as error:
        raise ShotError(f"The picture {picture} cannot be read: {error.strerror}.") from error
    for begins, kind in _KINDS.items():
        if head.startswith(begins):
            return kind
    raise ShotError(
        f"{picture} is neither PNG, JPEG, WebP, TIFF nor BMP: save the picture as one of these."
    )
