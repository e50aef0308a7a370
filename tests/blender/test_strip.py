"""Takes as strips: on the right scene frames, unchanged, and nothing else touched."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import bpy
import numpy as np
import pytest
from animatic.blender_addon.scene import compat
from animatic.blender_addon.scene.movie import write_video
from animatic.blender_addon.scene.strip import place_takes
from animatic.blender_addon.scene.strip_kind import replace_strip
from animatic.blender_addon.shot.timing import plan_clip, scene_rate

from .conftest import add_box, emission, run_child, save
from .rna_dump import dump_file
from .strips_made import FILM, clip_colour, make_takes, render, shot_of


def place(tmp_path, scene, timing, blend):
    """Run the strip task and return its result; ``out/shot.blend`` is then open."""
    out = tmp_path / "out"
    task = {
        "task": "strip",
        "blend": blend,
        "out_blend": out / "shot.blend",
        "shot": shot_of(scene, timing),
        "takes": make_takes(out, timing.frames),
    }
    made = run_child(tmp_path, **task)
    assert made.code == 0, made.output
    moved = tmp_path / "published"
    out.rename(moved)  # as the finished folder is
    bpy.ops.wm.open_mainfile(filepath=str(moved / "shot.blend"), load_ui=True)
    assert sorted(path.name for path in moved.iterdir()) == ["shot.blend", "takes"]
    return made.result


@pytest.mark.parametrize(("fps", "base"), [(24, 1.0), (24, 1.001)])
def test_each_frame_is_on_screen_when_timing_says(scene, tmp_path, fps, base):
    scene.render.fps, scene.render.fps_base = fps, base
    scene.render.resolution_x, scene.render.resolution_y = FILM
    timing = plan_clip(5, 22, scene_rate(fps, base), 8, Fraction(8))
    result = place(tmp_path, scene, timing, save(tmp_path / "source.blend"))
    assert result["strips"] == [
        {"name": "Shot Take 1", "channel": 2},
        {"name": "Shot Take 2", "channel": 3},
    ]
    edit = bpy.data.scenes[result["scene"]]
    assert (edit.frame_start, edit.frame_end) == (5, 22)
    assert (edit.render.fps, edit.render.fps_base) == (fps, pytest.approx(base))
    strips = {strip.name: strip for strip in edit.sequence_editor.strips}
    assert not strips["Shot Take 1"].mute
    assert strips["Shot Take 2"].mute
    assert strips["Shot Take 1"].directory.startswith("//takes/1")
    # the borders between clip frames, where a rate that is slightly off would show
    borders = [f for f in range(6, 23) if timing.clip_frame_at(f) != timing.clip_frame_at(f - 1)]
    frames = sorted({5, 22, *borders[:2], *(border - 1 for border in borders[-2:])})
    for frame in frames:
        picture = render(edit.name, frame, tmp_path / "seen.png")
        assert picture.shape == (72, 128, 3)
        expected = clip_colour(timing.clip_frame_at(frame))
        assert np.abs(picture[36, 64] - expected).max() <= 1
    # stretched to the frame: the white corners are the film's corners
    assert (picture[[0, 0, -1, -1], [0, -1, 0, -1]] >= 254).all()
    assert np.abs(picture[36, [0, -1]] - expected).max() <= 1
    edit.sequence_editor.strips["Shot Take 1"].mute, strips["Shot Take 2"].mute = True, False
    second = render(edit.name, frame, tmp_path / "seen.png")
    assert np.abs(second[36, 64] - clip_colour(timing.clip_frame_at(frame), 1)).max() <= 1


@pytest.fixture
def nasty(scene, tmp_path):
    """What artists' files hold: layers, rigs, drivers, nodes, links, and an edit of their own."""
    library = bpy.data.collections.new("Props")
    add_box("Prop", (2, 0, 0), collection=library)
    assets = tmp_path / "assets"
    assets.mkdir()
    bpy.data.libraries.write(str(assets / "props.blend"), {library})
    bpy.data.objects.remove(library.objects[0])
    bpy.data.collections.remove(library)
    folder = tmp_path / "project"
    folder.mkdir()
    save(folder / "nasty.blend")
    with bpy.data.libraries.load("//../assets/props.blend", link=True) as (_, wanted):
        wanted.collections = ["Props"]
    scene.collection.children.link(wanted.collections[0])
    scene.name = "Main"
    scene.render.resolution_x, scene.render.resolution_y = FILM
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 1
    scene.cycles.use_denoising = False
    scene.view_settings.view_transform, scene.view_settings.exposure = "AgX", 0.7
    scene.frame_end = 12
    scene.timeline_markers.new("Cut", frame=3).camera = scene.camera
    box = add_box("Box", (0, 0, 0), (2, 2, 2))
    box.data.materials.append(emission("Lamp", (0.2, 0.5, 0.9)))
    box.shape_key_add(name="Basis")
    box.shape_key_add(name="Wide").value = 0.5
    box.keyframe_insert("location", frame=1)
    box.select_set(True)
    driver = box.driver_add("rotation_euler", 2).driver
    driver.variables.new().targets[0].id = scene.camera
    driver.variables[0].targets[0].data_path = "location.z"
    driver.expression = "var / 3"
    box.modifiers.new("Bevel", "BEVEL").width = 0.2
    scene.view_layers.new("Second").use = False
    for tree in (compositing(scene),):
        tree.nodes.new("CompositorNodeRLayers").location = (10, 20)
    frames = make_takes(tmp_path / "footage", 2, 1)[0]
    own = compat.new_image_strip(scene, "My cut", [Path(frame) for frame in frames], 3, 2)
    own.mute = True
    own.directory = "//../footage/takes/1/"
    other = bpy.data.scenes.new("Other")
    other.world = bpy.data.worlds.new("World")
    other.render.fps = 30
    scene.frame_set(7)
    save(folder / "nasty.blend")
    return folder / "nasty.blend"


