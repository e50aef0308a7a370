"""Videos of finished pictures, by the FFmpeg that is part of Blender."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import bpy

from ..shot.png import read_png
from . import compat
from .errors import SceneError


def write_video(frames: Sequence[Path], fps: Fraction, path: Path) -> None:
    """Write the pictures ``frames``, of one folder and one size, as H.264 in MP4 at ``fps``.

    Uses a scene of its own in the open file. Raises SceneError where it cannot be written.
    """
    height, width = read_png(frames[0]).shape[:2]
    scene = bpy.data.scenes.new("Animatic Video")
    render = scene.render
    render.resolution_x, render.resolution_y = width, height
    render.resolution_percentage = 100
    render.fps = max(1, math.ceil(fps))
    render.fps_base = float(render.fps / fps)
    render.use_sequencer, render.use_compositing = True, False
    scene.frame_start, scene.frame_end = 1, len(frames)
    compat.finished_pictures(scene)
    strip = compat.new_image_strip(scene, "Frames", list(frames), 1, 1)
    compat.read_as_srgb(strip)
    compat.allow_writing(render)
    compat.set_video_format(render)
    render.use_file_extension = False
    # Braces would name what Blender puts in their place.
    render.filepath = str(path).replace("{", "{{").replace("}", "}}")
    try:
        bpy.ops.render.render(animation=True, scene=scene.name)
    except RuntimeError as error:
        raise SceneError(f"{path} could not be written: {error}") from error
    finally:
        bpy.data.scenes.remove(scene)
    if not path.is_file():
        raise SceneError(f"Blender did not write {path}: is there room on the disk?")
