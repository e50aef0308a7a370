"""What Freestyle and Workbench cannot show as the rule has it is told, or not left to them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import bpy
import numpy as np
import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.scene import depth_guide
from animatic.blender_addon.scene.engine_limits import names_of
from animatic.blender_addon.scene.gl_probe import can_render_with_gl
from animatic.blender_addon.scene.lineart_guide import render_lineart

from .conftest import add_box, material, run_child, save

needs_gl = pytest.mark.skipif(not can_render_with_gl(), reason="no OpenGL here for Workbench")


def add_hair(name, x=0.0, collection=None):
    """Ten curves that stand on the ground in a row."""
    hair = bpy.data.hair_curves.new(name)
    hair.add_curves([2] * 10)
    points = [(0, 0.1 * i, z) for i in range(10) for z in (0, 1)]
    hair.position_data.foreach_set("vector", np.array(points, np.float32).ravel())
    made = bpy.data.objects.new(name, hair)
    made.location.x = x
    (collection or bpy.context.scene.collection).objects.link(made)
    return made


def add_fur(ob, **settings):
    fur = ob.modifiers.new("Fur", "PARTICLE_SYSTEM")
    made = fur.particle_system.settings
    made.type, made.count, made.render_type = "HAIR", 20, "PATH"
    for name, value in settings.items():
        setattr(made, name, value)
    return fur


def add_nodes(ob, *kinds):
    """Run the geometry of ``ob`` through nodes of ``kinds``; return them."""
    tree = bpy.data.node_groups.new("Nodes", "GeometryNodeTree")
    for in_out in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=in_out, socket_type="NodeSocketGeometry")
    row = [tree.nodes.new(kind) for kind in ("NodeGroupInput", *kinds, "NodeGroupOutput")]
    for before, after in pairwise(row):
        tree.links.new(before.outputs[0], after.inputs[0])
    ob.modifiers.new("Nodes", "NODES").node_group = tree
    return row[1:-1]


def scatter(by, source, where=(0, 0, 0)):
    """Scatter ``source`` over the top and bottom of a plate, whose top is 10 away."""
    plate = add_box("Plate", where, (3, 3, 0.1))
    if by == "particles":
        how = {"use_advanced_hair": True, "particle_size": 1, "instance_object": source}
        add_fur(plate, render_type="OBJECT", **how)
        return plate
    (instances,) = add_nodes(plate, "GeometryNodeInstanceOnPoints")
    tree = instances.id_data
    info = tree.nodes.new("GeometryNodeObjectInfo")
    info.inputs["Object"].default_value = source
    info.inputs["As Instance"].default_value = True
    tree.links.new(info.outputs["Geometry"], instances.inputs["Instance"])
    return plate


def add_fog(uncounted="fog"):
    """A box out of view that does not count, for one of the reasons there are."""
    box = add_box("Source", (50, 0, 0), (0.8, 0.8, 0.8))
    if uncounted == "fog":
        box.data.materials.append(material("Fog", "ShaderNodeVolumePrincipled", "Volume"))
    elif uncounted == "unseen":
        box.visible_camera = False
    else:
        assert uncounted == "solid"
    return box


def add_ground():
    """A ground 15 away, and a step 12 away beside it."""
    add_box("Ground", (0, 0, -5.5), (50, 50, 1))
    add_box("Step", (-25, 0, -3.5), (48, 50, 3))


def lines(stage, *times):
    pictures, warnings = render_lineart(
        stage(), [Fraction(time) for time in times or (1,)], 1.5, lambda *_: None
    )
    return pictures, warnings


def depth(stage, wish, *times):
    times = [Fraction(time) for time in times or (1,)]
    return depth_guide.render_depth(stage(), times, range(len(times)), wish, lambda *_: None)


def test_hair_and_points_that_lines_lack_are_told(scene, tmp_path):
    add_hair("Hair")
    add_fur(add_box("Fur", (2, 0, 0)))
    cloud = add_box("Cloud", (-2, 0, 0))
    add_nodes(cloud, "GeometryNodeMeshToPoints")
    inside = bpy.data.collections.new("Instanced")
    add_hair("Member", collection=inside)
    instancer = bpy.data.objects.new("Instancer", None)
    instancer.instance_type, instancer.instance_collection = "COLLECTION", inside
    scene.collection.objects.link(instancer)
    bare = add_box("Bare Fur", (2, 2, 0))
    add_fur(bare)
    bare.show_instancer_for_render = False
    blend = save(tmp_path / "hair.blend")
    made = run_child(tmp_path, blend=blend, guide="lineart", keyframes="1")
    assert made.code == 0, made.output
    (warning,) = made.result["warnings"]
    assert "the hair or points of 'Bare Fur', 'Cloud', 'Fur', 'Hair', 'Member'," in warning
    assert "use depth guides, or convert them to meshes" in warning
    made = run_child(tmp_path, blend=blend, keyframes="1")
    assert not [warning for warning in made.result["warnings"] if "hair" in warning]


def test_hair_that_no_render_shows_is_not_told(scene, stage):
    add_box("Box")
    add_hair("Hidden", 1).hide_render = True
    add_hair("Unseen", 1).visible_camera = False
    left_out = bpy.data.collections.new("Left Out")
    scene.collection.children.link(left_out)
    add_hair("Excluded", 1, left_out)
    bpy.context.view_layer.layer_collection.children["Left Out"].exclude = True
    half_off = add_box("Half Off", (2, 0, 0))
    add_fur(half_off).show_render = False
    add_fur(half_off, render_type="NONE")
    add_fur(add_box("Shown As Objects", (-2, 0, 0)), render_type="NONE")
    add_nodes(add_hair("Made a Mesh", -1), "GeometryNodeCurveToMesh")
    _, warnings = lines(stage)
    assert warnings == []


def test_hair_is_told_at_the_times_of_the_guides(scene, stage):
    add_box("Box")
    hair = add_hair("Hair", 1)
    for number, hidden in ((1, True), (2, False)):
        hair.hide_render = hidden
        hair.keyframe_insert("hide_render", frame=number)
    assert lines(stage, 1)[1] == []
    scene.camera = bpy.data.objects["Camera"]
    assert "'Hair'" in lines(stage, 1, 2)[1][0]


def test_a_shot_of_nothing_but_hair_is_refused_with_its_reason(scene, stage):
    add_hair("Hair")
    with pytest.raises(AnimaticError, match=r"sees no edge .* hair or points of 'Hair'"):
        lines(stage)


def test_a_warning_names_five_at_most():
    assert names_of("abcde") == "'a', 'b', 'c', 'd', 'e'"
    assert names_of("gfedcba") == "'a', 'b', 'c', 'd', 'e' and 2 more"


@needs_gl
@pytest.mark.parametrize("by", ["nodes", "particles"])
@pytest.mark.parametrize("uncounted", ["fog", "unseen"])
def test_depth_leaves_out_what_is_scattered_without_counting(scene, stage, by, uncounted):
    add_ground()
    scatter(by, add_fog(uncounted))
    auto = depth(stage, "auto")
    assert (auto.method, auto.warnings) == ("cycles", [])
    scene.camera = bpy.data.objects["Camera"]
    theirs = depth(stage, "workbench")
    assert theirs.method == "workbench"
    (warning,) = theirs.warnings
    assert "Workbench shows as solid what particles or geometry nodes scatter" in warning
    assert "of 'Source'" in warning
    assert theirs.near < auto.near - 0.2


@needs_gl
def test_depth_looks_at_all_times_of_a_shot(scene, stage):
    add_ground()
    source = add_fog("solid")
    scatter("nodes", source)
    for number, seen in ((1, True), (2, False)):
        source.visible_camera = seen
        source.keyframe_insert("visible_camera", frame=number)
    scene.frame_set(1)
    assert depth(stage, "auto", 1).method == "workbench"
    scene.camera = bpy.data.objects["Camera"]
    assert depth(stage, "auto", 1, 2).method == "cycles"


@needs_gl
@pytest.mark.parametrize("why", ["solid", "hidden"])
def test_depth_stays_with_workbench_where_it_is_right(scene, stage, why):
    add_ground()
    add_box("Fog Box", (9, 0, 0)).visible_camera = False
    scatter("nodes", add_fog("solid" if why == "solid" else "fog")).hide_render = why == "hidden"
    add_fur(add_box("Fur", (2, 0, -3)), hair_length=0.5)
    made = depth(stage, "auto")
    assert (made.method, made.warnings) == ("workbench", [])


@pytest.mark.parametrize("by", ["nodes", "particles"])
def test_lines_of_what_is_scattered_without_counting_are_told(scene, stage, by):
    plate = add_box("Plate", (0, 0, 0), (3, 3, 0.1))
    (alone,), _ = lines(stage)
    bpy.data.objects.remove(plate)
    scene.camera = bpy.data.objects["Camera"]
    scatter(by, add_fog())
    (picture,), (warning,) = lines(stage)
    assert "Freestyle draws as solid what particles or geometry nodes scatter" in warning
    assert "of 'Source'" in warning
    assert "use depth guides" in warning
    assert ((picture > 0) & (alone == 0)).sum() > 100


def test_lines_of_what_is_scattered_and_counts_need_no_word(scene, stage):
    scatter("nodes", add_fog("solid"))
    assert lines(stage)[1] == []
