"""What every kind of guide shares: the scene made ready, gone to a time, rendered, read back.

The scene is changed for good: it lives in a process that never saves it.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import bpy
import numpy as np

from ..shot.exr import read_exr
from ..shot.png import read_png
from . import compat
from .errors import SceneError
from .film import Film, GuideCamera
from .shots import CameraCuts, camera_cuts

OnStep = Callable[[int, int, str], None]
"""Called as ``(done, of, text)`` after each step of the work."""


class Stage:
    """A scene set up to render guides of ``width`` x ``height`` pixels through its own camera.

    ``scratch`` is a folder for what Blender writes before it is read back.
    """

    def __init__(
        self, scene: bpy.types.Scene, film: Film, width: int, height: int, scratch: Path
    ) -> None:
        self.scene, self.film = scene, film
        self.width, self.height = width, height
        self._cuts: CameraCuts = camera_cuts(scene)
        self._camera = GuideCamera(scene, film, width, height)
        self._file = scratch / "animatic_guide"
        self.filmed_by: bpy.types.Object | None = None
        bpy.context.window.scene = scene
        render = scene.render
        render.use_sequencer = render.use_stamp = render.use_multiview = False
        render.use_single_layer = render.use_motion_blur = render.use_persistent_data = False
        render.use_file_extension = render.use_overwrite = True
        render.dither_intensity = 0.0
        compat.allow_writing(render)
        if hasattr(scene, "cycles"):  # an add-on that may be off
            # Left on from a render shared out over machines, it would leave our few samples out.
            scene.cycles.use_sample_subset = False

    @property
    def layer(self) -> bpy.types.ViewLayer:
        """The view layer that is rendered (the first one, where the guide needs all)."""
        return self.scene.view_layers[0]

    @property
    def camera(self) -> bpy.types.Camera:
        """The guide camera's data, as it stands after ``go_to``."""
        return self._camera.object.data

    def go_to(self, time: Fraction) -> None:
        """Evaluate the scene at ``time`` (scene frames, subframe allowed) and aim the camera."""
        frame = time.numerator // time.denominator
        source = self._cuts.camera_at(frame)
        if source is None:
            raise SceneError(f"No camera films frame {frame} of the scene '{self.scene.name}'.")
        self._camera.follow(source)
        self.filmed_by = source
        self.scene.frame_set(frame, subframe=float(time - frame))
        graph = self.layer.depsgraph
        self._camera.match(source.evaluated_get(graph).data)

    def resize(self, divisor: int) -> None:
        """Render at 1/``divisor`` of the guide's size: the same framing, for measuring."""
        self.scene.render.resolution_x = max(8, self.width // divisor)
        self.scene.render.resolution_y = max(8, self.height // divisor)

    def render_passes(self) -> dict[str, np.ndarray]:
        """Render now; return the passes as float32 [H, W] by channel name, rows from the top."""
        settings = self.scene.render.image_settings
        compat.set_still_format(settings, "OPEN_EXR_MULTILAYER", "RGBA", "32")
        return read_exr(self._render(".exr"))

    def render_picture(self) -> np.ndarray:
        """Render now through the scene's view transform; return uint8 [H, W, 3]."""
        settings = self.scene.render.image_settings
        compat.set_still_format(settings, "PNG", "RGB", "8")
        settings.color_management = "FOLLOW_SCENE"
        return read_png(self._render(".png"))

    def _render(self, suffix: str) -> Path:
        path = self._file.with_suffix(suffix)
        path.unlink(missing_ok=True)
        self.scene.render.filepath = str(path)
        try:
            bpy.ops.render.render(write_still=True)
        except RuntimeError as error:
            raise SceneError(f"Blender could not render a guide: {error}") from error
        if not path.is_file():
            raise SceneError(
                f"Blender rendered a guide but did not write it to {path.parent}: "
                "is there room on the disk?"
            )
        return path


def has_channel(passes: dict[str, np.ndarray], name: str) -> bool:
    """Say whether a channel's name ends with ``name``, e.g. ``Depth.Z``; layer names may vary."""
    return any(_is_named(channel, name) for channel in passes)


def find_channel(passes: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return the channel whose name ends with ``name``. Raises SceneError when there is none."""
    for channel, values in passes.items():
        if _is_named(channel, name):
            return values
    raise SceneError(f"Blender's render holds no pass '{name}', only {', '.join(passes)}.")


def _is_named(channel: str, name: str) -> bool:
    return channel == name or channel.endswith(f".{name}")