def compositing(scene):
    if hasattr(scene, "compositing_node_group"):
        scene.compositing_node_group = bpy.data.node_groups.new("Comp", "CompositorNodeTree")
        return scene.compositing_node_group
    scene.use_nodes = True
    return scene.node_tree


def test_nothing_else_of_the_artists_file_changes(nasty, tmp_path):
    before = nasty.read_bytes()
    bpy.ops.wm.open_mainfile(filepath=str(nasty), load_ui=True)
    scene = bpy.data.scenes["Main"]
    scene.render.use_compositing = False
    own = render("Main", 5, tmp_path / "own.png")
    bpy.ops.wm.open_mainfile(filepath=str(nasty), load_ui=True)
    expected = dump_file()
    assert len(expected) > 2000
    timing = plan_clip(1, 12, Fraction(24), 4, Fraction(8))
    result = place(tmp_path, bpy.data.scenes["Main"], timing, nasty)
    assert result["scene"] == "Main Edit"
    found = dump_file()
    edit = "scenes[Main Edit]"
    changed = {
        key: (expected.get(key), found.get(key))
        for key in expected.keys() | found.keys()
        if expected.get(key) != found.get(key) and not key.startswith(edit)
    }
    assert changed == {}
    assert bpy.context.scene.name == "Main"
    assert bpy.data.objects["Prop"].library is not None
    for workspace in bpy.data.workspaces:
        if hasattr(workspace, "sequencer_scene"):
            assert workspace.sequencer_scene.name == "Main Edit"
    scene = bpy.data.scenes["Main"]
    scene.render.use_compositing = False
    assert np.array_equal(render("Main", 5, tmp_path / "after.png"), own)
    assert nasty.read_bytes() == before


def test_a_second_run_on_its_own_result_stacks_its_takes_above(scene, tmp_path):
    timing = plan_clip(1, 12, Fraction(24), 4, Fraction(8))
    first = place(tmp_path, scene, timing, save(tmp_path / "source.blend"))
    again = tmp_path / "again"
    again.mkdir()
    second = place(again, bpy.data.scenes["Scene"], timing, tmp_path / "published" / "shot.blend")
    assert first["scene"] == "Scene Edit"
    assert second["scene"] == "Scene Edit"
    assert [strip["channel"] for strip in second["strips"]] == [4, 5]
    strips = bpy.data.scenes["Scene Edit"].sequence_editor.strips
    assert [strip.channel for strip in strips if not strip.mute] == [4], "the newest alone is seen"


@pytest.mark.parametrize("span", [(60, 80), (10, 20), (-30, -20)])
def test_a_scene_strip_lies_on_its_span_whatever_the_scene_s_range(scene, span):
    scene.frame_start, scene.frame_end = 5, 50
    edit = bpy.data.scenes.new("Edit")
    strip = compat.new_scene_strip(edit, "Render", scene, 1, span)
    assert compat.strip_range(strip) == (span[0], span[1] + 1)
    assert compat.content_start(strip) == 5


def test_what_animates_a_strip_animates_the_one_in_its_place(scene, tmp_path):
    timing = plan_clip(1, 4, Fraction(24), 4, Fraction(24))
    files = [Path(file) for file in make_takes(tmp_path, 4, 1)[0]]
    movie = tmp_path / "{braces}.mp4"
    write_video(files, Fraction(24), movie)
    edit, (strip,) = place_takes(scene, shot_of(scene, timing), [files])
    strip.name = name = 'A "quoted" \\ name'
    for frame, alpha in ((1, 0.2), (4, 0.8)):
        strip.blend_alpha = alpha
        strip.keyframe_insert("blend_alpha", frame=frame)
    strip.transform.driver_add("offset_x").driver.expression = "2 * frame"
    bpy.context.window.scene = edit
    for kind, source in (("MOVIE", movie), ("IMAGE", None)):
        strip = replace_strip(edit, strip, files, shot_of(scene, timing), source)
        assert (strip.type, strip.name) == (kind, name)
        edit.frame_set(1)
        graph = bpy.context.evaluated_depsgraph_get()
        shown = edit.evaluated_get(graph).sequence_editor.strips[name]
        assert shown.blend_alpha == pytest.approx(0.2)
        assert shown.transform.offset_x == 2


def test_missing_frames_are_said(scene, tmp_path):
    timing = plan_clip(1, 12, Fraction(24), 4, Fraction(8))
    takes = make_takes(tmp_path, 4, 1)
    Path(takes[0][2]).unlink()
    made = run_child(
        tmp_path,
        task="strip",
        blend=save(tmp_path / "source.blend"),
        out_blend=tmp_path / "shot.blend",
        shot=shot_of(scene, timing),
        takes=takes,
    )
    assert made.code == 1
    assert "lacks the files 0003.png" in made.result["error"]
    assert not (tmp_path / "shot.blend").exists()
