"""Simulations that are not baked are played before a guide is made."""

from __future__ import annotations

from fractions import Fraction

import bpy
import numpy as np
import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.scene.depth_guide import measure_z, prepare_depth
from animatic.blender_addon.scene.simulations import play_simulations

from .conftest import add_box, middle


def falling(name):
    box = add_box(name, (0, 0, 3), (4, 4, 1))
    bpy.ops.rigidbody.world_add()
    with bpy.context.temp_override(object=box, active_object=box, selected_objects=[box]):
        bpy.ops.rigidbody.object_add()
    return box


def test_a_falling_body_is_where_the_simulation_puts_it(scene, stage):
    falling("Body")
    frames = []
    note = play_simulations(scene, Fraction(21, 2), lambda done, of: frames.append((done, of)))
    assert "rigid bodies" in note
    assert frames[-1] == (11, 11)
    made = stage()
    prepare_depth(made, "cycles")
    z = {}
    for time in (Fraction(10), Fraction(4), Fraction(1)):  # also backwards
        made.go_to(time)
        z[time] = middle(measure_z(made))
    fallen = 0.5 * 9.81 * (9 / 24) ** 2
    assert z[1] == pytest.approx(6.5, abs=0.01)
    assert z[10] - z[1] == pytest.approx(fallen, rel=0.25)
    assert z[1] < z[4] < z[10]


def test_simulation_nodes_are_played(scene, stage):
    box = add_box("Grower", (0, 0, 0), (4, 4, 1))
    group = bpy.data.node_groups.new("Rise", "GeometryNodeTree")
    for direction in ("INPUT", "OUTPUT"):
        group.interface.new_socket("Geometry", in_out=direction, socket_type="NodeSocketGeometry")
    nodes, links = group.nodes, group.links
    begin, end = nodes.new("NodeGroupInput"), nodes.new("NodeGroupOutput")
    first = nodes.new("GeometryNodeSimulationInput")
    last = nodes.new("GeometryNodeSimulationOutput")
    first.pair_with_output(last)
    rise = nodes.new("GeometryNodeTransform")
    rise.inputs["Translation"].default_value = (0, 0, 0.25)
    links.new(begin.outputs["Geometry"], first.inputs["Geometry"])
    links.new(first.outputs["Geometry"], rise.inputs["Geometry"])
    links.new(rise.outputs["Geometry"], last.inputs["Geometry"])
    links.new(last.outputs["Geometry"], end.inputs["Geometry"])
    box.modifiers.new("Rise", "NODES").node_group = group
    assert "'Rise' of 'Grower'" in play_simulations(scene, Fraction(9), lambda *_: None)
    made = stage()
    prepare_depth(made, "cycles")
    made.go_to(Fraction(9))
    late = middle(measure_z(made))
    made.go_to(Fraction(5))
    assert middle(measure_z(made)) - late == pytest.approx(4 * 0.25, rel=1e-3)


def test_a_cache_on_disk_is_refused_and_nothing_is_played_without_a_simulation(scene, tmp_path):
    assert play_simulations(scene, Fraction(9), lambda *_: None) is None
    cloth = add_box("Flag").modifiers.new("Cloth", "CLOTH")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "flag.blend"))
    cloth.point_cache.use_disk_cache = True
    with pytest.raises(AnimaticError, match="keeps its cache on disk"):
        play_simulations(scene, Fraction(9), lambda *_: None)
    assert np.array_equal([path.name for path in tmp_path.iterdir()], ["flag.blend"])
