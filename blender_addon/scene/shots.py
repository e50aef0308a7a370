"""The shots of a scene: which camera films which range of scene frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import bpy

from .errors import SceneError


@dataclass(frozen=True)
class Shot:
    """A camera and a range of scene frames, both ends included."""

    name: str
    start: int
    end: int
    camera: str

    def as_json(self) -> dict:
        """Return the shot as the result file lists it."""
        return {"name": self.name, "start": self.start, "end": self.end, "camera": self.camera}


@dataclass(frozen=True)
class CameraCuts:
    """Which camera is active when; read once, because rendering guides unbinds the markers.

    ``cuts`` are (scene frame, camera) in order of time; ``default`` films where there are none.
    """

    cuts: tuple[tuple[int, bpy.types.Object], ...]
    default: bpy.types.Object | None

    def camera_at(self, frame: int) -> bpy.types.Object | None:
        """Return the camera that Blender would render ``frame`` with.

        As BKE_scene_camera_switch_find does: the last bound marker up to the frame, or the first
        one where all come later.
        """
        if not self.cuts:
            return self.default
        earlier = [camera for at, camera in self.cuts if at <= frame]
        return earlier[-1] if earlier else self.cuts[0][1]

    def cameras(self, start: int, end: int) -> list[bpy.types.Object]:
        """Return the cameras that film scene frames ``start`` to ``end``, each once."""
        frames = [start, *(at for at, _ in self.cuts if start < at <= end)]
        found = [self.camera_at(frame) for frame in frames]
        return list(dict.fromkeys(camera for camera in found if camera is not None))


def camera_cuts(scene: bpy.types.Scene) -> CameraCuts:
    """Read the camera markers of ``scene``."""
    markers = _camera_markers(scene)
    return CameraCuts(tuple((at, marker.camera) for at, marker in markers.items()), scene.camera)


def time_stretch(scene: bpy.types.Scene) -> Fraction:
    """Return by what the scene's time remapping multiplies the frames of keys and markers."""
    return Fraction(scene.render.frame_map_new, scene.render.frame_map_old)


def scene_range(scene: bpy.types.Scene) -> tuple[int, int]:
    """Return the scene's first and last frame: the preview range where the artist set one."""
    if scene.use_preview_range:
        return scene.frame_preview_start, scene.frame_preview_end
    return scene.frame_start, scene.frame_end


def find_shots(scene: bpy.types.Scene) -> list[Shot]:
    """Return the shots of ``scene`` in order of time.

    A marker with a camera starts a shot, which lasts until the next one. Without such markers the
    scene's active camera films the whole range. Empty when the scene has no camera.
    """
    start, end = scene_range(scene)
    markers = _camera_markers(scene)
    if not markers:
        if scene.camera is None:
            return []
        return [Shot(scene.name, start, end, scene.camera.name)]
    shots = []
    cuts = list(markers)
    for at, following, marker in zip(cuts, [*cuts[1:], end + 1], markers.values(), strict=True):
        # The first marker's camera films what comes before it, too.
        first = start if at == cuts[0] else max(start, at)
        last = min(end, following - 1)
        if first <= last:
            shots.append(Shot(marker.name, first, last, marker.camera.name))
    return shots


def choose_scene(name: str | None) -> bpy.types.Scene:
    """Return the scene called ``name``, or the file's active one. Raises SceneError."""
    scene = bpy.context.scene if name is None else _local_scene(name)
    own = [each for each in bpy.data.scenes if each.library is None]
    names = ", ".join(f"'{each.name}'" for each in own)
    if scene is None:
        raise SceneError(f"There is no scene '{name}' in this file. Its scenes: {names}.")
    if scene.library is not None:
        raise SceneError(
            f"The scene '{scene.name}' is linked from {scene.library.name}, and guides are made of "
            f"a file's own scenes: name that file instead, or a scene of this one ({names})."
        )
    if find_shots(scene):
        return scene
    others = [other.name for other in own if other != scene and find_shots(other)]
    advice = (
        f"choose a scene that has one with --scene: {', '.join(others)}."
        if others
        else "add one, and make it active (View > Cameras > Set Active Object as Camera)."
    )
    raise SceneError(f"The scene '{scene.name}' has no camera: {advice}")


def choose_shot(
    shots: list[Shot], wanted: str | None, frames: tuple[int, int] | None
) -> tuple[Shot, str | None]:
    """Return the shot that ``wanted`` names (its name or its number from 1), and a note or None.

    Without a wish: the shot in which the asked range begins, else the first one; the note says so
    when there were several. An asked range replaces the shot's own. Raises SceneError.
    """
    note = None
    if wanted is not None:
        shot = _by_name_or_number(shots, wanted)
    elif frames is not None:
        shot = next((shot for shot in shots if shot.start <= frames[0] <= shot.end), shots[0])
    else:
        shot = shots[0]
        if len(shots) > 1:
            listed = ", ".join(f"{index + 1} '{s.name}'" for index, s in enumerate(shots))
            note = (
                f"The scene has {len(shots)} shots ({listed}); this is the first. "
                "Choose another with --shot."
            )
    if frames is None:
        return shot, note
    if frames[1] < frames[0]:
        raise SceneError(f"The range {frames[0]}:{frames[1]} ends before it starts.")
    return Shot(shot.name, frames[0], frames[1], shot.camera), note


def _camera_markers(scene: bpy.types.Scene) -> dict[int, bpy.types.TimelineMarker]:
    """Return the camera markers in order of time, by the first scene frame that each one films.

    As Blender has it: a camera that is hidden from render is skipped, and of markers on one frame
    the first in the list counts. Of those that remapping brings onto one frame it is the last.
    """
    bound: dict[int, bpy.types.TimelineMarker] = {}
    for marker in scene.timeline_markers:
        if marker.camera is not None and not marker.camera.hide_render:
            bound.setdefault(marker.frame, marker)
    return {math.ceil(at * time_stretch(scene)): bound[at] for at in sorted(bound)}


def _local_scene(name: str) -> bpy.types.Scene | None:
    # A linked scene may bear the same name; the file's own comes first.
    matches = [scene for scene in bpy.data.scenes if scene.name == name]
    return min(matches, key=lambda scene: scene.library is not None, default=None)


def _by_name_or_number(shots: list[Shot], wanted: str) -> Shot:
    named = [shot for shot in shots if shot.name == wanted]
    if named:
        return named[0]
    if wanted.isdecimal() and 1 <= int(wanted) <= len(shots):
        return shots[int(wanted) - 1]
    listed = ", ".join(
        f"{index + 1} '{shot.name}' ({shot.start} to {shot.end})"
        for index, shot in enumerate(shots)
    )
    raise SceneError(f"There is no shot '{wanted}' in this scene. Its shots: {listed}.")
