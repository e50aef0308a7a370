"""Depth guides: exact planar Z, one rule about what counts, by both methods."""

from __future__ import annotations

from fractions import Fraction

import bpy
import numpy as np
import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.scene import depth_guide
from animatic.blender_addon.shot.depth import decode_depth
from animatic.blender_addon.shot.png import read_png
from mathutils import Matrix, Vector

from .conftest import add_box, middle, run_child, save


def frame(scene, case):
    """Give the camera and the film of ``scene`` one of the shapes that artists use."""
    render, lens = scene.render, scene.camera.data
    render.resolution_x, render.resolution_y = 320, 180
    if case == "shift":
        lens.shift_x, lens.shift_y = 0.21, -0.13
        lens.dof.use_dof, lens.dof.aperture_fstop, lens.dof.focus_distance = True, 0.1, 2.0
        lens.sensor_fit, lens.sensor_height = "VERTICAL", 20
    elif case == "portrait":
        render.resolution_x, render.resolution_y = 100, 177
        render.resolution_percentage = 37
        lens.shift_y = 0.1
    elif case == "ortho":
        lens.type, lens.ortho_scale = "ORTHO", 7
        lens.shift_x = -0.2
    elif case == "pixels":
        render.pixel_aspect_x, render.pixel_aspect_y = 1.0, 1.9
        lens.sensor_fit = "HORIZONTAL"
    elif case == "crop":
        render.use_border = render.use_crop_to_border = True
        render.border_min_x, render.border_max_x = 0.55, 0.9
        render.border_min_y, render.border_max_y = 0.1, 0.35
        lens.shift_x = 0.05


def analytic_z(scene, camera, width, height):
    """Planar distance to the plane z = 0 by Blender's own projection matrix of the whole frame."""
    render = scene.render
    full = render.resolution_x * render.resolution_percentage // 100
    tall = render.resolution_y * render.resolution_percentage // 100
    aspect = {"scale_x": render.pixel_aspect_x, "scale_y": render.pixel_aspect_y}
    graph = bpy.context.evaluated_depsgraph_get()
    projection = camera.calc_matrix_camera(graph, x=full, y=tall, **aspect)
    left, bottom, right, top = 0.0, 0.0, 1.0, 1.0
    if render.use_border and render.use_crop_to_border:
        left, right = int(render.border_min_x * full) / full, int(render.border_max_x * full) / full
        bottom, top = int(render.border_min_y * tall) / tall, int(render.border_max_y * tall) / tall
    inverse, world = projection.inverted(), camera.matrix_world
    z = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            x = 2 * (left + (right - left) * (column + 0.5) / width) - 1
            y = 2 * (top - (top - bottom) * (row + 0.5) / height) - 1
            ends = [inverse @ Vector((x, y, depth, 1)) for depth in (-1, 1)]
            near, far = (world @ (end.xyz / end.w) for end in ends)
            hit = near + (far - near) * (near.z / (near.z - far.z))
            z[row, column] = -(world.inverted() @ hit).z
    return z


@pytest.mark.parametrize("case", ["shift", "portrait", "ortho", "pixels", "crop"])
def test_z_is_the_analytic_distance(scene, stage, method, case):
    add_box("Ground", (0, 0, -0.5), (500, 500, 1))
    camera = scene.camera
    camera.matrix_world = Matrix.Translation((1, -4, 5)) @ Matrix.Rotation(0.35, 4, "X")
    camera.rotation_euler.z = 0.4
    frame(scene, case)
    bpy.context.view_layer.update()
    expected = analytic_z(scene, camera, 72, 56)
    made = stage(72, 56)
    depth_guide.prepare_depth(made, method)
    made.go_to(Fraction(1))
    z = depth_guide.measure_z(made)
    assert z.shape == (56, 72)
    assert np.abs(z / expected - 1).max() < 1e-3


@pytest.mark.parametrize("height", [10, 200])
def test_a_tiny_clip_start_costs_no_precision(scene, stage, method, height):
    add_box("Ground", (0, 0, -0.5), (900, 900, 1))
    scene.camera.location.z, scene.camera.data.clip_start = height, 1e-6
    made = stage()
    depth_guide.prepare_depth(made, method)
    made.go_to(Fraction(1))
    assert middle(depth_guide.measure_z(made)) == pytest.approx(height, rel=1e-4)


