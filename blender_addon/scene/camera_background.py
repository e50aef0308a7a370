"""A take as the background image of a shot's camera, and away again."""

from __future__ import annotations

from pathlib import Path

import bpy

from .errors import SceneError
from .film import Film, read_film
from .strip import relative_path

_TAKE = "animatic_take"
_WERE_SHOWN = "animatic_were_shown"


def put_behind(camera: bpy.types.Object, folder: Path, start: int, frames: int, name: str) -> None:
    """Show ``folder``/0001.png and so on through ``camera``, from scene frame ``start`` on.

    It covers what the scene renders: the frame, or the region that is cropped to. One that an
    earlier call has put there is replaced; the artist's own stay. Raises SceneError for a camera
    that is linked from another file, and for an empty region.
    """
    data = camera.data
    if data.library is not None:
        raise SceneError(
            f"The camera {camera.name} is linked from another file: make a library override, or "
            "make it local."
        )
    scene = _scene_of(camera)
    film = read_film(scene)
    take_off(camera)
    image = bpy.data.images.load(str(folder / "0001.png"))
    image.name = name
    size = tuple(image.size)  # a sequence has none until it is drawn
    image.filepath = relative_path(folder / "0001.png")
    image.source = "SEQUENCE"
    image[_TAKE] = camera.data.name
    image[_WERE_SHOWN] = data.show_background_images
    background = data.background_images.new()
    background.source, background.image = "IMAGE", image
    if (film.width, film.height) == (film.frame_width, film.frame_height):
        background.frame_method = "STRETCH"  # the strip covers the frame, too
    else:
        _lay_over_region(background, size, film, data, scene)
    # Behind a blockout with ground and sky there would be nothing to see of it.
    background.display_depth, background.alpha = "FRONT", 0.5
    user = background.image_user
    user.frame_start, user.frame_duration, user.frame_offset = start, frames, 0
    user.use_auto_refresh, user.use_cyclic = True, False
    data.show_background_images = True


def _scene_of(camera: bpy.types.Object) -> bpy.types.Scene:
    """The scene whose render the picture is laid over: the open one, if the camera is in it."""
    scenes = camera.users_scene
    return bpy.context.scene if bpy.context.scene in scenes else scenes[0]


def _lay_over_region(
    background: bpy.types.CameraBackgroundImage,
    size: tuple[int, int],
    film: Film,
    lens: bpy.types.Camera,
    scene: bpy.types.Scene,
) -> None:
    """Undo what image_camera_background_matrix_get (overlay_camera.hh) makes of these numbers.

    There is one scale for both sides: how wide the picture is for its height is told by its pixels'
    shape.
    """
    upper_right, lower_right, _, upper_left = lens.view_frame(scene=scene)
    width, height = upper_right.x - upper_left.x, upper_right.y - lower_right.y
    frame = width / height
    wide, high = film.width / film.frame_width, film.height / film.frame_height
    aspect = frame * wide / high
    pixel = aspect * size[1] / size[0]
    background.image.display_aspect = (max(1.0, pixel), max(1.0, 1.0 / pixel))
    background.frame_method, background.scale = "FIT", max(wide, high)
    right = (film.left + film.right - film.frame_width) / 2 / film.frame_width * width
    up = (film.bottom + film.top - film.frame_height) / 2 / film.frame_height * height
    unit = lens.ortho_scale if lens.type == "ORTHO" else 1.0
    background.offset = (
        right / (unit * min(1.0, frame)),
        up / unit * max(1.0, frame) * aspect / frame,
    )


def is_behind(camera: bpy.types.Object | None) -> bool:
    """Whether there is a take of ours behind ``camera``."""
    return camera is not None and camera.type == "CAMERA" and bool(_ours(camera))


def take_off(camera: bpy.types.Object) -> None:
    """Take away what ``put_behind`` has put there; images nobody else uses go, too."""
    data = camera.data
    for background in _ours(camera):
        image = background.image
        data.background_images.remove(background)
        data.show_background_images = bool(image[_WERE_SHOWN])
        if image.users == 0:
            bpy.data.images.remove(image)


def _ours(camera: bpy.types.Object) -> list[bpy.types.CameraBackgroundImage]:
    images = camera.data.background_images
    return [each for each in images if each.image is not None and _TAKE in each.image]
