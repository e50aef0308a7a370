"""What the last guides were made of, for the panel to draw: near and far, and the pictures."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import bpy

from ..shot.takes import TakeOnDisk
from ..shot.timing import ClipTiming, nearest_clip_frame
from . import previews


@dataclass(frozen=True)
class GuidesReport:
    """Distances from the camera, as the scene's units write them and as Blender counts them."""

    near: str
    far: str
    near_distance: float
    far_distance: float


_last: GuidesReport | None = None
_pictures: dict[int, int] = {}  # icons by scene frame, of the last guides
_of_takes: dict[int, int] = {}  # and of what the newest takes were made from


def last() -> GuidesReport | None:
    """The depth range of the last depth guides."""
    return _last


def picture(frame: int) -> int:
    """The icon of the guide that was last made for a scene frame, or 0."""
    return _pictures.get(frame) or _of_takes.get(frame, 0)


def remember(result: dict, folder: Path) -> None:
    """Keep what the panel shows of ``result``, the result of the guides task.

    Its pictures lie in ``folder``.
    """
    global _last
    depth = result["depth"]
    _last = None
    if depth:
        near, far = depth["near"], depth["far"]
        _last = GuidesReport(_distance(near), _distance(far), near, far)
    files = {guide["clip_frame"]: folder / guide["file"] for guide in result["guides"]}
    for keyframe in result["keyframes"]:
        if keyframe["kept"] and keyframe["clip_frame"] in files:
            icon = previews.thumbnail(files[keyframe["clip_frame"]])
            _pictures[int(Fraction(keyframe["asked"]))] = icon


def remember_takes(takes: Iterable[TakeOnDisk]) -> None:
    """Keep the guides of ``takes``, the newest last, for the frames that they hold."""
    _of_takes.clear()
    for take in takes:
        guides = take.guides
        shot, controls = take.request["shot"], take.request["controls"]
        if not controls:
            continue
        control = controls[0]
        files = {
            each["clip_frame"]: guides / f"{control['guide']}_{each['clip_frame'] + 1:04d}.png"
            for each in control["keyframes"]
        }
        icons = {k: previews.thumbnail(file) for k, file in files.items() if file.is_file()}
        timing = ClipTiming.of_shot(shot)
        for frame in range(timing.start, timing.end + 1):
            _of_takes[frame] = icons.get(nearest_clip_frame(Fraction(frame), timing), 0)


def forget() -> None:
    """Another file is open."""
    global _last
    _last = None
    _pictures.clear()
    _of_takes.clear()


def _distance(value: float) -> str:
    units = bpy.context.scene.unit_settings
    return bpy.utils.units.to_string(
        units.system, "LENGTH", value * units.scale_length, precision=3
    )