def test_the_film_is_what_blender_renders(scene, stage, tmp_path):
    frame(scene, "crop")
    scene.render.resolution_percentage = 77
    film = stage().film
    scene.render.resolution_x, scene.render.resolution_y = 320, 180
    scene.render.resolution_percentage = 77
    scene.render.use_border = scene.render.use_crop_to_border = True
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 1
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "own.png")
    bpy.ops.render.render(write_still=True)
    assert read_png(tmp_path / "own.png").shape[:2] == (film.height, film.width)


def test_a_sample_subset_that_was_left_on_is_off(scene, stage):
    add_box("Ground", (0, 0, -0.5), (50, 50, 1))
    cycles = scene.cycles
    cycles.use_sample_subset, cycles.sample_offset, cycles.sample_subset_length = True, 64, 64
    made = stage()
    depth_guide.prepare_depth(made, "cycles")
    made.go_to(Fraction(1))
    assert middle(depth_guide.measure_z(made)) == pytest.approx(10, rel=1e-3)


def test_a_guide_is_made_at_its_own_subframe(scene, stage):
    box = add_box("Riser", (0, 0, -0.5), (9, 9, 1))
    for frame_number, z in ((1, -0.5), (5, 3.5)):
        box.location.z = z
        box.keyframe_insert("location", frame=frame_number)
    curve = box.animation_data.action.layers[0].strips[0].channelbags[0].fcurves[2]
    for point in curve.keyframe_points:
        point.interpolation = "LINEAR"
    made = stage()
    depth_guide.prepare_depth(made, "cycles")
    for time in (Fraction(5, 2), Fraction(73049, 24024)):
        made.go_to(time)
        assert middle(depth_guide.measure_z(made)) == pytest.approx(11 - float(time), rel=1e-3)


def test_a_camera_on_a_rig_in_an_excluded_collection_still_films(scene, stage):
    add_box("Ground", (0, 0, -0.5), (50, 50, 1))
    rigs = bpy.data.collections.new("Rigs")
    scene.collection.children.link(rigs)
    dolly = bpy.data.objects.new("Dolly", None)
    for ob in (dolly, scene.camera):
        rigs.objects.link(ob)
    scene.collection.objects.unlink(scene.camera)
    scene.camera.parent = dolly
    for number, height in ((1, 0), (3, 4)):
        dolly.location.z = height
        dolly.keyframe_insert("location", frame=number)
    bpy.context.view_layer.layer_collection.children["Rigs"].exclude = True
    made = stage()
    depth_guide.prepare_depth(made, "cycles")
    for time, height in ((3, 14), (1, 10)):
        made.go_to(Fraction(time))
        assert middle(depth_guide.measure_z(made)) == pytest.approx(height, rel=1e-3)


def test_an_uncropped_border_leaves_the_rest_empty(scene, stage):
    add_box("Ground", (0, 0, -0.5), (50, 50, 1))
    scene.render.use_border = True
    scene.render.border_min_x, scene.render.border_max_x = 0.25, 0.5
    scene.render.border_min_y, scene.render.border_max_y = 0.0, 0.75
    made = stage()
    depth_guide.prepare_depth(made, "cycles")
    made.go_to(Fraction(1))
    filled = np.isfinite(depth_guide.measure_z(made))
    assert filled[16:, 16:32].all()
    assert filled.sum() == 48 * 16


def test_one_range_holds_for_the_whole_shot(scene, stage, method):
    add_box("Ground", (0, 0, -0.5), (50, 50, 1))
    box = add_box("Passer", (0, 0, 4.5))  # its top is 5 away, in frame 2 alone
    box.hide_render = True
    for number, hidden in ((1, True), (2, False), (3, True)):
        box.hide_render = hidden
        box.keyframe_insert("hide_render", frame=number)
    guides = depth_guide.render_depth(
        stage(), [Fraction(1), Fraction(2), Fraction(3)], [0, 2], method, lambda *_: None
    )
    assert guides.near == pytest.approx(5, rel=1e-3)
    assert guides.far == pytest.approx(10, rel=1e-3)
    assert guides.method == method
    assert len(guides.codes) == 2
    assert guides.codes[0].max() == 1


def test_warnings_are_few_and_right(scene, stage):
    scene.camera.data.clip_end = 9.5
    add_box("Ground", (0, 0, -0.5), (3, 3, 1))  # 10 away: behind Clip End
    box = add_box("Box", (0, 0, 1.5), (0.5, 0.5, 1))
    box.rotation_euler.x = 0.4
    guides = depth_guide.render_depth(stage(), [Fraction(1)], [0], "cycles", lambda *_: None)
    assert len(guides.warnings) == 1
    assert "Clip End (9.5) cuts off" in guides.warnings[0]


