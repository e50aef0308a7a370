"""Takes whose pictures tell which they are, and what an edit of them shows."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import bpy
import numpy as np
from animatic.blender_addon.scene import compat
from animatic.blender_addon.shot.png import read_png, write_png
from animatic.blender_addon.shot.timing import ClipTiming

FILM = (128, 72)


def clip_colour(k: int, take: int = 0) -> np.ndarray:
    """A colour that tells clip frame ``k`` of a take from every other."""
    return np.array((20 + 28 * k, 200 - 25 * k, 255 if take else 60), np.uint8)


def make_takes(folder: Path, frames: int, count: int = 2) -> list[list[str]]:
    """Frames of one colour with white corners, half the film's size and not its shape."""
    takes = []
    for take in range(count):
        files = []
        for k in range(frames):
            picture = np.empty((40, 64, 3), np.uint8)
            picture[:] = clip_colour(k, take)
            for rows, columns in product((slice(4), slice(-4, None)), repeat=2):
                picture[rows, columns] = 255
            file = folder / "takes" / str(take + 1) / f"{k + 1:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_png(file, picture)
            files.append(str(file))
        takes.append(files)
    return takes


def shot_of(scene: bpy.types.Scene, timing: ClipTiming, film: tuple[int, int] = FILM) -> dict:
    """The shot object of all frames of ``timing``."""
    return {
        "name": "Shot",
        "scene": scene.name,
        "camera": "Camera",
        "start": timing.start,
        "end": timing.end,
        "film": {"width": film[0], "height": film[1]},
        "frame_map": timing.frame_map(),
    }


def render(scene_name: str, frame: int, path: Path) -> np.ndarray:
    """The picture that a scene renders, int [height, width, 3]."""
    scene = bpy.data.scenes[scene_name]
    compat.set_still_format(scene.render.image_settings, "PNG", "RGB", "8")
    scene.render.filepath = str(path)
    bpy.context.window.scene = scene
    scene.frame_set(frame)
    bpy.ops.render.render(write_still=True)
    return read_png(path)[..., :3].astype(int)
