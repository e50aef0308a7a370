"""The guides task as the command line runs it: results, sentences, exit codes."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys

import bpy
import numpy as np
import pytest
from animatic.blender_addon.scene.blend_file import open_blend, read_version
from animatic.blender_addon.shot.png import read_png

from .conftest import CHILD, add_box, add_camera, run_child, save


@pytest.fixture
def two_shots(scene, tmp_path):
    """A file of two shots at 23.976 frames per second, a scene without a camera, a linked one."""
    scene.name = "Linked"
    bpy.data.libraries.write(str(tmp_path / "library.blend"), {scene})
    add_box("Box", (0, 0, 0), (2, 2, 2))
    add_box("Ground", (0, 0, -2), (20, 20, 1))
    scene.name = "Main"
    scene.render.fps, scene.render.fps_base = 24, 1.001
    scene.render.resolution_x, scene.render.resolution_y = 128, 64
    scene.frame_end = 24
    close = add_camera("Close", (0, 0, 6))
    close.keyframe_insert("location", frame=14)
    close.keyframe_insert("location", frame=20)
    for name, frame, camera in (("Wide", 1, scene.camera), ("Close-up", 13, close)):
        scene.timeline_markers.new(name, frame=frame).camera = camera
    bpy.data.scenes.new("Empty")
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, wanted):
        wanted.scenes = ["Linked"]
    return save(tmp_path / "two.blend")


def test_lines_of_a_chosen_shot(two_shots, tmp_path):
    before = hashlib.sha256(two_shots.read_bytes()).hexdigest()
    made = run_child(tmp_path, blend=two_shots, guide="lineart", shot="2")
    assert made.code == 0, made.output
    result = made.result
    shot = result["shot"]
    assert (shot["name"], shot["camera"], shot["start"], shot["end"]) == (
        "Close-up",
        "Close",
        13,
        24,
    )
    assert shot["scene_fps"] == "24000/1001"
    assert shot["clip"] == {"frames": 4, "fps": "8", "width": 128, "height": 64}
    assert len(shot["frame_map"]) == 12
    assert [s["name"] for s in result["shots"]] == ["Wide", "Close-up"]
    assert [(k["asked"], k["clip_frame"]) for k in result["keyframes"]] == [
        ("13", 0),
        ("14", 0),
        ("20", 2),
    ]
    assert [k["kept"] for k in result["keyframes"]] == [True, False, True]
    for guide in result["guides"]:
        file = tmp_path / "guides" / guide["file"]
        assert guide["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        picture = read_png(file)
        assert (picture.shape, picture.dtype) == ((64, 128), np.uint8)
    assert result["source_sha256"] == before
    assert hashlib.sha256(two_shots.read_bytes()).hexdigest() == before
    assert result["blender"] == bpy.app.version_string
    thin = read_png(tmp_path / "guides" / "lineart_0001.png").sum()
    asked = {"guide": "lineart", "shot": "2", "keyframes": "13", "line_thickness": 2.0}
    thick = run_child(tmp_path, blend=two_shots, **asked).result
    assert thick["shot"]["guide_settings"] == {"line_thickness": 2.0}
    refused = run_child(tmp_path, blend=two_shots, **asked | {"line_thickness": 9.0}).result
    assert "thickness of the lines is 9" in refused["error"]
    assert 1.6 * thin < read_png(tmp_path / "guides" / "lineart_0001.png").sum() < 2.4 * thin


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"scene": "Nope"}, "no scene 'Nope' in this file. Its scenes: 'Empty', 'Main'."),
        ({"scene": "Linked"}, "is linked from library.blend"),
        (
            {"scene": "Empty"},
            "'Empty' has no camera: choose a scene that has one with --scene: Main.",
        ),
        ({"shot": "Three"}, "Its shots: 1 'Wide' (1 to 12), 2 'Close-up' (13 to 24)"),
        ({"keyframes": "2,40"}, "Outside the shot's frames 1 to 12: 40"),
        ({"keyframes": "objects"}, "No object has a key"),
    ],
)
def test_what_cannot_be_done_is_said(two_shots, tmp_path, task, sentence):
    made = run_child(tmp_path, blend=two_shots, **task)
    assert made.code == 1, made.output
    assert sentence in made.result["error"]
    assert "Traceback" not in made.output
    assert not (tmp_path / "guides").exists()


def test_it_ends_when_its_parent_does(two_shots, tmp_path):
    made = run_child(tmp_path, blend=two_shots)
    assert made.code == 0, made.output
    (tmp_path / "result.json").unlink()
    orphan = [sys.executable, str(CHILD), str(tmp_path / "task.json")]
    assert subprocess.run(orphan, stdin=subprocess.DEVNULL, timeout=60).returncode == 1
    assert not (tmp_path / "result.json").exists()


def test_files_that_are_no_blend(tmp_path):
    newer, garbage, cut = (tmp_path / name for name in ("new.blend", "bad.blend", "cut.blend"))
    newer.write_bytes(gzip.compress(b"BLENDER17-01v9903" + bytes(100)))
    assert read_version(newer) == (99, 3)
    made = run_child(tmp_path, blend=newer)
    assert made.code == 1
    assert "was saved by Blender 99.3" in made.result["error"]
    assert "--blender" in made.result["error"]
    garbage.write_text("not a blend")
    assert "is not a .blend file" in run_child(tmp_path, blend=garbage).result["error"]
    whole = save(tmp_path / "whole.blend").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    made = run_child(tmp_path, blend=cut)
    assert made.code == 1, made.output
    assert "cut.blend" in made.result["error"]


def test_without_opengl_depth_falls_back_to_cycles_and_remembers(two_shots, tmp_path):
    # Mesa finds no driver then, and Workbench would kill the process.
    env = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent",
    }
    made = run_child(tmp_path, env, blend=two_shots, depth_method="auto")
    assert made.code == 0, made.output
    assert made.result["depth"]["method"] == "cycles"
    (memory,) = (tmp_path / "cache" / "animatic").iterdir()
    assert json.loads(memory.read_text())["works"] is False


def test_missing_libraries_are_a_warning(scene, tmp_path):
    folder = tmp_path / "assets" / "parts"
    folder.mkdir(parents=True)
    bolts = bpy.data.collections.new("Bolts")
    add_box("Bolt", collection=bolts)
    bpy.data.libraries.write(str(folder / "bolts.blend"), {bolts})

    def link(path, name):
        with bpy.data.libraries.load(str(path), link=True, relative=True) as (_, wanted):
            wanted.collections = [name]
        return wanted.collections[0]

    bpy.ops.wm.read_factory_settings(use_empty=True)
    save(tmp_path / "assets" / "car.blend")
    car = bpy.data.collections.new("Car")
    bpy.context.scene.collection.children.link(car)
    car.children.link(link(folder / "bolts.blend", "Bolts"))
    save(tmp_path / "assets" / "car.blend")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    blend = save(tmp_path / "scene.blend")
    placed = bpy.data.objects.new("Placed", None)
    placed.instance_type = "COLLECTION"
    placed.instance_collection = link(tmp_path / "assets" / "car.blend", "Car")
    bpy.context.scene.collection.objects.link(placed)
    save(blend)
    assert open_blend(blend) == []
    (folder / "bolts.blend").unlink()
    (warning,) = open_blend(blend)
    assert "bolts.blend" in warning
    assert "car.blend" not in warning
