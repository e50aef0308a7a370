"""A take behind the camera lies where the scene's render does."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from animatic.blender_addon.scene.camera_background import put_behind
from animatic.blender_addon.scene.film import read_film
from animatic.blender_addon.shot.png import write_png

SIZE = (72, 40)
"""Of the picture, not quite the shape of any region."""


def drawn(background, lens, scene):
    """Left, bottom, right and top of where Blender draws ``background``.

    As image_camera_background_matrix_get (overlay_camera.hh, the same from 2.8 to 5.1) does, in
    parts of the camera's frame from its lower left corner.
    """
    corners = lens.view_frame(scene=scene)
    size = np.abs(np.array([corners[0].x - corners[3].x, corners[0].y - corners[1].y]))
    frame = size[0] / size[1]
    x, y = background.image.display_aspect
    aspect = SIZE[0] * x / (SIZE[1] * y)
    if background.frame_method == "STRETCH":
        side = size.copy()
    else:
        assert background.frame_method == "FIT"
        wider = aspect > frame
        side = [size[0], size[0] / aspect] if wider else [size[1] * aspect, size[1]]
    side = np.array(side) * background.scale
    centre = np.array(background.offset) * (lens.ortho_scale if lens.type == "ORTHO" else 1.0)
    centre *= min(1.0, frame), 1 / (max(1.0, frame) * aspect / frame)
    return np.concatenate([centre - side / 2, centre + side / 2]) / np.tile(size, 2) + 0.5


@pytest.fixture
def take(tmp_path):
    """A folder with one picture."""
    write_png(tmp_path / "0001.png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    return tmp_path


@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
@pytest.mark.parametrize("size", [(640, 360), (360, 640), (500, 500)])
def test_it_covers_the_region_that_is_cropped_to(scene, take, kind, fit, size):
    lens, render = scene.camera.data, scene.render
    lens.type, lens.ortho_scale, lens.sensor_fit, lens.shift_x = kind, 7.5, fit, 0.2
    render.resolution_x, render.resolution_y = size
    render.pixel_aspect_y = 1.5
    render.border_min_x, render.border_max_x = 0.5, 0.9
    render.border_min_y, render.border_max_y = 0.125, 0.75
    render.use_border = render.use_crop_to_border = True
    put_behind(scene.camera, take, 1, 1, "Take")
    (background,) = lens.background_images
    film = read_film(scene)
    region = np.array([film.left, film.bottom, film.right, film.top]) / (size * 2)
    assert drawn(background, lens, scene) == pytest.approx(region, abs=1e-5)


def test_it_covers_the_frame_where_nothing_is_cropped(scene, take):
    render = scene.render
    render.resolution_x, render.border_max_x, render.use_border = 320, 0.5, True
    put_behind(scene.camera, take, 1, 1, "Take")
    (background,) = scene.camera.data.background_images
    assert drawn(background, scene.camera.data, scene) == pytest.approx([0, 0, 1, 1], abs=1e-6)
    assert tuple(background.image.display_aspect) == (1, 1)
    assert bpy.context.scene == scene
