"""Blockout kit of the example scenes: primitives, materials, light and keys, with plain bpy.

Lengths are metres, angles degrees, colours scene-linear RGB, frames scene frames.
"""

from collections.abc import Mapping, Sequence
from math import radians

import bmesh
import bpy
from mathutils import Matrix, Vector

Colour = tuple[float, float, float]
Triple = tuple[float, float, float]

PALETTE: dict[str, Colour] = {
    "Red": (0.62, 0.035, 0.03),
    "Orange": (0.80, 0.22, 0.03),
    "Yellow": (0.83, 0.52, 0.04),
    "Green": (0.06, 0.30, 0.07),
    "Teal": (0.03, 0.27, 0.30),
    "Blue": (0.03, 0.12, 0.50),
    "Purple": (0.20, 0.06, 0.38),
    "White": (0.78, 0.77, 0.74),
    "Light Gray": (0.46, 0.46, 0.46),
    "Gray": (0.22, 0.22, 0.23),
    "Dark Gray": (0.055, 0.055, 0.06),
    "Brown": (0.16, 0.075, 0.035),
    "Skin": (0.62, 0.33, 0.20),
    "Sand": (0.55, 0.42, 0.26),
    "Grass": (0.13, 0.26, 0.06),
    "Sea": (0.03, 0.17, 0.26),
}


def new_scene(name: str, *, size: tuple[int, int], fps: int, fps_base: float, end: int) -> None:
    """Start from an empty file: one scene of frames 1..``end``, film ``size`` pixels."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.name = name
    scene.frame_start, scene.frame_end = 1, end
    scene.frame_set(1)
    render = scene.render
    render.resolution_x, render.resolution_y = size
    render.fps, render.fps_base = fps, fps_base
    # Cycles on the CPU looks the same on every machine, also where there is no graphics driver.
    render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = 32
    scene.cycles.max_bounces = 4
    scene.view_settings.view_transform = "Standard"


def material(name: str) -> bpy.types.Material:
    """The matt material of a palette colour, made once for each file."""
    found = bpy.data.materials.get(name)
    if found is not None:
        return found
    made = bpy.data.materials.new(name)
    colour = (*PALETTE[name], 1.0)
    made.diffuse_color = colour  # what Solid view and Workbench show
    made.roughness = 0.9
    made.use_nodes = True
    shader = made.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = colour
    shader.inputs["Roughness"].default_value = 0.9
    shader.inputs["Specular IOR Level"].default_value = 0.2
    return made


def collection(name: str) -> bpy.types.Collection:
    """The scene's collection of that name, made on first use."""
    found = bpy.data.collections.get(name)
    if found is None:
        found = bpy.data.collections.new(name)
        bpy.context.scene.collection.children.link(found)
    return found


def add_object(name: str, data: bpy.types.ID | None, group: str) -> bpy.types.Object:
    """Put an object (an empty where ``data`` is None) into the collection ``group``."""
    made = bpy.data.objects.new(name, data)
    collection(group).objects.link(made)
    return made


def append_shape(
    mesh: bmesh.types.BMesh,
    shape: str,
    size: Triple,
    at: Triple = (0, 0, 0),
    turn: Triple = (0, 0, 0),
) -> list[bmesh.types.BMVert]:
    """Add a unit ``box``, ``cylinder``, ``cone``, ``pyramid``, ``wedge`` or ``sphere``.

    It is scaled to ``size`` (whole extents), stands with its base at z = 0 of ``at``, and is
    turned by ``turn`` (Euler degrees) about that base. A sphere is centred half its height up.
    """
    place = (
        Matrix.Translation(at)
        @ Matrix.Rotation(radians(turn[2]), 4, "Z")
        @ Matrix.Rotation(radians(turn[1]), 4, "Y")
        @ Matrix.Rotation(radians(turn[0]), 4, "X")
        @ Matrix.Diagonal((*size, 1.0))
        @ Matrix.Translation((0, 0, 0.5))
    )
    if shape in ("box", "wedge"):
        made = bmesh.ops.create_cube(mesh, size=1.0, matrix=place)["verts"]
        if shape == "wedge":  # a gable roof: the upper corners meet in a ridge along y
            inverse = place.inverted()
            for vertex in made:
                local = inverse @ vertex.co
                if local.z > 0:
                    vertex.co = place @ Vector((0.0, local.y, local.z))
            made = bmesh.ops.remove_doubles(mesh, verts=made, dist=1e-5) and [
                vertex for vertex in made if vertex.is_valid
            ]
        return made
    if shape == "sphere":
        made = bmesh.ops.create_uvsphere(
            mesh, u_segments=32, v_segments=16, radius=0.5, matrix=place
        )["verts"]
    else:
        made = bmesh.ops.create_cone(
            mesh,
            cap_ends=True,
            segments=4 if shape == "pyramid" else 40,
            radius1=0.5,
            radius2=0.5 if shape == "cylinder" else 0.0,
            depth=1.0,
            matrix=place,
        )["verts"]
    if shape != "pyramid":
        for face in {face for vertex in made for face in vertex.link_faces}:
            face.smooth = len(face.verts) <= 4
    return made


