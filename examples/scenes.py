"""The example scenes: each function fills a new file with one blockout."""

from math import cos, radians

import bmesh
import bpy
from kit import (
    add_object,
    append_shape,
    block,
    camera,
    daylight,
    empty,
    interpolate,
    key,
    key_camera,
    material,
    new_scene,
)


def city_dolly() -> None:
    """Dolly down a street of blockout buildings towards a red tower. 24 fps, 48 frames, 16:9."""
    new_scene("City Dolly", size=(1280, 720), fps=24, fps_base=1.0, end=48)
    daylight(
        elevation=38,
        azimuth=-52,
        warmth=(1.0, 0.93, 0.82),
        zenith=(0.10, 0.28, 0.72),
        horizon=(0.62, 0.76, 0.90),
    )
    block("Ground", "box", (120, 130, 0.2), (0, 45, -0.2), "Light Gray")
    block("Street", "box", (9, 130, 0.05), (0, 45, 0), "Dark Gray")
    block("Pavement Left", "box", (3, 130, 0.2), (-6, 45, 0), "White")
    block("Pavement Right", "box", (3, 130, 0.2), (6, 45, 0), "White")
    # name, centre x, centre y, width, depth, height, colour
    for name, x, y, width, depth, height, colour in (
        ("Corner House", -12.0, 3.0, 9, 10, 7.5, "Sand"),
        ("Blue Offices", -12.5, 15.0, 10, 11, 17, "Blue"),
        ("Corner Shop", -11.5, 26.5, 8, 9, 9, "Orange"),
        ("Gray Tower", -13.0, 40.0, 11, 13, 26, "Gray"),
        ("Yellow Block", 12.5, 5.5, 10, 12, 11, "Yellow"),
        ("Teal Hotel", 12.5, 19.5, 10, 13, 21, "Teal"),
        ("Small House", 11.5, 31.5, 8, 8, 8, "White"),
        ("Purple Block", 12.5, 43.0, 10, 12, 15, "Purple"),
        ("Red Tower", 0.0, 66.0, 15, 13, 25, "Red"),
    ):
        block(name, "box", (width, depth, height), (x, y, 0), colour, group="City")
    block("Red Tower Dome", "sphere", (12, 12, 12), (0, 66, 19), "Yellow", group="City")
    block("Water Tank", "cylinder", (5.5, 5.5, 5), (-12.5, 15, 17), "Brown", group="City")
    block("Shop Roof", "wedge", (8, 9, 3), (-11.5, 26.5, 9), "Red", group="City")
    block("Small House Roof", "wedge", (8, 8, 3), (11.5, 31.5, 8), "Orange", group="City")
    for name, x, y, colour, turn in (
        ("Car", 2.3, 21.0, "Yellow", 0.0),
        ("Parked Van", -3.6, 12.0, "White", 0.0),
    ):
        car = block(name, "box", (1.9, 4.6, 1.0), (x, y, 0.35), colour, group="Traffic", turn=turn)
        cabin = (1.7, 2.4, 0.8) if name == "Car" else (1.9, 3.4, 1.3)
        block(f"{name} Cabin", "box", cabin, (0, 0.3, 1.0), colour, group="Traffic", parent=car)
        for number, (side, along) in enumerate(
            ((-0.8, -1.4), (0.8, -1.4), (-0.8, 1.4), (0.8, 1.4))
        ):
            wheel = block(
                f"{name} Wheel {number + 1}",
                "cylinder",
                (0.8, 0.8, 0.3),
                (side - 0.15, along, 0.05),
                "Gray",
                group="Traffic",
                parent=car,
            )
            wheel.rotation_euler.y = radians(90)
    key(bpy.data.objects["Car"], "location", {1: (2.3, 19.0, 0.35), 48: (2.3, 33.0, 0.35)})
    interpolate(bpy.data.objects["Car"], "LINEAR")
    dolly = camera("Dolly Camera", 30, (0, 0, 0))
    key_camera(
        dolly,
        {
            1: ((-1.2, -9.0, 2.0), (0.0, 66.0, 10.0)),
            24: ((-0.8, 0.0, 2.4), (0.2, 66.0, 11.0)),
            48: ((-0.2, 10.0, 3.2), (0.6, 66.0, 12.5)),
        },
    )


