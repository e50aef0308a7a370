"""Builds described blockouts as real scenes: one .blend per clip of a description file.

The descriptions come from the training's ray caster (engine/training/description.py says what they
hold). The scenes have its shapes, cameras, light and colours, so that what is learned on its
pictures can be tested on Blender's guides of the same scene.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import cos, pi, radians, sin
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

from . import compat
from .blockout_look import paint, shine
from .errors import SceneError

SCHEMA = 1
SIDE = 512
"""Pixels a side of the scenes' own, square render."""
_SEGMENTS = 128  # around what is round: a facet's middle is 0.03% of the radius too near
_RINGS = 64
_CREASE = radians(40)  # as the line guides have it
_TIP = 0.97  # a ring under the cone's tip: the tip has no normal, and shading would blur it down

Triple = Sequence[float]
Shape = tuple[Sequence[Triple], list[list[int]]]
"""Points inside [-1, 1]^3, and faces that look outwards."""


def write_blockouts(description: Path, out: Path, on_step: Callable[[int, int], None]) -> list:
    """Write ``out/NAME.blend`` for each clip of the file ``description``; return their paths.

    ``on_step`` is called as (done, of). Raises SceneError when the file is of another kind.
    """
    whole = json.loads(description.read_text(encoding="utf-8"))
    if whole.get("schema") != SCHEMA:
        raise SceneError(
            f"{description.name} is no description of blockouts that this version reads "
            f"(schema {whole.get('schema')}, wanted {SCHEMA}): write it again with this version."
        )
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for clip in whole["clips"]:
        build(clip)
        bpy.context.preferences.filepaths.save_version = 0  # no NAME.blend1
        paths.append(out / f"{clip['name']}.blend")
        bpy.ops.wm.save_as_mainfile(filepath=str(paths[-1]), check_existing=False)
        on_step(len(paths), len(whole["clips"]))
    return paths


def build(clip: dict) -> bpy.types.Scene:
    """Replace the open file by the scene of one ``clip``, frames 1 to its number of frames."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.name = clip["name"]
    scene["caption"] = clip["caption"]
    scene.frame_start, scene.frame_end = 1, clip["frames"]
    render = scene.render
    render.fps, render.fps_base = clip["fps"], 1.0
    render.resolution_x = render.resolution_y = SIDE
    side = clip["ground"]["half_side"]
    corners = [(-side, -side, 0), (side, -side, 0), (side, side, 0), (-side, side, 0)]
    ground = _add("Ground", (corners, [[0, 1, 2, 3]]), (1, 1, 1))
    paint(ground, clip["ground"]["colour"], clip)
    for number, each in enumerate(clip["objects"], start=1):
        solid = _add(f"{each['kind'].title()} {number}", SHAPES[each["kind"]](), each["half"])
        solid.rotation_euler = Matrix(each["rotation"]).to_euler()
        _place(solid, each["centre"])
        paint(solid, each["colour"], clip)
    shine(scene, clip)
    _film(scene, clip["camera"], reach=4 * side)
    scene.frame_set(1)
    return scene


def box() -> Shape:
    """The cube [-1, 1]^3."""
    points = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    faces = [
        [0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3],
    ]  # fmt: skip
    return points, faces


def wedge() -> Shape:
    """The cube's half below the plane x + z = 0."""
    points = [(x, y, z) for y in (-1, 1) for x, z in ((-1, -1), (1, -1), (-1, 1))]
    faces = [[0, 1, 2], [3, 5, 4], [0, 3, 4, 1], [1, 4, 5, 2], [2, 5, 3, 0]]
    return points, faces


def sphere() -> Shape:
    """The unit sphere."""
    angles = [pi * ring / _RINGS for ring in range(1, _RINGS)]
    return _turned([(sin(a), -cos(a)) for a in angles], bottom=-1.0, top=1.0)


def cylinder() -> Shape:
    """Radius 1 about z, from z = -1 to 1."""
    return _turned([(1, -1), (1, 1)])


def cone() -> Shape:
    """Radius 1 at z = -1, its tip at z = 1."""
    return _turned([(1, -1), (1 - _TIP, 2 * _TIP - 1)], top=1.0)


def _turned(
    profile: list[tuple[float, float]], bottom: float | None = None, top: float | None = None
) -> Shape:
    """A solid of revolution through (radius, z) upwards; it ends in points, or in flat caps."""
    steps = [2 * pi * step / _SEGMENTS for step in range(_SEGMENTS)]
    points: list[Triple] = [(r * cos(a), r * sin(a), z) for r, z in profile for a in steps]
    around = [(k, (k + 1) % _SEGMENTS) for k in range(_SEGMENTS)]
    last = (len(profile) - 1) * _SEGMENTS
    faces = [
        [ring + a, ring + b, ring + _SEGMENTS + b, ring + _SEGMENTS + a]
        for ring in range(0, last, _SEGMENTS)
        for a, b in around
    ]
    if bottom is None:
        faces.append([a for a, _ in reversed(around)])
    else:
        points.append((0, 0, bottom))
        faces += [[len(points) - 1, b, a] for a, b in around]
    if top is None:
        faces.append([last + a for a, _ in around])
    else:
        points.append((0, 0, top))
        faces += [[len(points) - 1, last + a, last + b] for a, b in around]
    return points, faces


SHAPES: dict[str, Callable[[], Shape]] = {
    "box": box, "sphere": sphere, "cylinder": cylinder, "cone": cone, "wedge": wedge,
}  # fmt: skip


def _add(name: str, shape: Shape, half: Triple) -> bpy.types.Object:
    points, faces = shape
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([[c * h for c, h in zip(p, half, strict=True)] for p in points], [], faces)
    mesh.shade_smooth()
    mesh.set_sharp_from_angle(angle=_CREASE)
    made = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(made)
    return made


def _place(solid: bpy.types.Object, centres: list[Triple]) -> None:
    solid.location = centres[0]
    if any(centre != centres[0] for centre in centres):
        _key(solid, "location", centres)


def _film(scene: bpy.types.Scene, move: dict, reach: float) -> None:
    """Add the camera, keyed on every frame, on a 36 mm sensor."""
    lens = bpy.data.cameras.new("Camera")
    lens.clip_start, lens.clip_end = 0.01, reach + max(Vector(at).length for at in move["location"])
    camera = bpy.data.objects.new("Camera", lens)
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.rotation_mode = "QUATERNION"
    turns = [Matrix(rows).to_quaternion() for rows in move["rotation"]]
    for before, turn in pairwise(turns):
        turn.make_compatible(before)  # q and -q are one rotation, but not one way there
    _key(camera, "location", move["location"])
    _key(camera, "rotation_quaternion", turns)
    _key(lens, "lens", move["focal"])


def _key(thing: bpy.types.ID, path: str, values: Iterable) -> None:
    """Key ``path`` on frames 1, 2, ..., with straight lines between."""
    for frame, value in enumerate(values, start=1):
        setattr(thing, path, value)
        thing.keyframe_insert(path, frame=frame)
    animation = thing.animation_data
    for curve in compat.fcurves_of(animation.action, animation.action_slot):
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
