"""A take as the background image of a shot's camera, and away again."""

from __future__ import annotations

from pathlib import Path

import bpy

from .errors import SceneError
from .strip import relative_path

_TAKE = "animatic_take"
_WERE_SHOWN = "animatic_were_shown"


def put_behind(camera: bpy.types.Object, folder: Path, start: int, frames: int, name: str) -> None:
    """Show ``folder``/0001.png and so on through ``camera``, from scene frame ``start`` on.

    One that an earlier call has put there is replaced; the artist's own stay. Raises SceneError for
    a camera that is linked from another file.
    """
    data = camera.data
    if data.library is not None:
        raise SceneError(
            f"The camera {camera.name} is linked from another file: make a library override, or "
            "make it local."
        )
    take_off(camera)
    image = bpy.data.images.load(str(folder / "0001.png"))
    image.name = name
    image.filepath = relative_path(folder / "0001.png")
    image.source = "SEQUENCE"
    image[_TAKE] = camera.data.name
    image[_WERE_SHOWN] = data.show_background_images
    background = data.background_images.new()
    background.source, background.image = "IMAGE", image
    background.frame_method = "STRETCH"  # the strip covers the frame, too
    # Behind a blockout with ground and sky there would be nothing to see of it.
    background.display_depth, background.alpha = "FRONT", 0.5
    user = background.image_user
    user.frame_start, user.frame_duration, user.frame_offset = start, frames, 0
    user.use_auto_refresh, user.use_cyclic = True, False
    data.show_background_images = True


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