def orbit() -> None:
    """A third of a turn around four moving primitives. 25 fps, 50 frames, square."""
    new_scene("Orbit", size=(720, 720), fps=25, fps_base=1.0, end=50)
    daylight(
        elevation=48,
        azimuth=35,
        warmth=(1.0, 0.97, 0.9),
        zenith=(0.16, 0.40, 0.80),
        horizon=(0.75, 0.84, 0.92),
    )
    block("Ground", "cylinder", (60, 60, 0.2), (0, 0, -0.2), "Sand")
    block("Plinth", "cylinder", (3.0, 3.0, 0.8), (0, 0, 0), "White")
    ball = block("Red Ball", "sphere", (2.0, 2.0, 2.0), (0, 0, 0.8), "Red", group="Subject")
    box = block("Blue Box", "box", (1.9, 1.9, 1.9), (-3.0, -0.6, 0), "Blue", group="Subject")
    cone = block("Yellow Cone", "cone", (2.0, 2.0, 2.8), (2.7, 2.6, 0), "Yellow", group="Subject")
    block("Green Column", "cylinder", (1.3, 1.3, 4.0), (-0.9, 3.2, 0), "Green", group="Subject")
    block(
        "Orange Block", "box", (1.4, 2.6, 1.2), (2.4, -1.8, 0), "Orange", group="Subject", turn=25
    )
    # the ball jumps twice; a short squash on the plinth gives it weight
    key(ball, "location", {1: 0.8, 13: 2.5, 25: 0.8, 37: 2.5, 50: 0.8}, index=2)
    key(ball, "scale", {1: 0.82, 7: 1.0, 19: 1.0, 25: 0.82, 31: 1.0, 44: 1.0, 50: 0.82}, index=2)
    key(box, "location", {1: -0.6, 50: -2.6}, index=1)
    key(box, "rotation_euler", {1: 0.0, 50: radians(90)}, index=2)
    key(cone, "location", {1: 2.6, 50: 1.0}, index=1)
    pivot = empty("Orbit Pivot", (0, 0, 1.3))
    key(pivot, "rotation_euler", {1: radians(-35), 25: radians(23.8), 50: radians(85)}, index=2)
    interpolate(pivot, "LINEAR")
    eye = camera("Orbit Camera", 45, (0, -11.5, 3.2), look_at=(0, 0, 0.2))
    eye.parent = pivot


