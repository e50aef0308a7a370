"""A take's pictures by scene frame, and as a sequence for what cannot hold one of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import ShotError
from .timing import decimal


def per_scene_frame(take: Sequence[Path], shot: dict[str, Any]) -> list[Path]:
    """Return the picture of each scene frame of ``shot``, the shot object.

    ``take`` is its files, one per clip frame, or per scene frame where in-between frames were made,
    all in one folder. Raises ShotError where one is missing.
    """
    frame_map = shot["frame_map"]
    if shot.get("in_between") and len(take) == len(frame_map):
        frame_map = list(range(len(take)))
    folders = {path.parent for path in take}
    if len(take) <= max(frame_map) or len(folders) != 1:
        where = ", ".join(map(str, sorted(folders))) or "the take's folder"
        raise ShotError(
            f"{len(take)} frames in {where}; the shot needs {max(frame_map) + 1}, in one folder."
        )
    missing = [path.name for path in take if not path.is_file()]
    if missing:
        raise ShotError(f"{take[0].parent} lacks the files {', '.join(missing)}.")
    return [take[k] for k in frame_map]


def held_frames(files: Sequence[Path], scene_fps: Fraction) -> Path:
    """Return a folder in which ``files``, one per scene frame, are 0001.png, 0002.png ...

    It is their own where they bear these names; else ``held-RATE`` beside it, made now unless it is
    there, without a second copy where the file system can do so. Raises ShotError.
    """
    names = [f"{index + 1:04d}.png" for index in range(len(files))]
    if [file.name for file in files] == names:
        return files[0].parent
    folder = files[0].parent.parent / f"held-{decimal(scene_fps)}"
    if [path.name for path in sorted(folder.glob("*.png"))] == names:
        return folder
    part = folder.with_name(f"{folder.name}.partial")
    try:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        part.mkdir()
        for file, name in zip(files, names, strict=True):
            link_or_copy(file, part / name)
        part.rename(folder)
    except OSError as error:
        raise ShotError(
            f"{folder} cannot be written: {error.strerror}. The take's folder must be yours, with "
            "room on its disk."
        ) from error
    return folder


def link_or_copy(file: Path, name: Path) -> None:
    """Give ``file`` another ``name``, where that can be on its disk, or else copy it."""
    try:
        os.link(file, name)
    except OSError:  # a file system without links
        shutil.copyfile(file, name)
