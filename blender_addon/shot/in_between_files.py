"""The files of in-between frames: the motion of a run, and the frames that are made along it.

A run keeps the motion beside its guides, so that later takes of it need no Blender. The frames of a
take lie beside its clip frames in a folder that names the scene's rate, one for each scene frame.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ShotError
from .in_between import Side, blend, enlarged
from .in_between_flow import flow_motions
from .motion_files import MOTION, sides_of, wanted_between
from .png import read_png, write_png
from .timing import ClipTiming, decimal


def frames_name(scene_fps: Fraction) -> str:
    """The folder of a take's frames at the scene's rate."""
    return f"frames-{decimal(scene_fps)}"


def video_name(scene_fps: Fraction) -> str:
    """The file of a take's video at the scene's rate."""
    return f"video-{decimal(scene_fps)}.mp4"


def needs_flow(shot: Mapping[str, Any], guides: Path) -> bool:
    """Whether the scene's motion does not tell, or not all of it: optical flow has to."""
    return bool(shot.get("optical_flow")) or not (guides / MOTION).is_dir()


def check_motion(shot: Mapping[str, Any], guides: Path) -> None:
    """Raise ShotError where ``guides``, a run's folder, lacks motion that ``shot`` needs."""
    for sides in wanted_between(ClipTiming.of_shot(shot), guides).values():
        for path in sides.values():
            if not path.is_file():
                raise ShotError(f"The motion {path} is missing: render the scene again.")


def make_frames(
    shot: Mapping[str, Any],
    guides: Path,
    take: Path,
    on_step: Callable[[int, int], None],
    flow: Path | None = None,
) -> Path:
    """Make the frames of a take at the scene's rate; return their folder.

    ``shot`` is the shot object, ``guides`` the run's folder of guides with the motion, ``take`` the
    take's folder with its clip frames. ``flow`` is a folder of the optical flow between these: it
    stands in where the scene's motion tells nothing of a place, or there is none at all. A scene
    frame at the time of a clip frame is that file, byte for byte. They may be larger than the
    motion (an upscale pass). Raises ShotError where files are missing.
    """
    exact = (guides / MOTION).is_dir()
    if exact:
        check_motion(shot, guides)
    timing = ClipTiming.of_shot(shot)
    out = take / frames_name(timing.scene_fps)
    out.mkdir()
    whole = timing.end - timing.start + 1
    for index in range(whole):
        before, share = timing.position(timing.start + index)
        made = None
        if share:
            # After the last clip frame there is only that one, however long ago.
            shares = (float(1 - share), float(share)) if before + 1 < timing.frames else (1.0,)
            files = sides_of(timing, timing.start + index)
            pictures = [_read(_clip_frame(take, k), np.dtype(np.uint8), 3) for k in files]
            sides: list[Side] = []
            for weight, picture, name in zip(shares, pictures, files.values(), strict=True):
                if exact:
                    motion = _read(guides / MOTION / name, np.dtype(np.uint16), 4)
                    sides.append((picture, enlarged(motion, *picture.shape[:2]), weight))
            measured: list[Side] = []
            if flow is not None and len(pictures) > 1:
                way = _read(flow / f"{before + 1:04d}.png", np.dtype(np.uint16), 4)
                ways = flow_motions(way, float(share))
                measured = list(zip(pictures, ways, shares, strict=True))
            if sides or measured:
                made = blend(sides or measured, measured if sides else ())
        target = out / f"{index + 1:04d}.png"
        if made is None:
            shutil.copyfile(_clip_frame(take, before), target)
        else:
            write_png(target, made)
        on_step(index + 1, whole)
    return out


def _read(path: Path, numbers: np.dtype, channels: int) -> NDArray[Any]:
    picture = read_png(path)
    if picture.dtype != numbers or picture.shape[2:] != (channels,):
        raise ShotError(f"{path} is not as it was written: render the scene again.")
    return picture


def _clip_frame(take: Path, k: int) -> Path:
    return take / "frames" / f"{k + 1:04d}.png"