def block(
    name: str,
    shape: str,
    size: Triple,
    at: Triple,
    colour: str,
    *,
    group: str = "Set",
    turn: float = 0.0,
    parent: bpy.types.Object | None = None,
) -> bpy.types.Object:
    """One primitive standing on ``at``, turned about z by ``turn`` degrees."""
    mesh = bmesh.new()
    append_shape(mesh, shape, size)
    data = bpy.data.meshes.new(name)
    mesh.to_mesh(data)
    mesh.free()
    data.materials.append(material(colour))
    made = add_object(name, data, group)
    made.location = at
    made.rotation_euler.z = radians(turn)
    made.parent = parent
    return made


def empty(name: str, at: Triple = (0, 0, 0), group: str = "Camera") -> bpy.types.Object:
    """An empty for rigs and targets."""
    made = add_object(name, None, group)
    made.location = at
    made.empty_display_size = 0.5
    return made


def camera(name: str, lens: float, at: Triple, look_at: Triple | None = None) -> bpy.types.Object:
    """A camera with ``lens`` mm on a 36 mm sensor; the first one made is the scene's camera."""
    data = bpy.data.cameras.new(name)
    data.lens = lens
    made = add_object(name, data, "Camera")
    made.location = at
    if look_at is not None:
        aim(made, at, look_at)
    if bpy.context.scene.camera is None:
        bpy.context.scene.camera = made
    return made


def aim(looker: bpy.types.Object, at: Triple, look_at: Triple) -> None:
    """Place a camera at ``at`` and turn it to ``look_at``, upright."""
    looker.location = at
    turned = (Vector(look_at) - Vector(at)).to_track_quat("-Z", "Y").to_euler()
    turned.make_compatible(looker.rotation_euler)  # keyed angles must not jump by a full turn
    looker.rotation_euler = turned


def key_camera(looker: bpy.types.Object, keys: Mapping[int, tuple[Triple, Triple]]) -> None:
    """Key a camera move: frame -> (where it stands, what it looks at)."""
    for frame, (at, look_at) in keys.items():
        aim(looker, at, look_at)
        looker.keyframe_insert("location", frame=frame)
        looker.keyframe_insert("rotation_euler", frame=frame)


def key(
    thing: bpy.types.ID | bpy.types.PoseBone,
    path: str,
    keys: Mapping[int, float | Sequence[float]],
    index: int = -1,
) -> None:
    """Key ``path`` (its component ``index`` alone, where given) with the values of ``keys``."""
    for frame, value in keys.items():
        if index < 0:
            setattr(thing, path, value)
        else:
            getattr(thing, path)[index] = value
        thing.keyframe_insert(path, index=index, frame=frame)


def interpolate(thing: bpy.types.ID, kind: str, *, cyclic: bool = False) -> None:
    """Set the interpolation of all keys of ``thing``'s action; ``cyclic`` repeats it for ever."""
    for curve in thing.animation_data.action.fcurves:
        for point in curve.keyframe_points:
            point.interpolation = kind
        if cyclic:
            curve.modifiers.new("CYCLES")
        curve.update()


def daylight(
    *, elevation: float, azimuth: float, warmth: Colour, zenith: Colour, horizon: Colour
) -> None:
    """A sun (degrees above the ground and about z) and a sky that fades up from the horizon."""
    sun_data = bpy.data.lights.new("Sun", "SUN")
    sun_data.energy = 2.6
    sun_data.angle = radians(1.5)
    sun_data.color = warmth
    sun = add_object("Sun", sun_data, "Light")
    sun.location = (0, 0, 12)
    sun.rotation_euler = (radians(90 - elevation), 0, radians(azimuth))
    world = bpy.data.worlds.new("Sky")
    bpy.context.scene.world = world
    world.use_nodes = True
    world.color = zenith
    nodes, links = world.node_tree.nodes, world.node_tree.links
    background = nodes["Background"]
    background.inputs["Strength"].default_value = 0.85
    coordinates = nodes.new("ShaderNodeTexCoord")
    split = nodes.new("ShaderNodeSeparateXYZ")
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (*horizon, 1.0)
    ramp.color_ramp.elements[1].color = (*zenith, 1.0)
    ramp.color_ramp.elements[1].position = 0.6
    for left, node in enumerate((coordinates, split, ramp)):
        node.location = (-900 + 280 * left, 200)
    links.new(coordinates.outputs["Generated"], split.inputs[0])
    links.new(split.outputs["Z"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], background.inputs["Color"])


def look_through_camera() -> None:
    """Leave every 3D view of the file in the camera, solid shading in material colours."""
    for screen in bpy.data.screens:
        for area in screen.areas:
            view = area.spaces[0]
            if area.type == "VIEW_3D":
                view.region_3d.view_perspective = "CAMERA"
                view.shading.color_type = "MATERIAL"
                view.shading.show_shadows = True
            elif area.type == "FILE_BROWSER" and view.params is not None:
                view.params.directory = b"//"  # not the builder's home
