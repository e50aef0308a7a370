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


# All by the session_uid of their scene.
_last: dict[int, GuidesReport] = {}
_pictures: dict[int, dict[int, int]] = {}  # icons by scene frame, of the last guides
_of_takes: dict[int, dict[int, int]] = {}  # and of what the newest takes were made from


def last(scene: bpy.types.Scene) -> GuidesReport | None:
    """The depth range of the last depth guides of ``scene``."""
    return _last.get(scene.session_uid)


def picture(scene: bpy.types.Scene, frame: int) -> int:
    """The icon of the guide that was last made for a frame of ``scene``, or 0."""
    own, of_takes = (each.get(scene.session_uid, {}) for each in (_pictures, _of_takes))
    return own.get(frame) or of_takes.get(frame, 0)


def remember(scene: bpy.types.Scene, result: dict, folder: Path) -> None:
    """Keep what the panel of ``scene`` shows of ``result``, the result of the guides task.

    Its pictures lie in ``folder``.
    """
    uid, depth = scene.session_uid, result["depth"]
    _last.pop(uid, None)
    if depth:
        near, far = depth["near"], depth["far"]
        _last[uid] = GuidesReport(_distance(scene, near), _distance(scene, far), near, far)
    files = {guide["clip_frame"]: folder / guide["file"] for guide in result["guides"]}
    for keyframe in result["keyframes"]:
        if keyframe["kept"] and keyframe["clip_frame"] in files:
            icon = previews.thumbnail(files[keyframe["clip_frame"]])
            _pictures.setdefault(uid, {})[int(Fraction(keyframe["asked"]))] = icon


def remember_takes(scene: bpy.types.Scene, takes: Iterable[TakeOnDisk]) -> None:
    """Keep the guides of ``takes`` of ``scene``, the newest last, for the frames they hold."""
    found = _of_takes[scene.session_uid] = {}
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
            found[frame] = icons.get(nearest_clip_frame(Fraction(frame), timing), 0)


def forget() -> None:
    """Another file is open."""
    for each in (_last, _pictures, _of_takes):
        each.clear()


def _distance(scene: bpy.types.Scene, value: float) -> str:
    units = scene.unit_settings
    return bpy.utils.units.to_string(
        units.system, "LENGTH", value * units.scale_length, precision=3
    )