# Blocks of the walker: bone, shape, size, base of the block at rest, colour. It faces -y.
_BODY: tuple[tuple[str, str, tuple, tuple, str], ...] = (
    ("hips", "box", (0.46, 0.30, 0.26), (0, 0, 0.84), "Blue"),
    ("spine", "box", (0.60, 0.34, 0.58), (0, 0, 1.10), "Red"),
    ("spine", "box", (0.42, 0.26, 0.46), (0, 0.30, 1.15), "Yellow"),
    ("head", "sphere", (0.42, 0.42, 0.46), (0, -0.02, 1.70), "Skin"),
    ("upper_arm.L", "box", (0.17, 0.19, 0.36), (0.40, 0, 1.29), "Red"),
    ("upper_arm.R", "box", (0.17, 0.19, 0.36), (-0.40, 0, 1.29), "Red"),
    ("forearm.L", "box", (0.15, 0.17, 0.42), (0.40, 0, 0.88), "Skin"),
    ("forearm.R", "box", (0.15, 0.17, 0.42), (-0.40, 0, 0.88), "Skin"),
    ("thigh.L", "box", (0.21, 0.25, 0.42), (0.13, 0, 0.46), "Blue"),
    ("thigh.R", "box", (0.21, 0.25, 0.42), (-0.13, 0, 0.46), "Blue"),
    ("shin.L", "box", (0.18, 0.21, 0.40), (0.13, 0, 0.08), "Blue"),
    ("shin.R", "box", (0.18, 0.21, 0.40), (-0.13, 0, 0.08), "Blue"),
    ("foot.L", "box", (0.20, 0.38, 0.12), (0.13, -0.07, 0), "Dark Gray"),
    ("foot.R", "box", (0.20, 0.38, 0.12), (-0.13, -0.07, 0), "Dark Gray"),
)
# bone, head, tail, parent
_BONES: tuple[tuple[str, tuple, tuple, str | None], ...] = (
    ("hips", (0, 0, 0.90), (0, 0, 1.10), None),
    ("spine", (0, 0, 1.10), (0, 0, 1.66), "hips"),
    ("head", (0, 0, 1.68), (0, 0, 2.10), "spine"),
    ("upper_arm.L", (0.40, 0, 1.62), (0.40, 0, 1.29), "spine"),
    ("upper_arm.R", (-0.40, 0, 1.62), (-0.40, 0, 1.29), "spine"),
    ("forearm.L", (0.40, 0, 1.29), (0.40, 0, 0.88), "upper_arm.L"),
    ("forearm.R", (-0.40, 0, 1.29), (-0.40, 0, 0.88), "upper_arm.R"),
    ("thigh.L", (0.13, 0, 0.88), (0.13, 0, 0.48), "hips"),
    ("thigh.R", (-0.13, 0, 0.88), (-0.13, 0, 0.48), "hips"),
    ("shin.L", (0.13, 0, 0.48), (0.13, 0, 0.08), "thigh.L"),
    ("shin.R", (-0.13, 0, 0.48), (-0.13, 0, 0.08), "thigh.R"),
    ("foot.L", (0.13, 0, 0.08), (0.13, -0.24, 0.02), "shin.L"),
    ("foot.R", (-0.13, 0, 0.08), (-0.13, -0.24, 0.02), "shin.R"),
)
_CYCLE = (1, 7, 13, 19, 25)  # left contact, passing, right contact, passing, left contact
_REACH = 27.0  # degrees a thigh swings to either side
_LEG = 0.88  # metres from hip to sole


def _walker_rig() -> bpy.types.Object:
    """The armature at rest, its bones' x axes along world x so that one angle bends each."""
    rig = add_object("Walker Rig", bpy.data.armatures.new("Walker Rig"), "Walker")
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bones = rig.data.edit_bones
    for name, head, tail, parent in _BONES:
        bone = bones.new(name)
        bone.head, bone.tail = head, tail
        bone.align_roll((0, -1, 0) if abs(tail[2] - head[2]) > 0.1 else (0, 0, 1))
        bone.parent = bones[parent] if parent else None
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.show_in_front = True
    return rig


def _walker_body(rig: bpy.types.Object) -> None:
    """One mesh of blocks, each weighted to its bone alone."""
    mesh = bmesh.new()
    weights = mesh.verts.layers.deform.verify()
    data = bpy.data.meshes.new("Walker Body")
    body = add_object("Walker Body", data, "Walker")
    colours: list[str] = []
    for bone, shape, size, at, colour in _BODY:
        group = body.vertex_groups.get(bone) or body.vertex_groups.new(name=bone)
        if colour not in colours:
            colours.append(colour)
            data.materials.append(material(colour))
        vertices = append_shape(mesh, shape, size, at)
        for vertex in vertices:
            vertex[weights][group.index] = 1.0
        for face in {face for vertex in vertices for face in vertex.link_faces}:
            face.material_index = colours.index(colour)
    mesh.to_mesh(data)
    mesh.free()
    body.parent = rig
    modifier = body.modifiers.new("Armature", "ARMATURE")
    modifier.object = rig


