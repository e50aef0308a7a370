"""Folders of clips, as people have them, into shards to train on. See docs/training.md.

    NAME/frames/0001.png ...     colour
    NAME/depth/0001.png ...      16 bit, near is white, 0 is nothing there
    NAME/lineart/0001.png ...    white on black
    NAME/caption.txt

``depth`` and ``lineart`` may be absent. The number that ends a picture's name says which frame it
shows. In place of the pictures each of the three folders may hold what ``animatic render
--guides-only --guide render|depth|lineart --keyframes all`` wrote.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import EngineError
from .data import eight_bits, save_atomically

_KINDS = {"frames": "colour", "depth": "depth", "lineart": "lineart"}
_MODES = {"frames": "RGB", "depth": "I;16", "lineart": "L"}


def read_clips(source: Path, folder: Path) -> int:
    """Write every clip in ``source`` as a shard of ``folder``/clips, and the first as held out, in
    place of all clips that were there.

    Returns how many there are. Raises FileNotFoundError where there is none, and EngineError with a
    sentence for a clip that cannot be used; the clips that were there then stay.
    """
    names = sorted(
        {part.parent for n in ("caption.txt", "frames") for part in source.glob(f"*/{n}")}
    )
    if not names:
        raise FileNotFoundError(
            f"There are no clips in {source}: each is a folder that holds caption.txt, frames/ and "
            "depth/ or lineart/."
        )
    clips = [read_clip(name) for name in names]
    for name, clip in zip(names, clips, strict=True):
        if clip["colour"].shape != clips[0]["colour"].shape:
            raise EngineError(
                f"{name} has {_shape(clip)} and {names[0]} has {_shape(clips[0])}; all clips must "
                "be alike. Cut or scale them first."
            )
    for old in (folder / "clips", folder / "held_out" / "clips"):
        # Latents too: under the name that another clip gets they would be taken for its own.
        for path in (*old.glob("*.pt"), *old.glob("latents/*.pt")):
            path.unlink()
    # Grids show a clip that is not trained on, unless there is no other.
    for number, clip in enumerate(clips[1:] or clips):
        _save(clip, folder / "clips" / f"{number:05d}.pt")
    _save(clips[0], folder / "held_out" / "clips" / "00000.pt")
    return len(clips)


def read_clip(folder: Path) -> dict[str, Any]:
    """One clip as a shard: colour [1, f, 3, h, w], depth and lineart [1, f, h, w], all uint8."""
    caption = folder / "caption.txt"
    if not caption.is_file():
        raise EngineError(
            f"{caption} is missing: write what the clip shows there, or move {folder} elsewhere."
        )
    try:
        clip: dict[str, Any] = {"captions": [caption.read_text("utf-8").strip()]}
    except UnicodeDecodeError as error:
        raise EngineError(f"{caption} is not UTF-8 text ({error}): save it as UTF-8.") from error
    numbers: dict[str, list[int]] = {}
    for name, field in _KINDS.items():
        if (folder / name).is_dir():
            paths = _numbered(folder / name)
            numbers[field] = list(paths)
            clip[field] = _pictures(folder / name, paths.values(), _MODES[name])[None]
    if "colour" not in clip:
        raise EngineError(f"{folder} has no folder frames with the clip's colour pictures.")
    _, frames, _, height, width = clip["colour"].shape
    for field in ("depth", "lineart"):
        if field not in clip:
            continue
        if numbers[field] != numbers["colour"] or clip[field].shape[2:] != (height, width):
            raise EngineError(
                f"{folder / field} and {folder / 'frames'} differ in the numbers or the size of "
                "their pictures. Give each frame a guide of its number and size."
            )
    if frames < 2 or width % 8 or height % 8:
        raise EngineError(
            f"{folder} has {_shape(clip)}; expected two frames or more, with sides that are "
            "multiples of 8."
        )
    return clip


def _numbered(folder: Path) -> dict[int, Path]:
    """The pictures by the numbers that end their names, in that order."""
    place = folder / "guides" if (folder / "guides").is_dir() else folder
    found: dict[int, Path] = {}
    for path in sorted(place.glob("*.png")):
        if (number := re.search(r"\d+$", path.stem)) is None:
            continue
        other = found.setdefault(int(number[0]), path)
        if other is not path:
            raise EngineError(
                f"{other} and {path} have the same number: leave one picture for each frame there."
            )
    return dict(sorted(found.items()))


def _pictures(folder: Path, paths: Iterable[Path], mode: str) -> Tensor:
    pictures = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                if (mode == "I;16") != (picture.mode == "I;16"):
                    raise EngineError(
                        f"{path} has mode {picture.mode}; depth alone is 16 bit gray."
                    )
                pixels = np.asarray(picture if mode == "I;16" else picture.convert(mode))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise EngineError(f"{path} cannot be read as a picture ({error}).") from error
        pictures.append(torch.from_numpy(pixels.astype(np.int32)))
    if len({picture.shape for picture in pictures}) != 1:
        raise EngineError(f"{folder} holds no pictures 0001.png, 0002.png, ... of one size.")
    stacked = torch.stack(pictures)
    if mode == "I;16":
        return eight_bits(stacked)
    return (stacked.permute(0, 3, 1, 2) if mode == "RGB" else stacked).to(torch.uint8)


def _shape(clip: dict[str, Any]) -> str:
    _, frames, _, height, width = clip["colour"].shape
    return f"{frames} frames of {width}x{height}"


def _save(clip: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_atomically(clip, path)
