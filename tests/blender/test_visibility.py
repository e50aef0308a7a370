"""What counts as a surface in guides: one rule, for both methods and at each time."""

from __future__ import annotations

from fractions import Fraction

import bpy
import numpy as np
import pytest
from animatic.blender_addon.scene import depth_guide
from animatic.blender_addon.scene.visibility import warn_of_displacement

from .conftest import add_box, material, middle, run_child, save


def transparent(name):
    return material(name, "ShaderNodeBsdfTransparent")


def fog(name):
    return material(name, "ShaderNodeVolumePrincipled", "Volume")


def hidden_things(scene):
    """Boxes of one column each in front of a floor; returns x and the Z seen there."""
    add_box("Floor", (0, 0, -0.5), (40, 40, 1))  # its top is 10 away
    seen = {}

    def column(index, z):
        x = (index - 4.5) * 0.7
        seen[index] = (x, z)
        return x

    add_box("Glass", (column(0, 7), 0, 2.5)).data.materials.append(transparent("Glass"))
    add_box("Fog", (column(1, 10), 0, 2.5)).data.materials.append(fog("Fog"))
    add_box("Hidden", (column(2, 10), 0, 2.5)).hide_render = True
    add_box("Unseen", (column(3, 10), 0, 2.5)).visible_camera = False
    add_box("Holdout", (column(4, 10), 0, 2.5)).is_holdout = True
    wire = add_box("Wire", (column(5, 7), 0, 2.5))
    wire.display_type = "WIRE"
    wire.is_shadow_catcher = True
    excluded = bpy.data.collections.new("Excluded")
    scene.collection.children.link(excluded)
    add_box("Left Out", (column(6, 10), 0, 2.5), collection=excluded)
    bpy.context.view_layer.layer_collection.children["Excluded"].exclude = True
    inside = bpy.data.collections.new("Instanced")
    add_box("Member", (0, 0, 2.5), collection=inside)
    add_box("Member Fog", (0, 0, 4.5), collection=inside).data.materials.append(fog("Fog 2"))
    instancer = bpy.data.objects.new("Instancer", None)
    instancer.instance_type, instancer.instance_collection = "COLLECTION", inside
    instancer.location.x = column(7, 7)
    scene.collection.objects.link(instancer)
    stacked = add_box("Array", (column(8, 6), 0, 2.5))
    array = stacked.modifiers.new("Array", "ARRAY")
    array.count, array.relative_offset_displace = 2, (0, 0, 1)
    bend_by_armature(scene, column(9, 5))
    return seen


