"""Which scene frames the artist has keyed: the camera's, the objects' or the timeline's markers."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import bpy

from .animation_keys import bone_chain, everything, key_times, moves
from .errors import SceneError
from .shots import Shot, camera_cuts, time_stretch
from .visibility import rendered_objects

Seen = set[tuple[bpy.types.ID, str]]


def find_keyframes(scene: bpy.types.Scene, shot: Shot, kind: str) -> list[Fraction]:
    """Return the scene frames that are keyed, in order, each once; fractions are kept.

    ``kind`` is ``camera`` (the cameras that film ``shot``, with parents, constraint targets, lens
    and camera markers), ``objects`` (everything else that is rendered, with armatures and shape
    keys) or ``markers``. Frames outside the shot are included: the caller tells them apart.
    Raises SceneError where what films the shot has no keys of a camera.
    """
    stretch = time_stretch(scene)
    if kind == "markers":
        return sorted({marker.frame * stretch for marker in scene.timeline_markers})
    times = _camera_times(scene, shot) if kind == "camera" else _objects_times(scene)
    exact = {Fraction(time).limit_denominator(1000) * stretch for time in times}
    if kind == "camera":
        exact |= {Fraction(frame) for frame, _ in camera_cuts(scene).cuts}
    return sorted(exact)


def check_cameras(scene: bpy.types.Scene, shot: Shot) -> None:
    """Raise SceneError where ``shot`` is filmed by a light, an empty or the like."""
    cuts = camera_cuts(scene)
    for camera in cuts.cameras(shot.start, shot.end):
        if camera.type != "CAMERA":  # Blender looks through any object
            advice = (
                "bind a camera to its marker (Marker > Bind Camera to Markers)"
                if cuts.cuts
                else "select a camera and make it the active one (Ctrl Numpad 0)"
            )
            raise SceneError(f"'{camera.name}' films the shot but is no camera: {advice}.")


def _camera_times(scene: bpy.types.Scene, shot: Shot) -> set[float]:
    check_cameras(scene, shot)
    seen: Seen = set()
    times: set[float] = set()
    for camera in camera_cuts(scene).cameras(shot.start, shot.end):
        times |= _movement_times(camera, "", seen) | key_times(camera.data)
        focus = camera.data.dof.focus_object if camera.data.dof.use_dof else None
        if focus is not None:
            times |= _movement_times(focus, camera.data.dof.focus_subtarget, seen)
    return times


def _movement_times(owner: bpy.types.Object, bone: str, seen: Seen) -> set[float]:
    """Return when what moves ``owner`` (or its bone) is keyed, through parents and constraints."""
    if (owner, bone) in seen:
        return set()
    seen.add((owner, bone))
    bones = bone_chain(owner, bone)
    times = key_times(owner, moves(bones))
    if owner.type == "CURVE":
        times |= key_times(owner.data)  # a path's evaluation time
    if owner.parent is not None:
        times |= _movement_times(owner.parent, owner.parent_bone, seen)
    for constraints in (owner.constraints, *(bone.constraints for bone in bones)):
        times |= _target_times(constraints, seen)
    return times


def _target_times(constraints: Iterable[bpy.types.Constraint], seen: Seen) -> set[float]:
    times: set[float] = set()
    for constraint in constraints:
        if constraint.mute:
            continue
        pairs = [(getattr(constraint, "target", None), getattr(constraint, "subtarget", ""))]
        pairs += [(t.target, t.subtarget) for t in getattr(constraint, "targets", ())]
        pairs.append(
            (getattr(constraint, "pole_target", None), getattr(constraint, "pole_subtarget", ""))
        )
        for target, subtarget in pairs:
            if isinstance(target, bpy.types.Object):
                times |= _movement_times(target, subtarget, seen)
    return times


def _objects_times(scene: bpy.types.Scene) -> set[float]:
    times: set[float] = set()
    waiting = [ob for ob in rendered_objects(scene) if ob.type not in {"CAMERA", "LIGHT"}]
    seen: set[bpy.types.Object] = set()
    while waiting:
        ob = waiting.pop()
        if ob is None or ob in seen:
            continue
        seen.add(ob)
        times |= key_times(ob, everything) | key_times(ob.data) | _drawing_times(ob)
        times |= key_times(getattr(ob.data, "shape_keys", None))
        waiting.append(ob.parent)
        waiting += [getattr(constraint, "target", None) for constraint in ob.constraints]
        waiting += [getattr(modifier, "object", None) for modifier in ob.modifiers]
    return times


def _drawing_times(ob: bpy.types.Object) -> set[float]:
    if ob.type != "GREASEPENCIL":
        return set()
    return {float(frame.frame_number) for layer in ob.data.layers for frame in layer.frames}
