"""When one data-block is keyed: F-curves, NLA strips and, one level deep, what drives it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from functools import partial

import bpy

from . import compat

Wanted = Callable[[str], bool]
_INDEX = re.compile(r"(\[\d+\]|\.[xyzw])$")
# Keys of these do not change what is in the picture.
_DISPLAY_ONLY = ("hide_viewport", "hide_select", "show_", "display_", "passepartout_alpha")


def everything(path: str) -> bool:
    """Accept every animated property that can change the picture."""
    return not path.startswith(_DISPLAY_ONLY)


def key_times(block: bpy.types.ID | None, wanted: Wanted = everything) -> set[float]:
    """Return the scene times at which ``block`` is keyed, in properties whose path is ``wanted``.

    Includes the keys of what its drivers read, not of what drives that in turn.
    """
    animation = getattr(block, "animation_data", None)
    if animation is None:
        return set()
    times = _own_times(animation, wanted)
    for driver in animation.drivers:
        if wanted(driver.data_path):
            for variable in driver.driver.variables:
                times |= _variable_times(variable)
    return times


def _own_times(animation: bpy.types.AnimData, wanted: Wanted) -> set[float]:
    times: set[float] = set()
    for curve in compat.fcurves_of(animation.action, animation.action_slot):
        times.update(_curve_times(curve, wanted))
    if animation.use_nla:
        soloed = [track for track in animation.nla_tracks if track.is_solo]
        for track in soloed or animation.nla_tracks:
            if not track.mute:
                for strip in track.strips:
                    times.update(_strip_times(strip, wanted))
    return times


def _curve_times(curve: bpy.types.FCurve, wanted: Wanted) -> Iterator[float]:
    if not curve.mute and wanted(curve.data_path):
        yield from (point.co.x for point in curve.keyframe_points)


def _strip_times(strip: bpy.types.NlaStrip, wanted: Wanted) -> Iterator[float]:
    """Yield the scene times of the keys in an NLA strip: offset, scale, repeat and reverse."""
    if strip.mute:
        return
    if strip.type == "META":
        for inner in strip.strips:
            yield from _strip_times(inner, wanted)
        return
    if strip.type != "CLIP" or strip.use_animated_time:
        return  # a hand-animated strip time cannot be inverted simply
    first, last = strip.action_frame_start, strip.action_frame_end
    length = (last - first) * strip.scale
    for curve in compat.fcurves_of(strip.action, strip.action_slot):
        for time in _curve_times(curve, wanted):
            if not first <= time <= last:
                continue
            offset = (last - time if strip.use_reverse else time - first) * strip.scale
            begin = strip.frame_start
            while begin < strip.frame_end:
                if begin + offset <= strip.frame_end + 1e-3:
                    yield begin + offset
                if length <= 0:
                    break
                begin += length


def _variable_times(variable: bpy.types.DriverVariable) -> set[float]:
    times: set[float] = set()
    for target in variable.targets:
        animation = getattr(target.id, "animation_data", None)
        if animation is None:
            continue
        if variable.type == "SINGLE_PROP":
            path = _INDEX.sub("", target.data_path)
            times |= _own_times(animation, partial(operator.eq, path))
        else:
            bones = bone_chain(target.id, target.bone_target)
            times |= _own_times(animation, moves(bones))
    return times


def bone_chain(owner: bpy.types.ID, name: str) -> list[bpy.types.PoseBone]:
    """Return the pose bone ``name`` of an armature object and its parents; empty without one."""
    pose = getattr(owner, "pose", None)
    bone = pose.bones.get(name) if pose is not None and name else None
    return [bone, *bone.parent_recursive] if bone is not None else []


def moves(bones: list[bpy.types.PoseBone]) -> Wanted:
    """Return a filter for what moves an object as such, or one of ``bones`` of an armature."""
    prefixes = tuple(f"{bone.path_from_id()}." for bone in bones) + tuple(
        f"{bone.path_from_id()}[" for bone in bones
    )

    def wanted(path: str) -> bool:
        if path.startswith("pose.bones["):
            return path.startswith(prefixes)
        return everything(path) and path != "hide_render"

    return wanted
