"""Ray-cast blockouts as plain JSON, from which Blender builds the same scenes.

    python -m animatic.engine.training.description blockouts.json --seed 1 --clips 6 --frames 16

The other side is blender_addon/scene/blockout.py. Lengths are metres, colours linear RGB, axes
Blender's; a matrix is a list of rows. ``clips`` holds one entry per clip:

    {"name", "caption", "fps", "frames",
     "objects": [{"kind", "colour", "half": [x, y, z], "rotation": 3x3, "centre": [xyz per frame]}],
     "ground": {"colour", "half_side"}, "sun": {"direction": towards it, "colour"},
     "sky": {"light", "horizon", "zenith"}, "fog": share of light lost per metre,
     "camera": {"location": [per frame], "rotation": [3x3 per frame, columns right, up, back],
                "focal": [mm per frame]}}

Kinds and shapes are those of raycast.Scene: inside [-1, 1]^3, then scaled by ``half``.
"""

import argparse
import json
from pathlib import Path

import torch

from .captions import SHAPE_NAMES
from .raycast import Scene
from .scenes import Blockouts, make_blockouts

SCHEMA = 1


def describe(blockouts: Blockouts, fps: int = 8) -> dict:
    """The description of ``blockouts``, whose clips are named 0000, 0001, ...; ``fps`` a second."""
    captions = enumerate(blockouts.captions)
    clips = [_clip(blockouts.scene, index, text, fps) for index, text in captions]
    return {"schema": SCHEMA, "clips": clips}


def _clip(scene: Scene, clip: int, caption: str, fps: int) -> dict:
    kinds = scene.kind[clip].tolist()
    objects = [
        {
            "kind": SHAPE_NAMES[kind],
            "colour": scene.object_colour[clip, slot].tolist(),
            "half": scene.half[clip, slot].tolist(),
            "rotation": scene.rotation[clip, slot].tolist(),
            "centre": scene.centre[clip, :, slot].tolist(),
        }
        for slot, kind in enumerate(kinds)
        if kind >= 0
    ]
    return {
        "name": f"{clip:04d}",
        "caption": caption,
        "fps": fps,
        "frames": scene.camera.shape[1],
        "objects": objects,
        "ground": {
            "colour": scene.ground_colour[clip].tolist(),
            "half_side": scene.ground_size[clip].item(),
        },
        "sun": {"direction": scene.sun[clip].tolist(), "colour": scene.sun_colour[clip].tolist()},
        "sky": {
            "light": scene.sky_light[clip].tolist(),
            "horizon": scene.horizon[clip].tolist(),
            "zenith": scene.zenith[clip].tolist(),
        },
        "fog": scene.fog[clip].item(),
        "camera": {
            "location": scene.camera[clip].tolist(),
            "rotation": scene.camera_rotation[clip].tolist(),
            "focal": scene.focal[clip].tolist(),
        },
    }


def _main() -> None:
    parser = argparse.ArgumentParser(description="Describe random blockouts.")
    parser.add_argument("file", type=Path, help="the JSON file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--frames", type=int, default=16)
    options = parser.parse_args()
    times = torch.linspace(0, 1, options.frames)
    described = describe(make_blockouts(options.seed, options.clips, times))
    options.file.write_text(json.dumps(described), encoding="utf-8")


if __name__ == "__main__":
    _main()
