"""Where the artist has keyed: every way in which a camera or an object may be animated."""

from __future__ import annotations

from fractions import Fraction

import bpy
import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.scene.find_keyframes import find_keyframes
from animatic.blender_addon.scene.shots import camera_cuts, choose_shot, find_shots

from .conftest import add_box, add_camera


def key(block, path, *frames):
    for frame in frames:
        block.keyframe_insert(path, frame=frame)


def found(scene, kind="camera", shot=0):
    return [float(time) for time in find_keyframes(scene, find_shots(scene)[shot], kind)]


def empty(name):
    made = bpy.data.objects.new(name, None)
    bpy.context.scene.collection.objects.link(made)
    return made


def test_camera_parent_target_lens_and_fractions(scene):
    camera = scene.camera
    key(camera, "location", 1, 4.5)
    key(camera, "hide_viewport", 9)
    key(camera.data, "lens", 7)
    key(camera.data, "show_passepartout", 10)
    camera.parent = empty("Dolly")
    key(camera.parent, "location", 2)
    camera.parent.parent = empty("Crane")
    key(camera.parent.parent, "rotation_euler", 3)
    target = empty("Aim")
    track = camera.constraints.new("TRACK_TO")
    track.target = target
    key(track, "influence", 6)
    follow = target.constraints.new("FOLLOW_PATH")
    path = bpy.data.objects.new("Path", bpy.data.curves.new("Path", "CURVE"))
    scene.collection.objects.link(path)
    follow.target = path
    key(path.data, "eval_time", 8)
    muted = camera.constraints.new("COPY_LOCATION")
    muted.target, muted.mute = empty("Unused"), True
    key(muted.target, "location", 11)
    shot = find_shots(scene)[0]
    assert find_keyframes(scene, shot, "camera")[3] == Fraction(9, 2)
    assert found(scene) == [1, 2, 3, 4.5, 6, 7, 8]


def test_what_is_no_camera_is_named(scene):
    scene.camera = empty("Aim")
    with pytest.raises(AnimaticError, match="'Aim' films the shot but is no camera: select a"):
        found(scene)
    assert found(scene, "objects") == []
    scene.timeline_markers.new("Cut", frame=5).camera = add_camera("Other")
    assert found(scene) == [5]  # the active one films nothing then


def test_only_the_bones_that_carry_the_camera_count(scene):
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bones = [rig.data.edit_bones.new(name) for name in ("Root", "Hand", "Foot")]
    for bone in bones:
        bone.tail = (0, 0, 1)
    bones[1].parent = bones[0]
    bpy.ops.object.mode_set(mode="OBJECT")
    for frame, name in enumerate(("Root", "Hand", "Foot"), start=1):
        key(rig.pose.bones[name], "location", frame)
    scene.camera.parent, scene.camera.parent_type = rig, "BONE"
    scene.camera.parent_bone = "Hand"
    assert found(scene) == [1, 2]


def test_what_a_driver_reads(scene):
    controls = empty("Controls")
    controls["zoom"] = 50.0
    key(controls, '["zoom"]', 5, 8)
    key(controls, "location", 3)
    variable = scene.camera.data.driver_add("lens").driver.variables.new()
    variable.targets[0].id, variable.targets[0].data_path = controls, '["zoom"]'
    assert found(scene) == [5, 8]


def test_nla_strips_with_offset_scale_repeat_and_mute(scene):
    camera = scene.camera
    key(camera, "location", 0, 2)
    action = camera.animation_data.action
    slot = camera.animation_data.action_slot
    camera.animation_data.action = None

    def strip(start, **settings):
        made = camera.animation_data.nla_tracks.new().strips.new("Move", start, action)
        made.action_slot = slot
        for name, value in settings.items():
            setattr(made, name, value)
        return made

    strip(10, scale=1.5, repeat=2)
    strip(30, mute=True)
    assert found(scene) == [10, 13, 16]


def test_two_objects_share_an_action_by_slots(scene):
    camera, other = scene.camera, add_box("Other")
    key(camera, "location", 3)
    action = camera.animation_data.action
    other.animation_data_create().action = action
    other.animation_data.action_slot = action.slots.new("OBJECT", "Other")
    key(other, "location", 9)
    assert found(scene) == [3]
    assert found(scene, "objects") == [9]


def test_objects_with_armatures_shape_keys_and_hidden_ones(scene):
    box = add_box("Box")
    box.shape_key_add(name="Basis")
    key(box.shape_key_add(name="Smile"), "value", 2)
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    scene.collection.objects.link(rig)
    box.modifiers.new("Rig", "ARMATURE").object = rig
    key(rig, "location", 4)
    hidden = add_box("Hidden")
    hidden.hide_render = True
    key(hidden, "location", 6)
    blinking = add_box("Blinking")
    key(blinking, "hide_render", 7)
    key(scene.camera, "location", 1)
    assert found(scene, "objects") == [2, 4, 7]


def test_markers_and_time_remapping(scene):
    scene.timeline_markers.new("Beat", frame=7)
    key(scene.camera, "location", 4)
    scene.render.frame_map_old, scene.render.frame_map_new = 100, 200
    assert found(scene, "markers") == [14]
    assert found(scene) == [8]


@pytest.mark.parametrize("remapping", [(100, 100), (100, 200), (90, 100), (200, 100)])
def test_cuts_come_where_blender_switches(scene, remapping):
    scene.frame_end = 30
    scene.render.frame_map_old, scene.render.frame_map_new = remapping
    markers = (("D", 12), ("B", 5), ("A", 3), ("Second on its frame", 5), ("C", 6))
    for name, frame in markers:
        scene.timeline_markers.new(name, frame=frame).camera = add_camera(name)
    shots, cuts = find_shots(scene), camera_cuts(scene)
    for frame in range(1, 31):
        scene.frame_set(frame)
        assert cuts.camera_at(frame) == scene.camera
        (filming,) = [shot for shot in shots if shot.start <= frame <= shot.end]
        assert filming.name == filming.camera == scene.camera.name


def test_shots_begin_at_camera_markers(scene):
    second, hidden = add_camera("Second"), add_camera("Hidden")
    key(scene.camera, "location", 2)
    key(second, "location", 9)
    hidden.hide_render = True
    for name, frame, camera in (("B", 8, second), ("A", 3, scene.camera), ("C", 10, hidden)):
        scene.timeline_markers.new(name, frame=frame).camera = camera
    scene.timeline_markers.new("Beat", frame=5)
    shots = find_shots(scene)
    assert [(s.name, s.start, s.end, s.camera) for s in shots] == [
        ("A", 1, 7, "Camera"),
        ("B", 8, 12, "Second"),
    ]
    assert found(scene, shot=0) == [2, 3, 8]
    assert found(scene, shot=1) == [3, 8, 9]
    assert choose_shot(shots, "B", None)[0] == shots[1]
    assert choose_shot(shots, "2", None)[0] == shots[1]
    assert choose_shot(shots, None, (9, 11))[0].camera == "Second"
    assert "this is the first" in choose_shot(shots, None, None)[1]
    with pytest.raises(AnimaticError, match="no shot 'D'"):
        choose_shot(shots, "D", None)


def test_the_preview_range_bounds_a_shot(scene):
    scene.use_preview_range = True
    scene.frame_preview_start, scene.frame_preview_end = 3, 6
    assert [(s.start, s.end) for s in find_shots(scene)] == [(3, 6)]
    scene.camera = None
    assert find_shots(scene) == []
