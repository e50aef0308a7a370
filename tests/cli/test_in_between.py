"""In-between frames of takes that no Blender saw: along optical flow, at any rate."""

from __future__ import annotations

import json
import threading
from fractions import Fraction

import numpy as np
import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.link.in_between import add_in_between
from animatic.blender_addon.link.progress import Progress
from animatic.blender_addon.link.replay import shot_of
from animatic.blender_addon.shot.png import read_png, write_png

from .conftest import ENGINE_PYTHON

CLIP = {"frames": 3, "fps": "8", "width": 64, "height": 64}


def test_a_request_without_a_scene_plays_at_any_rate(tmp_path):
    shot = shot_of({"clip": CLIP}, Fraction(16))
    (tmp_path / "guides").mkdir()
    (tmp_path / "frames").mkdir()
    coarse = np.random.default_rng(0).integers(60, 200, (12, 24, 3), dtype=np.uint8)
    wall = coarse.repeat(8, axis=0).repeat(8, axis=1)
    for k in range(3):
        write_png(tmp_path / "frames" / f"{k + 1:04d}.png", wall[:64, 8 * k : 8 * k + 64])
    take = {"id": "x", "notes": []}
    progress = Progress(lambda event: None, threading.Event())
    tools = (None, progress, ENGINE_PYTHON)
    (made,) = add_in_between(shot, tmp_path / "guides", [take], [tmp_path], *tools)
    assert made["in_between"] == {"frames": "frames-16"}
    assert json.loads((tmp_path / "take.json").read_text()) == made
    files = sorted((tmp_path / "frames-16").iterdir())
    assert len(files) == 6
    assert files[2].read_bytes() == (tmp_path / "frames" / "0002.png").read_bytes()
    between = read_png(files[1]).astype(int)
    # Half way, not half of each: edges stay as sharp as they are.
    assert np.abs(between - wall[:64, 4:68])[8:-8, 8:-8].mean() < 3
    # An engine that cannot measure it: the take is kept, and tells.
    for path in files:
        path.unlink()
    (tmp_path / "frames-16").rmdir()
    tools = (None, progress, tmp_path / "no" / "python")
    (made,) = add_in_between(shot, tmp_path / "guides", [take], [tmp_path], *tools)
    assert "is not a program to run" in made["notes"][0]
    # A Blender that cannot write the video: the frames are kept.
    for path in (tmp_path / "frames-16").iterdir():
        path.unlink()
    (tmp_path / "frames-16").rmdir()
    tools = (["false"], progress, ENGINE_PYTHON)
    (made,) = add_in_between(shot, tmp_path / "guides", [take], [tmp_path], *tools)
    assert made["in_between"] == {"frames": "frames-16"}
    assert "their video is not" in made["notes"][0]
    assert len(list((tmp_path / "frames-16").iterdir())) == 6


def test_the_rate_is_the_scenes_or_the_one_that_is_asked_for():
    scene = {"start": 5, "end": 12, "scene_fps": "25", "clip": CLIP}
    assert shot_of({"clip": CLIP, "shot": scene}, None) == scene
    assert shot_of({"clip": CLIP, "shot": scene}, Fraction(0)) == {**scene, "in_between": True}
    asked = shot_of({"clip": CLIP, "shot": scene}, Fraction(24))
    assert (asked["start"], asked["end"], asked["scene_fps"]) == (1, 9, "24")
    assert shot_of({"clip": CLIP}, Fraction(0))["scene_fps"] == "24"
    with pytest.raises(
        AnimaticError, match="The clip has 8 frames per second: at 8 there are none"
    ):
        shot_of({"clip": CLIP}, Fraction(8))