def _walk_cycle(rig: bpy.types.Object) -> None:
    """Key one second of walking on the spot and let it repeat."""
    dip = _LEG * (1 - cos(radians(_REACH)))
    swings = {
        "thigh.L": (_REACH, 4, -_REACH, 22, _REACH),
        "thigh.R": (-_REACH, 22, _REACH, 4, -_REACH),
        "shin.L": (-4, -10, -14, -62, -4),
        "shin.R": (-14, -62, -4, -10, -14),
        "foot.L": (8, 4, 18, 12, 8),
        "foot.R": (18, 12, 8, 4, 18),
        "upper_arm.L": (-26, 0, 26, 0, -26),
        "upper_arm.R": (26, 0, -26, 0, 26),
        "forearm.L": (14, 22, 38, 22, 14),
        "forearm.R": (38, 22, 14, 22, 38),
    }
    for name, angles in swings.items():
        bone = rig.pose.bones[name]
        bone.rotation_mode = "XYZ"
        turns = dict(zip(_CYCLE, (radians(angle) for angle in angles), strict=True))
        key(bone, "rotation_euler", turns, index=0)
    hips = rig.pose.bones["hips"]
    heights = dict(zip(_CYCLE, (-dip, 0.0, -dip, 0.0, -dip), strict=True))
    key(hips, "location", heights, index=1)
    rig.animation_data.action.name = "Walk Cycle"
    interpolate(rig, "BEZIER", cyclic=True)


def walk_follow() -> None:
    """A block character walks past a colonnade; the camera follows. 24 fps, 48 frames, 16:9."""
    new_scene("Walk Follow", size=(1280, 720), fps=24, fps_base=1.0, end=48)
    daylight(
        elevation=34,
        azimuth=58,
        warmth=(1.0, 0.86, 0.68),
        zenith=(0.20, 0.34, 0.66),
        horizon=(0.86, 0.70, 0.52),
    )
    block("Ground", "box", (80, 80, 0.2), (0, 0, -0.2), "Grass")
    block("Path", "box", (3.2, 80, 0.03), (0, 0, 0), "Sand")
    for number, (y, height, colour) in enumerate(
        ((4.6, 4.4, "White"), (1.0, 3.2, "Yellow"), (-2.6, 4.4, "White"), (-6.2, 3.2, "Teal"))
    ):
        column = (-3.4, y, 0)
        block(f"Column {number + 1}", "cylinder", (1.1, 1.1, height), column, colour, group="Set")
    block("Long Wall", "box", (1.0, 44, 1.1), (-5.6, 8, 0), "Light Gray")
    block("Orange House", "box", (6, 8, 6), (-12, 3.5, 0), "Orange")
    block("Purple House", "box", (7, 9, 8.5), (-14, -7.5, 0), "Purple")
    block("White House", "box", (7, 6, 4.6), (1.5, 22, 0), "White")
    block("White House Roof", "wedge", (8, 6.6, 2.6), (1.5, 22, 4.6), "Red")
    block("Tree Trunk", "cylinder", (0.5, 0.5, 1.6), (-8.2, -1.6, 0), "Brown")
    block("Tree Crown", "cone", (3.4, 3.4, 4.6), (-8.2, -1.6, 1.4), "Green")
    # The mover carries the walk through the world, so the cycle itself stays on the spot.
    mover = empty("Walker Mover", (0, 3.2, 0), group="Walker")
    stride = 4 * _LEG * 0.96 * radians(_REACH)
    key(mover, "location", {1: 3.2, 49: 3.2 - 2 * stride}, index=1)
    interpolate(mover, "LINEAR")
    rig = _walker_rig()
    rig.parent = mover
    _walker_body(rig)
    _walk_cycle(rig)
    eye = camera("Follow Camera", 36, (3.6, -3.6, 1.3))
    follow = eye.constraints.new("COPY_LOCATION")
    follow.name = "Follow Walker"
    follow.target = mover
    follow.use_offset = True
    track = eye.constraints.new("TRACK_TO")
    track.name = "Look at Chest"
    track.target = rig
    track.subtarget = "spine"
    track.track_axis, track.up_axis = "TRACK_NEGATIVE_Z", "UP_Y"
    key(eye, "location", {1: (2.6, -3.9, 1.1), 48: (4.2, -1.2, 1.5)})