def test_nothing_in_view_is_refused_with_its_reason(scene, stage):
    made = stage()
    with pytest.raises(AnimaticError, match="sees no surface"):
        depth_guide.render_depth(made, [Fraction(1)], [0], "cycles", lambda *_: None)
    add_box("Ground", (0, 0, -0.5), (50, 50, 1))
    scene.camera = bpy.data.objects["Camera"]
    scene.camera.data.clip_end = 5
    with pytest.raises(AnimaticError, match=r"behind the camera's Clip End \(5\)"):
        depth_guide.render_depth(stage(), [Fraction(1)], [0], "cycles", lambda *_: None)


def test_a_panorama_is_refused(scene, stage):
    scene.camera.data.type = "PANO"
    with pytest.raises(AnimaticError, match="perspective or orthographic"):
        stage().go_to(Fraction(1))


def test_the_written_guide_decodes_to_metres(scene, tmp_path):
    add_box("Ground", (0, 0, -0.5), (50, 50, 1))
    scene.camera.rotation_euler.x = 0.3
    scene.camera.keyframe_insert("location", frame=1)
    scene.camera.keyframe_insert("location", frame=12)
    bpy.context.view_layer.update()
    blend = save(tmp_path / "plane.blend")
    source = blend.read_bytes()
    made = run_child(tmp_path, blend=blend)
    assert made.code == 0, made.output
    assert blend.read_bytes() == source
    depth, guides = made.result["depth"], made.result["guides"]
    assert [guide["file"] for guide in guides] == ["depth_0001.png", "depth_0004.png"]
    codes = read_png(tmp_path / "guides" / "depth_0001.png")
    assert codes.dtype == np.uint16
    assert (codes.min(), codes.max()) == (1, 65535)
    z = decode_depth(codes, depth["near"], depth["far"])
    expected = analytic_z(scene, scene.camera, 64, 64)
    half_a_code = 0.5 * (1 / depth["near"] - 1 / depth["far"]) / 65534
    assert np.abs(1 / z - 1 / expected).max() < half_a_code + 1e-5
    assert (tmp_path / "guides" / "contact_sheet.png").is_file()
    assert made.events[-1] == {"phase": "guides", "done": 4, "of": 4, "text": "depth 4 of 4"}


def warned(stage, **asked):
    guides = depth_guide.render_depth(
        stage(), [Fraction(1)], [0], "cycles", lambda *_: None, **asked
    )
    return guides, guides.warnings


def test_a_chosen_range_holds_and_says_what_it_clips(scene, stage):
    add_box("Ground", (0, 0, -0.5), (50, 50, 1))  # 10 away
    add_box("Box", (0, 0, 1), (2, 2, 2))  # its top 8 away
    guides, warnings = warned(stage, near=4.0, far=20.0)
    assert (guides.near, guides.far, warnings) == (4.0, 20.0, [])
    z = decode_depth(guides.codes[0], 4.0, 20.0)
    assert z[32, 32] == pytest.approx(8, abs=0.01)
    assert z[2, 2] == pytest.approx(10, abs=0.01)
    guides, warnings = warned(stage, far=9.0)
    assert guides.codes[0][2, 2] == 1  # geometry, though beyond
    assert len(warnings) == 1
    assert "is farther than far (8 to 9) and all equally dark" in warnings[0]
    for asked, sentence in (
        ({"near": 12.0}, "all of it would be white"),
        ({"far": 7.0}, "equally dark"),
        ({"near": 9.0, "far": 8.5}, "set near below far"),
        ({"near": -1.0}, "above 0"),
    ):
        with pytest.raises(AnimaticError, match=sentence):
            warned(stage, **asked)


def test_a_sky_dome_and_a_flat_scene_are_told(scene, stage):
    add_box("Backdrop", (0, 0, -140), (999, 999, 1))
    add_box("Box", (0, 0, 1), (2, 2, 2))
    assert "a sky dome or a backdrop?" in warned(stage)[1][0]
    bpy.data.objects["Backdrop"].location.z = 1.4  # just under the top of the box
    scene.camera = bpy.data.objects["Camera"]
    assert "nearly flat" in warned(stage)[1][0]