def bend_by_armature(scene, x):
    """A box that a pose raises from Z 7 to Z 5."""
    box = add_box("Skinned", (x, 0, 2.5))
    armature = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    armature.location = (x, 0, 2.5)
    scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    bone = armature.data.edit_bones.new("Bone")
    bone.tail = (0, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    box.vertex_groups.new(name="Bone").add(range(8), 1.0, "ADD")
    box.modifiers.new("Rig", "ARMATURE").object = armature
    armature.pose.bones["Bone"].location = (0, 2, 0)  # along the bone, which points up


def test_both_methods_keep_the_rule_of_what_counts(scene, stage, method):
    scene.camera.data.type, scene.camera.data.ortho_scale = "ORTHO", 7
    scene.render.resolution_x, scene.render.resolution_y = 70, 10
    seen = hidden_things(scene)
    made = stage(280, 40)
    depth_guide.prepare_depth(made, method)
    made.go_to(Fraction(1))
    row = depth_guide.measure_z(made)[20]
    found = {index: float(row[round((x / 7 + 0.5) * 280)]) for index, (x, _) in seen.items()}
    assert found == pytest.approx({index: z for index, (_, z) in seen.items()}, rel=1e-3)


def test_view_layers_are_merged(scene, stage):
    front = bpy.data.collections.new("Front")
    scene.collection.children.link(front)
    spare = bpy.data.collections.new("Spare")
    scene.collection.children.link(spare)
    spare.children.link(front)
    spare.objects.link(add_box("Back", (-1, 0, 0), (1, 1, 2)))
    add_box("Front", (1, 0, 1), (1, 1, 2), front)
    scene.view_layers[0].layer_collection.children["Spare"].exclude = True
    second = scene.view_layers.new("Second")
    left_out = second.layer_collection.children["Spare"]
    left_out.exclude = True
    left_out.children["Front"].exclude = False  # though it lies in one that every layer excludes
    unused = scene.view_layers.new("Unused")
    unused.use = False
    made = stage()
    depth_guide.prepare_depth(made, "cycles")
    made.go_to(Fraction(1))
    z = depth_guide.measure_z(made)
    assert z[32, 23] == pytest.approx(9, rel=1e-3)
    assert z[32, 42] == pytest.approx(8, rel=1e-3)


def test_linked_objects_keep_the_rule_too(scene, stage, tmp_path):
    props = bpy.data.collections.new("Props")
    add_box("Prop", (-1, 0, 1.5), collection=props).is_shadow_catcher = True
    add_box("Prop Fog", (1, 0, 1.5), collection=props).data.materials.append(fog("Fog"))
    bpy.data.libraries.write(str(tmp_path / "props.blend"), {props})
    bpy.data.collections.remove(props)
    with bpy.data.libraries.load(str(tmp_path / "props.blend"), link=True) as (_, wanted):
        wanted.collections = ["Props"]
    scene.collection.children.link(wanted.collections[0])
    made = stage()
    depth_guide.prepare_depth(made, "cycles")
    made.go_to(Fraction(1))
    z = depth_guide.measure_z(made)
    assert z[32, 22] == pytest.approx(8, rel=1e-3)
    assert not np.isfinite(z[32, 42])


@pytest.mark.parametrize("path", ["visible_camera", "is_holdout"])
@pytest.mark.parametrize("hiding", ["still", "keyed"])
def test_an_animated_sight_decides_at_its_time(scene, stage, method, path, hiding):
    add_box("Ground", (0, 0, -0.5), (50, 50, 1))
    box = add_box("Box", (0, 0, 1.5), (3, 3, 1))  # its top is 8 away
    for number, seen in ((1, False), (2, True), (3, False), (4, True)):
        setattr(box, path, seen == (path == "visible_camera"))
        box.keyframe_insert(path, frame=number)
    if hiding == "keyed":
        for number, hidden in ((1, False), (4, True)):
            box.hide_render = hidden
            box.keyframe_insert("hide_render", frame=number)
    scene.frame_set(1)
    made = stage()
    depth_guide.prepare_depth(made, method)
    last = 8 if hiding == "still" else 10
    for number, z in ((1, 10), (2, 8), (3, 10), (4, last), (2, 8)):
        made.go_to(Fraction(number))
        assert middle(depth_guide.measure_z(made)) == pytest.approx(z, rel=1e-3)


def test_in_front_is_a_matter_of_the_viewport(scene, stage, method):
    add_box("Ground", (0, 0, -0.5), (50, 50, 1)).show_in_front = True
    add_box("Box", (0, 0, 1.5), (3, 3, 1))
    made = stage()
    depth_guide.prepare_depth(made, method)
    made.go_to(Fraction(1))
    z = depth_guide.measure_z(made)
    assert middle(z) == pytest.approx(8, rel=1e-3)
    assert z[2, 2] == pytest.approx(10, rel=1e-3)


@pytest.mark.parametrize("flag", ["holdout", "indirect_only"])
def test_a_collection_that_is_left_out_keeps_its_children_and_instances(scene, stage, method, flag):
    outer, inner = bpy.data.collections.new("Outer"), bpy.data.collections.new("Inner")
    plain = bpy.data.collections.new("Plain")
    scene.collection.children.link(outer)
    scene.collection.children.link(plain)
    outer.children.link(inner)
    add_box("Own", (0, 0, 0), (1, 1, 2), outer)
    plain.objects.link(add_box("Both", (0, 2, 0), (1, 1, 2), outer))
    add_box("Nested", (-2, -2, 0), (1, 1, 2), inner)
    instancer = bpy.data.objects.new("Instancer", None)
    instancer.instance_type, instancer.instance_collection = "COLLECTION", outer
    instancer.location.x = 2
    scene.collection.objects.link(instancer)
    setattr(scene.view_layers[0].layer_collection.children["Outer"], flag, True)
    made = stage()
    depth_guide.prepare_depth(made, method)
    made.go_to(Fraction(1))
    z = depth_guide.measure_z(made)
    left, right = z[32 + 20, 32 - 20], z[32, 32 + 20]
    assert (left, right) == pytest.approx((9, 9), rel=1e-3)
    assert not np.isfinite(middle(z))  # itself
    assert not np.isfinite(z[32 - 20, 32])  # though another collection has it, too


def test_assets_that_are_only_indirect_show_where_they_are_instanced(scene, stage, method):
    assets = bpy.data.collections.new("Assets")
    scene.collection.children.link(assets)
    add_box("Asset", (-2, 0, 0), (1, 1, 2), assets)
    instancer = bpy.data.objects.new("Instancer", None)
    instancer.instance_type, instancer.instance_collection = "COLLECTION", assets
    instancer.location.x = 2
    scene.collection.objects.link(instancer)
    scene.view_layers[0].layer_collection.children["Assets"].indirect_only = True
    made = stage()
    depth_guide.prepare_depth(made, method)
    made.go_to(Fraction(1))
    z = depth_guide.measure_z(made)
    assert middle(z) == pytest.approx(9, rel=1e-3)
    assert not np.isfinite(z[32, 32 - 20])


@pytest.mark.parametrize("place", ["action", "strip"])
def test_what_shares_its_keys_with_a_fog_box_keeps_them(scene, stage, place):
    box = add_box("Fog", (-2, 0, 0), (1, 1, 2))
    box.data.materials.append(fog("Fog"))
    for number, hidden in ((1, True), (2, False)):
        box.hide_render = hidden
        box.keyframe_insert("hide_render", frame=number)
    animation = box.animation_data
    action, slot = animation.action, animation.action_slot
    animation.action = None
    for each in (box, add_box("Prop", (2, 0, 0), (1, 1, 2))):
        own = each.animation_data_create()
        if place == "strip":
            own = own.nla_tracks.new().strips.new("Keys", 1, action)
        else:
            own.action = action
        own.action_slot = slot
    scene.frame_set(1)
    made = stage()
    depth_guide.prepare_depth(made, "cycles")
    for number, shown in ((1, False), (2, True)):
        made.go_to(Fraction(number))
        z = depth_guide.measure_z(made)
        assert np.isfinite(z[32, 32 + 20]) == shown
        assert not np.isfinite(z[32, 32 - 20])


def test_a_box_that_nodes_fill_with_fog_is_no_surface(scene, stage):
    box = add_box("Fog", (0, 0, 0), (1, 1, 2))
    group = bpy.data.node_groups.new("Fill", "GeometryNodeTree")
    for in_out in ("INPUT", "OUTPUT"):
        group.interface.new_socket("Mesh", in_out=in_out, socket_type="NodeSocketGeometry")
    start, end = group.nodes.new("NodeGroupInput"), group.nodes.new("NodeGroupOutput")
    fill = group.nodes.new("GeometryNodeSetMaterial")
    fill.inputs["Material"].default_value = fog("Fog")
    group.links.new(start.outputs[0], fill.inputs[0])
    group.links.new(fill.outputs[0], end.inputs[0])
    box.modifiers.new("Fill", "NODES").node_group = group
    made = stage()
    depth_guide.prepare_depth(made, "cycles")
    made.go_to(Fraction(1))
    assert not np.isfinite(middle(depth_guide.measure_z(made)))


def test_displacement_by_a_material_is_told(scene):
    ground = add_box("Ground")
    made = material("Waves", "ShaderNodeDisplacement", "Displacement")
    ground.data.materials.append(made)
    made.displacement_method = "BUMP"
    assert warn_of_displacement(scene) is None
    made.displacement_method = "BOTH"
    assert "displaces the surface of 'Ground'" in warn_of_displacement(scene)


def test_drawings_that_depth_and_lines_leave_out_are_named(scene, tmp_path):
    add_box("Floor", (0, 0, -0.5), (4, 4, 1))
    add_box("Post", (1, 0, 1), (1, 1, 2))
    bpy.ops.object.grease_pencil_add(type="STROKE", location=(0, 0, 1))
    bpy.context.object.name = "Sketch"
    bpy.ops.object.grease_pencil_add(type="STROKE")
    bpy.context.object.name, bpy.context.object.hide_render = "Hidden", True
    blend = save(tmp_path / "sketch.blend")
    for guide in ("depth", "lineart"):
        made = run_child(tmp_path, blend=blend, guide=guide, keyframes="1")
        assert made.code == 0, made.output
        (told,) = made.result["warnings"]
        assert "leave out the Grease Pencil drawings 'Sketch': use the Render guide" in told