def two_shots() -> None:
    """A lighthouse and a boat in two shots that markers start. 23.976 fps, 96 frames, 16:9."""
    new_scene("Lighthouse", size=(1280, 720), fps=24, fps_base=1.001, end=96)
    daylight(
        elevation=30,
        azimuth=-60,
        warmth=(1.0, 0.90, 0.76),
        zenith=(0.12, 0.30, 0.62),
        horizon=(0.70, 0.80, 0.86),
    )
    block("Sea", "box", (600, 600, 0.2), (0, 240, -0.2), "Sea")
    block("Island", "cylinder", (24, 24, 2.2), (0, 22, -0.4), "Sand")
    block("Rock Left", "box", (7, 6, 3.4), (-7, 15.5, -0.2), "Gray", turn=24)
    block("Rock Right", "box", (6, 7, 4.4), (8.5, 18, -0.2), "Gray", turn=-18)
    tower = "Lighthouse"
    block("Tower Base", "cylinder", (6.4, 6.4, 5), (0, 22, 1.8), "White", group=tower)
    block("Tower Band", "cylinder", (5.8, 5.8, 4), (0, 22, 6.8), "Red", group=tower)
    block("Tower Top", "cylinder", (5.2, 5.2, 4), (0, 22, 10.8), "White", group=tower)
    block("Lamp Room", "cylinder", (3.6, 3.6, 2.0), (0, 22, 14.8), "Yellow", group=tower)
    block("Tower Roof", "cone", (5.6, 5.6, 3.0), (0, 22, 16.8), "Red", group=tower)
    block("Keeper House", "box", (6.5, 6, 4), (-6.6, 23, 1.8), "White", group=tower, turn=8)
    block("Keeper Roof", "wedge", (7.3, 6.8, 2.6), (-6.6, 23, 5.8), "Orange", group=tower, turn=8)
    boat = block("Boat", "box", (6.4, 2.8, 1.5), (0, 0, -0.2), "Red", group="Boat")
    block("Boat Deck", "box", (6.8, 3.1, 0.35), (0, 0, 1.4), "White", group="Boat", parent=boat)
    block("Boat Cabin", "box", (2.4, 2.1, 1.7), (-1.2, 0, 1.7), "Blue", group="Boat", parent=boat)
    block(
        "Boat Funnel",
        "cylinder",
        (0.9, 0.9, 1.6),
        (-1.2, 0, 3.3),
        "Yellow",
        group="Boat",
        parent=boat,
    )
    key(boat, "location", {1: (-13.0, 3.0, -0.2), 96: (9.0, 1.0, -0.2)})
    key(boat, "rotation_euler", {1: -0.03, 25: 0.04, 49: -0.03, 73: 0.04, 96: -0.03}, index=1)
    interpolate(boat, "LINEAR")
    wide = camera("Wide Camera", 28, (0, 0, 0))
    key_camera(
        wide,
        {
            1: ((-9.0, -22.0, 9.5), (-0.8, 20.0, 5.6)),
            24: ((-6.2, -20.2, 7.3), (-0.8, 20.0, 6.2)),
            48: ((-3.0, -18.0, 5.0), (-0.8, 20.0, 6.8)),
        },
    )
    close = camera("Close Camera", 30, (0, 0, 0))
    key_camera(
        close,
        {
            49: ((2.5, -11.5, 2.8), (-0.6, 2.0, 3.4)),
            72: ((6.0, -10.6, 2.5), (3.6, 2.0, 3.6)),
            96: ((9.6, -9.6, 2.2), (7.4, 2.0, 3.8)),
        },
    )
    markers = bpy.context.scene.timeline_markers
    markers.new("Wide", frame=1).camera = wide
    markers.new("Close", frame=49).camera = close


SCENES = {
    "city_dolly": city_dolly,
    "orbit": orbit,
    "walk_follow": walk_follow,
    "two_shots": two_shots,
}
