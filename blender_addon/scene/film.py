"""The picture that the scene's own render covers, and a camera that covers it at any size."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from .errors import SceneError


@dataclass(frozen=True)
class Film:
    """The scene's picture, in pixels of its own render (resolution_percentage included).

    ``frame_*`` is the whole camera frame; the render covers ``left``..``right`` and
    ``bottom``..``top`` of it, which is all of it unless a render border is cropped to.
    ``pixel_aspect`` is a pixel's height over its width. ``border`` is a border that is not cropped
    to, as fractions (left, bottom, right, top) of the frame: outside, the render stays empty.
    """

    frame_width: int
    frame_height: int
    left: int
    bottom: int
    right: int
    top: int
    pixel_aspect: float
    border: tuple[float, float, float, float] | None

    @property
    def width(self) -> int:
        """Width of the scene's own render in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Height of the scene's own render in pixels."""
        return self.top - self.bottom

    def inside_border(self, width: int, height: int) -> np.ndarray:
        """Return which pixels of a ``height`` x ``width`` guide the scene would render, as bool."""
        mask = np.ones((height, width), dtype=bool)
        if self.border is not None:
            left, bottom, right, top = self.border
            columns = (np.arange(width) + 0.5) / width
            rows = 1.0 - (np.arange(height) + 0.5) / height
            mask &= (columns >= left) & (columns <= right)
            mask &= ((rows >= bottom) & (rows <= top))[:, None]
        return mask


def read_film(scene: bpy.types.Scene) -> Film:
    """Return what ``scene`` renders. Raises SceneError for an empty render border."""
    render = scene.render
    width = render.resolution_x * render.resolution_percentage // 100
    height = render.resolution_y * render.resolution_percentage // 100
    edges = (render.border_min_x, render.border_min_y, render.border_max_x, render.border_max_y)
    left, bottom, right, top, border = 0, 0, width, height, None
    if render.use_border and render.use_crop_to_border:
        # Blender multiplies in single precision and drops the fraction.
        sides = np.array(edges, np.float32) * np.array((width, height) * 2, np.float32)
        left, bottom, right, top = (int(side) for side in sides)
    elif render.use_border:
        border = edges
    if right <= left or top <= bottom:
        raise SceneError("The render border is empty: redraw it (Ctrl-B in the camera view).")
    aspect = render.pixel_aspect_y / render.pixel_aspect_x
    return Film(width, height, left, bottom, right, top, aspect, border)


class GuideCamera:
    """A camera of our own that sees exactly what the artist's camera films, at the guide's size.

    It follows the artist's camera by a constraint, so that parents, rigs and collections that are
    excluded from the view layer count, and it has no animation that a render could bring back.
    """

    def __init__(self, scene: bpy.types.Scene, film: Film, width: int, height: int) -> None:
        self._film, self._width = film, width
        self.object = bpy.data.objects.new("Animatic Guide", bpy.data.cameras.new("Animatic Guide"))
        scene.collection.objects.link(self.object)
        self._follow = self.object.constraints.new("COPY_TRANSFORMS")
        # Pixel aspect absorbs that the guide's sides are whole multiples of 8.
        self._aspect = film.height * film.pixel_aspect / film.width * width / height
        scene.render.pixel_aspect_x = max(1.0, 1.0 / self._aspect)
        scene.render.pixel_aspect_y = max(1.0, self._aspect)
        scene.render.resolution_x, scene.render.resolution_y = width, height
        scene.render.resolution_percentage = 100
        scene.render.use_border = scene.render.use_crop_to_border = False
        for marker in scene.timeline_markers:
            marker.camera = None
        scene.camera = self.object

    def follow(self, source: bpy.types.Object) -> None:
        """Take the place of ``source``. Raises SceneError where it is no flat picture."""
        if source.type != "CAMERA" or source.data.type not in {"PERSP", "ORTHO"}:
            kind = source.data.type.lower() if source.type == "CAMERA" else source.type.lower()
            raise SceneError(
                f"The camera '{source.name}' is {kind}: guides are flat pictures, "
                "so make it perspective or orthographic."
            )
        if self._follow.target != source:  # each time it is set the scene's relations are rebuilt
            self._follow.target = source

    def match(self, lens: bpy.types.Camera) -> None:
        """Copy what ``lens`` (the artist's evaluated camera data) sees now.

        As BKE_camera_params_compute_viewplane does: the frame is measured in pixels of the fitted
        side, a shift moves it by fractions of that side; the crop is a smaller frame off centre.
        """
        film = self._film
        height = film.frame_height * film.pixel_aspect
        fit = lens.sensor_fit
        horizontal = fit == "HORIZONTAL" or (fit == "AUTO" and film.frame_width >= height)
        fitted = film.frame_width if horizontal else height
        sensor = lens.sensor_height if fit == "VERTICAL" else lens.sensor_width
        centre_x = (film.left + film.right - film.frame_width) / 2 + lens.shift_x * fitted
        centre_y = (film.bottom + film.top - film.frame_height) / 2 * film.pixel_aspect
        centre_y += lens.shift_y * fitted
        own, zoom = self.object.data, film.width / fitted
        own.type = lens.type
        own.sensor_fit = "HORIZONTAL"
        # Drivers may read the scene camera's lens: keep its number, unless the sensor would be
        # under 1 mm, which Blender does not allow.
        scale = max(1.0, 1.0 / (sensor * zoom))
        own.sensor_width = sensor * zoom * scale
        own.lens = lens.lens * scale
        own.ortho_scale = lens.ortho_scale * zoom
        own.shift_x, own.shift_y = centre_x / film.width, centre_y / film.width
        own.clip_start, own.clip_end = lens.clip_start, lens.clip_end
        self._match_focus(lens)

    def _match_focus(self, lens: bpy.types.Camera) -> None:
        theirs, ours = lens.dof, self.object.data.dof
        ours.use_dof = theirs.use_dof
        focus = theirs.focus_object.original if theirs.focus_object else None
        if ours.focus_object != focus:
            ours.focus_object = focus
        ours.focus_subtarget = theirs.focus_subtarget
        ours.focus_distance = theirs.focus_distance
        # The aperture's size is what blurs: keep it, though our lens has another length.
        longer = self.object.data.lens / lens.lens if lens.type == "PERSP" else 1.0
        ours.aperture_fstop = theirs.aperture_fstop * longer
        ours.aperture_blades = theirs.aperture_blades
        ours.aperture_rotation = theirs.aperture_rotation
        ours.aperture_ratio = theirs.aperture_ratio
