"""Motion between clip frames: exact for what moves, bends, is an instance, or is far away."""

from __future__ import annotations

import os
import time
from fractions import Fraction
from pathlib import Path

import bpy
import numpy as np
import pytest
from animatic.blender_addon.link.engine_process import find_engine_python
from animatic.blender_addon.link.in_between import measure_flow
from animatic.blender_addon.scene import tasks
from animatic.blender_addon.scene.blend_file import open_blend
from animatic.blender_addon.scene.compat import fcurves_of
from animatic.blender_addon.scene.errors import SceneError
from animatic.blender_addon.scene.film import read_film
from animatic.blender_addon.scene.gl_probe import can_render_with_gl
from animatic.blender_addon.scene.motion_vectors import MotionRenderer, render_motion
from animatic.blender_addon.scene.stage import Stage
from animatic.blender_addon.scene.tasks import run_task
from animatic.blender_addon.shot.in_between import blend
from animatic.blender_addon.shot.in_between_flow import flow_motions
from animatic.blender_addon.shot.motion_files import (
    SIDES,
    motion_name,
    wanted_beside,
    wanted_between,
)
from animatic.blender_addon.shot.png import read_png, write_png
from animatic.blender_addon.shot.timing import ClipTiming

from .conftest import MODEL, add_box, add_camera, run_child, save

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def way(made: Stage, there: int, here: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ways in pixels from frame ``here`` to ``there``, [H, W, 2], and the trust."""
    renderer = MotionRenderer(made, made._file.parent)
    other = renderer.read(Fraction(there))
    look = renderer.look(renderer.read(Fraction(here)), [other])
    motion = renderer.motions(look, [renderer.look(other).seen])[0].astype(float)
    steps = 1 << (32767 // 64).bit_length() - 1
    return (motion[..., :2] - 32768) / steps, motion[..., 3] / 65535


def keyed(item, path: str, **values) -> None:
    """Key ``path`` of ``item``: frame_1=..., frame_12=..., in straight lines."""
    for name, value in values.items():
        setattr(item, path, value)
        item.keyframe_insert(path, frame=int(name.removeprefix("frame_")))
    animation = (item.id_data if item.id_data != item else item).animation_data
    for curve in fcurves_of(animation.action, animation.action_slot):
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"


def test_a_dolly_with_a_zoom_and_what_hides_the_ground(scene, stage):
    add_box("Ground", (0, 0, -0.5), (90, 90, 1))
    add_box("Block", (1, 0, 1), (1, 1, 2))
    keyed(scene.camera, "location", frame_1=(0, 0, 10), frame_12=(0, 0, 21))
    keyed(scene.camera.data, "lens", frame_1=50, frame_12=94)
    ways, trust = way(stage(), 1, 7)  # from 16 units and 74 mm to 10 units and 50 mm
    rows, columns = np.indices((64, 64)) + 0.5 - 32
    for left, distance in ((10, 0), (40, 2)):  # ground, top of the block
        there, here = 50 / (10 - distance), 74 / (16 - distance)
        place = (slice(20, 24) if distance == 0 else slice(30, 34), slice(left, left + 3))
        for axis, own in ((0, columns), (1, rows)):
            expected = own[place] * (there / here - 1)
            assert np.abs(ways[place][..., axis] - expected).max() < 0.01
        if distance == 0:
            assert (trust[place] == 1).all()
    assert 0 < (trust == 0).mean() < 0.5  # what lies outside, or behind the nearer block


def test_bending_meshes_instances_and_a_place_between_two_frames(scene, stage):
    bent = add_box("Bent", (0, 1.5, 0), (2, 1, 1))
    bent.shape_key_add(name="Basis")
    shape = bent.shape_key_add(name="Aside")
    for point in shape.data:
        point.co.x += 1.1
    keyed(shape, "value", frame_1=0.0, frame_12=1.0)
    kit = bpy.data.collections.new("Kit")
    add_box("Part", (0, -1.5, 0), (2, 1, 1), collection=kit)
    placed = bpy.data.objects.new("Placed", None)
    placed.instance_type, placed.instance_collection = "COLLECTION", kit
    scene.collection.objects.link(placed)
    keyed(placed, "location", frame_1=(0, 0, 0), frame_12=(-1.1, 0, 0))
    ways, trust = way(stage(), 1, 4)
    pixels = 0.3 * 64 * 50 / 36 / 9.5  # 3 frames of 0.1 units, on the tops
    up, down = ways[17:21, 30:34, 0], ways[43:47, 30:34, 0]
    assert np.abs(up + pixels).max() < 0.02
    assert np.abs(down - pixels).max() < 0.02
    assert (trust[17:21, 30:34] == 1).all()


def test_the_sky_turns_with_the_camera_and_is_never_nearer(scene, stage):
    keyed(scene.camera, "location", frame_1=(0, 0, 0), frame_12=(50, 0, 0))
    keyed(scene.camera, "rotation_euler", frame_1=(1.5, 0, 0), frame_12=(1.5, 0, -0.11))
    ways, trust = way(stage(), 12, 1)
    assert np.abs(ways[32, 32, 0] + 64 * 50 / 36 * np.tan(0.11)) < 0.6
    assert (trust[2:-2, 20:] == 1).all()
    assert (trust[:, :5] == 0).all()  # it came in from the left


def test_nothing_is_carried_over_a_cut(scene, stage):
    add_box("Ground", (0, 0, -0.5), (90, 90, 1))
    for name, frame in (("Wide", 1), ("Close", 7)):
        camera = add_camera(name, (0, 0, 10))
        scene.timeline_markers.new(name, frame=frame).camera = camera
    _, trust = way(stage(), 5, 8)
    assert not trust.any()


def test_a_mesh_that_is_made_anew_has_no_motion_and_is_named(scene, stage, tmp_path):
    made = add_box("Growing", (0, 0, 0), (4, 4, 1))
    array = made.modifiers.new("Array", "ARRAY")
    keyed(array, "count", frame_1=1, frame_12=12)
    keyed(made, "location", frame_1=(0, 0, 0), frame_12=(0, 1.1, 0))
    timing = ClipTiming(1, 4, Fraction(24), 2, Fraction(8))
    add_box("Ground", (0, 0, -1.5), (90, 90, 1))
    remade = render_motion(
        stage(), timing, wanted_between(timing, tmp_path), tmp_path, lambda *_: None
    )
    assert remade == ["Growing"]
    assert len(list((tmp_path / "motion").iterdir())) == 4
    trust = read_png(tmp_path / "motion" / motion_name(1, "before"))[..., 3]
    assert (trust[28:36, 28:36] == 0).all()  # the box
    assert (trust[:4, 4:-4] > 0).all()  # the ground beside it


def test_texts_are_read_once_each_with_their_own_modifiers(scene, stage, tmp_path):
    words = bpy.data.curves.new("Words", "FONT")
    words.body = "HH"
    plain, bent = (bpy.data.objects.new(name, words) for name in ("Plain", "Bent"))
    for item in (plain, bent):
        scene.collection.objects.link(item)
    modifier = bent.modifiers.new("Twist", "SIMPLE_DEFORM")
    modifier.deform_method, modifier.angle, modifier.deform_axis = "TWIST", 3.0, "X"
    pieces = MotionRenderer(stage(), tmp_path).read(Fraction(1)).pieces.values()
    heights = {piece.name: float(np.ptp(piece.points[:, 2])) for piece in pieces}
    assert len(pieces) == 2
    assert heights["Plain"] == 0
    assert heights["Bent"] > 0.3


def test_the_task_renders_motion_where_frames_lie_between(scene, tmp_path):
    add_box("Box", (0, 0, 0), (2, 2, 2))
    add_box("Ground", (0, 0, -1.5), (90, 90, 1))
    keyed(scene.camera, "location", frame_1=(0, 0, 10), frame_12=(1, 0, 10))
    blend_file = save(tmp_path / "scene.blend")
    made = run_child(tmp_path, blend=blend_file, in_between=True, deflicker="on")
    assert made.code == 0, made.output
    assert made.result["shot"]["in_between"] is True
    beside = [(each["clip_frame"], each["to"]) for each in made.result["motions"]]
    assert beside == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
    files = {(each["clip_frame"], each["to"]): each["file"] for each in made.result["motions"]}
    ways = {ends: read_png(tmp_path / "guides" / file) for ends, file in files.items()}
    # The camera trucks to the right, so what it shows was further right before.
    assert ways[1, 2][32, 32, 0] < 32768 < ways[1, 0][32, 32, 0]
    names = sorted(path.name for path in (tmp_path / "guides" / "motion").iterdir())
    assert names[:3] == ["0002_after.png", "0002_before.png", "0003_after.png"]
    assert len(names) == 14  # 6 frames with two sides, and the last two with one
    assert read_png(tmp_path / "guides" / "motion" / names[0]).shape == (64, 64, 4)
    every = run_child(
        tmp_path, blend=blend_file, in_between=True, model={"frames": 12, "fps": "24"}
    )
    assert "in_between" not in every.result["shot"]
    assert any("none in between" in warning for warning in every.result["warnings"])


def test_what_cannot_be_in_the_picture_is_not_rendered_with_it(scene, stage, tmp_path):
    add_box("Ground", (0, 0, -0.5), (90, 90, 1))
    for name, place in (("Behind", (0, 0, 20)), ("Beside", (30, 0, 0)), ("Crossing", (3.6, 0, 0))):
        add_box(name, place, (2, 2, 1))
    keyed(bpy.data.objects["Beside"], "location", frame_1=(30, 0, 0), frame_12=(0, 0, 0))
    renderer = MotionRenderer(stage(), tmp_path)

    def shown(frame: int) -> set[str]:
        moment = renderer.read(Fraction(frame))
        return {piece.name for key, piece in moment.pieces.items() if moment.in_view(key)}

    assert shown(1) == {"Ground", "Crossing"}
    assert shown(12) == {"Ground", "Crossing", "Beside"}


def test_a_scene_too_large_for_motion_still_has_its_guides(scene, tmp_path, monkeypatch):
    add_box("Ground", (0, 0, -0.5), (90, 90, 1))
    add_box("Block", (0, 0, 1), (1, 1, 2))
    blend = save(tmp_path / "scene.blend")
    task = {
        "task": "guides", "blend": str(blend), "out": str(tmp_path / "guides"), "guide": "depth",
        "keyframes": "1", "lineart_width": 1.5, "depth_method": "cycles", **MODEL,
    }  # fmt: skip
    monkeypatch.setattr(tasks, "QUICK_TRIANGLES", 23)
    for asked, steadied in (("auto", False), ("on", True)):
        made = run_task({**task, "deflicker": asked}, lambda event: None)
        assert (len(made["guides"]), bool(made["motions"])) == (1, steadied)
        assert any("to On to wait" in told for told in made["warnings"]) is not steadied
        assert made["shot"]["deflicker"] == asked
    monkeypatch.setattr(tasks, "MOST_TRIANGLES", 23)
    with pytest.raises(SceneError, match="The camera sees more than"):
        run_task({**task, "deflicker": "on", "in_between": True}, lambda event: None)


def test_rows_of_instances_of_which_one_goes_have_no_motion(scene, stage, tmp_path):
    """Each then has the number of the one before it, and would seem to have gone there."""
    add_box("Ground", (0, 0, -0.5), (90, 90, 1))
    part = add_box("Part", (0, 0, 50), (1, 1, 1))
    row = add_box("Row", (0, 0, 0))
    tree = bpy.data.node_groups.new("Row", "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    kinds = ("MeshLine", "InstanceOnPoints", "ObjectInfo")
    line, spread, what = (tree.nodes.new(f"GeometryNode{kind}") for kind in kinds)
    out = tree.nodes.new("NodeGroupOutput")
    what.inputs["Object"].default_value = part
    line.inputs["Offset"].default_value = (1.5, 0, 0)
    line.inputs["Start Location"].default_value = (-3, 0, 0)
    tree.links.new(line.outputs["Mesh"], spread.inputs["Points"])
    tree.links.new(what.outputs["Geometry"], spread.inputs["Instance"])
    tree.links.new(spread.outputs["Instances"], out.inputs[0])
    row.modifiers.new("Row", "NODES").node_group = tree
    count = line.inputs["Count"]
    for frame, number in ((1, 5), (2, 4)):
        count.default_value = number
        count.keyframe_insert("default_value", frame=frame)
    for curve in fcurves_of(tree.animation_data.action, tree.animation_data.action_slot):
        for point in curve.keyframe_points:
            point.interpolation = "CONSTANT"
    timing = ClipTiming(1, 6, Fraction(24), 2, Fraction(8))
    remade = render_motion(
        stage(), timing, wanted_beside(timing, tmp_path), tmp_path, lambda *_: None
    )
    assert remade == ["Row"]
    trust = read_png(tmp_path / "deflicker" / "0002_0001.png")[..., 3]
    assert (trust[31:33, 31:33] == 0).all()  # a part
    assert (trust[:4, 4:-4] > 0).all()  # the ground


@pytest.mark.slow
@pytest.mark.parametrize("name", ["city_dolly", "orbit", "walk_follow"])
def test_warped_frames_are_nearer_to_the_truth_than_a_fade(name, tmp_path):
    """Every third frame of a true render; with -s it prints PSNR: warped along exact motion, along
    optical flow, cross-faded, held."""
    if not can_render_with_gl():
        pytest.skip("no OpenGL here: rendering the truth would take long")
    os.chdir(tmp_path)
    open_blend(EXAMPLES / f"{name}.blend")
    scene = bpy.context.scene
    film = read_film(scene)
    width = 224
    height = 8 * round(width * film.height / film.width / 8)
    made = Stage(scene, film, width, height, tmp_path)
    timing = ClipTiming(10, 22, Fraction(24), 5, Fraction(8))
    engine = scene.render.engine
    scene.render.engine, scene.display.render_aa = "BLENDER_WORKBENCH", "16"
    scene.display.shading.light, scene.display.shading.color_type = "STUDIO", "MATERIAL"
    truth = {}
    for frame in range(timing.start, timing.end + 1):
        made.go_to(Fraction(frame))
        truth[frame] = made.render_picture()
    scene.render.engine = engine
    render_motion(made, timing, wanted_between(timing, tmp_path), tmp_path, lambda *_: None)
    rows = []
    (tmp_path / "clip").mkdir()
    for k in range(timing.frames):
        write_png(tmp_path / "clip" / f"{k + 1:04d}.png", truth[10 + 3 * k])
    measure_flow(find_engine_python(), tmp_path / "clip", tmp_path / "flow")
    for frame, k, share in timing.between():
        clip = [truth[10 + 3 * k], truth[13 + 3 * k]]
        weights = [float(1 - share), float(share)]
        motion = [
            read_png(tmp_path / "motion" / motion_name(frame - timing.start, side))
            for side in SIDES
        ]
        warped = blend(list(zip(clip, motion, weights, strict=True)))
        flow = flow_motions(read_png(tmp_path / "flow" / f"{k + 1:04d}.png"), float(share))
        flowed = blend(list(zip(clip, flow, weights, strict=True)))
        faded = clip[0] * weights[0] + clip[1] * weights[1]
        rows.append([psnr(each, truth[frame]) for each in (warped, flowed, faded, clip[0])])
    warped, flowed, faded, held = np.mean(rows, axis=0)
    print(
        f"\n{name}, {width}x{height}: warped {warped:.1f}, along optical flow {flowed:.1f}, "
        f"faded {faded:.1f}, held {held:.1f} dB"
    )
    assert warped > max(faded, held) + 4
    assert warped > flowed > max(faded, held) + 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [512, 1024])
def test_large_frames_take_seconds_and_little_memory(size, tmp_path):
    """With -s it prints the processor's seconds for each frame, and the most memory there was."""
    resource = pytest.importorskip("resource")
    open_blend(EXAMPLES / "city_dolly.blend")
    made = Stage(bpy.context.scene, read_film(bpy.context.scene), size, size, tmp_path)
    timing = ClipTiming(10, 16, Fraction(24), 3, Fraction(8))
    began = time.process_time()
    render_motion(made, timing, wanted_between(timing, tmp_path), tmp_path, lambda *_: None)
    rendered = time.process_time()
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    motion = [read_png(tmp_path / "motion" / motion_name(1, side)) for side in SIDES]
    blend([(picture, motion[0], 0.6), (picture, motion[1], 0.4)])
    seconds = (rendered - began) / len(timing.between()), time.process_time() - rendered
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{size}: motion {seconds[0]:.2f} s, picture {seconds[1]:.2f} s, {most:.0f} MB")
    assert most < 2000


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    error = np.mean((picture.astype(float) - truth) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))
