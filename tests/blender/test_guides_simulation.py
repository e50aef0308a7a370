"""Simulations that are not baked are played before a guide is made."""

from __future__ import annotations

import shutil
from fractions import Fraction

import bpy
import numpy as np
import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.scene.depth_guide import measure_z, prepare_depth
from animatic.blender_addon.scene.simulations import lend_caches, play_simulations
from animatic.blender_addon.ui.runs import SavedCopy

from .conftest import add_box, middle, run_child, save


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
    note = play_simulations(scene, Fraction(9), lambda *_: None)
    assert "'Rise' of 'Grower' (unless it is" in note
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
    cloth.point_cache.frame_start = 10  # after the last frame: nothing is played, nor written
    assert play_simulations(scene, Fraction(9), lambda *_: None) is None
    assert np.array_equal([path.name for path in tmp_path.iterdir()], ["flag.blend"])


@pytest.mark.parametrize("hidden", ["modifier", "object", "collection"])
def test_what_only_the_viewport_hides_is_played(scene, stage, hidden):
    kit = bpy.data.collections.new("Kit")
    scene.collection.children.link(kit)
    shown, other = add_box("Shown", (-1, 0, 0)), add_box("Other", (1, 0, 0), collection=kit)
    cloths = [sheet.modifiers.new("Cloth", "CLOTH") for sheet in (shown, other)]
    if hidden == "modifier":
        cloths[1].show_viewport = False
    else:
        {"object": other, "collection": kit}[hidden].hide_viewport = True
    play_simulations(scene, Fraction(10), lambda *_: None)
    made = stage()
    prepare_depth(made, "cycles")
    made.go_to(Fraction(10))
    z = measure_z(made)
    assert z[32, 23] > 9.7  # it fell
    assert z[32, 40] == pytest.approx(z[32, 23], abs=1e-3)


def test_smoke_that_is_not_baked_is_left_out_and_writes_nothing(scene, tmp_path):
    add_box("Ground", (0, 0, -0.5), (9, 9, 1))
    add_box("Post", (3, 0, 1), (1, 1, 2))
    scene.render.engine = "CYCLES"
    domain = add_box("Domain", (0, 0, 2), (2, 2, 2)).modifiers.new("Smoke", "FLUID")
    domain.show_viewport = False  # it would begin in here, and when the file is opened
    domain.fluid_type = "DOMAIN"
    domain.domain_settings.domain_type = "GAS"
    domain.domain_settings.cache_directory = "//cache"
    blend = save(tmp_path / "smoke.blend")
    for guide, told in (("render", 1), ("depth", 0)):
        made = run_child(tmp_path, blend=blend, guide=guide, keyframes="1,6")
        assert made.code == 0, made.output
        warnings = made.result["warnings"]
        assert sum("'Smoke' of 'Domain'" in warning for warning in warnings) == told
        assert not (tmp_path / "cache").exists()


def flag_baked_to_disk(blend):
    """A sheet that falls for 12 frames, baked to disk, in the file ``blend``; returns its cloth."""
    cloth = add_box("Flag", (0, 0, 3), (4, 4, 1)).modifiers.new("Cloth", "CLOTH")
    cloth.point_cache.frame_end = 12
    save(blend)
    cloth.point_cache.use_disk_cache = True
    with bpy.context.temp_override(point_cache=cloth.point_cache):
        bpy.ops.ptcache.bake(bake=True)
    assert cloth.point_cache.is_baked
    save(blend)
    return cloth


def test_a_copy_finds_what_is_baked_to_disk_and_its_end_leaves_that_alone(scene, tmp_path):
    blend = tmp_path / "flag.blend"
    add_box("Post", (1, 0, 7), (1, 1, 1))
    flag_baked_to_disk(blend)
    cache = tmp_path / "blendcache_flag"
    before = {file.name: file.read_bytes() for file in cache.iterdir()}
    assert len(before) >= 12
    copy = SavedCopy(1)
    copy.save()
    made = {}
    for name, file in (("own", blend), ("copy", copy.path)):
        made[name] = run_child(tmp_path, blend=file, keyframes="1,12", near=2, far=12)
        assert made[name].code == 0, made[name].output
        assert not made[name].result["warnings"]
    first, last = (guide["sha256"] for guide in made["copy"].result["guides"])
    assert first != last  # it falls
    assert made["copy"].result["guides"] == made["own"].result["guides"]
    copy.release()
    assert not copy.path.parent.exists()
    assert {file.name: file.read_bytes() for file in cache.iterdir()} == before

    shutil.move(cache, tmp_path / "elsewhere")
    still = run_child(tmp_path, blend=blend, keyframes="1,12", near=2, far=12).result
    assert any("cache is not there: 'Cloth' of 'Flag'." in told for told in still["warnings"])


@pytest.mark.parametrize("allowed", ["symlink", "link", "neither"])
def test_only_baked_caches_are_lent_and_none_is_written_through(
    scene, tmp_path, monkeypatch, allowed
):
    def refuse(*_):
        raise OSError("a privilege is not held")

    for way in ("symlink", "link"):
        if way != allowed:
            monkeypatch.setattr(f"os.{way}", refuse)
    flag_baked_to_disk(tmp_path / "flag.blend")
    cache = tmp_path / "blendcache_flag"
    baked = sorted(cache.iterdir())
    (cache / "4C6F6F7365_000001_00.bphys").touch()  # as a cache of the object Loose is called
    loose = add_box("Loose").modifiers.new("Cloth", "CLOTH")
    loose.point_cache.use_disk_cache = True
    copy = tmp_path / "copy" / "shot.blend"
    copy.parent.mkdir()
    lend_caches(copy)
    lent = sorted((copy.parent / "blendcache_shot").iterdir())
    assert [file.name for file in lent] == [file.name for file in baked]
    assert [file.read_bytes() for file in lent] == [file.read_bytes() for file in baked]
    assert all(file.is_symlink() == (allowed == "symlink") for file in lent)
    shutil.rmtree(copy.parent)
    assert all(file.is_file() for file in baked)
