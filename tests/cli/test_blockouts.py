"""Blender's guides of a scene are those of the ray caster, on which the models are trained.

The same blockouts (all five solids, solids that stand on others, that move, that pass through each
other, a city, a street, a room and people; zooms, pans, fog) are made by both: by the engine's
Python, and by background Blenders as the command line starts them.
"""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from animatic.blender_addon.link.background import blender_command, run_task
from animatic.blender_addon.link.progress import Progress
from animatic.blender_addon.shot.png import read_png

from .conftest import ENGINE_PYTHON

SIDE, FRAMES = 128, 2
AMID_WALLS = ("0005", "0006")  # the street and the room

RAY_CAST = """
import json, sys, numpy, torch
from animatic.engine.training.description import describe
from animatic.engine.training.guides import render
from animatic.engine.training.scenes import Blockouts, Scene, make_blockouts
torch.set_num_threads(2)
folder, side, frames = sys.argv[1], *map(int, sys.argv[2:])
times = torch.linspace(0, 1, frames)
kinds = [make_blockouts(0, 5, times, {"city": 0.15})]
kinds += [make_blockouts(1, 1, times, {place: 1.0}) for place in ("street", "room", "figures")]
scene = Scene(**{n: torch.cat([vars(k.scene)[n] for k in kinds]) for n in vars(kinds[0].scene)})
words, captions = (sum((vars(k)[n] for k in kinds), []) for n in ("words", "captions"))
blockouts = Blockouts(scene, words, captions)
# In clip 4 a cylinder is pushed into a sphere: where they meet, neither has an edge.
scene.centre[4, :, 1, 0] = scene.centre[4, :, 0, 0]
scene.centre[4, :, 1, 1] = scene.centre[4, :, 0, 1] - 0.6 * scene.half[4, 0, 1]
with open(f"{folder}/blockouts.json", "w") as file:
    json.dump(describe(blockouts), file)
made = render(scene, side)
pictures = {name: getattr(made, name).numpy() for name in ("colour", "depth", "lineart")}
numpy.savez(f"{folder}/true.npz", **pictures)
"""


def background(**task: object) -> dict:
    """Run a task in a background Blender, as the command line does."""
    return run_task(blender_command(), task, Progress(lambda _: None, threading.Event()))


@pytest.fixture(scope="module")
def blockouts(tmp_path_factory):
    """The ray caster's pictures by name, and one .blend per clip."""
    folder = tmp_path_factory.mktemp("blockouts")
    numbers = map(str, (SIDE, FRAMES))
    command = [str(ENGINE_PYTHON), "-c", RAY_CAST, str(folder), *numbers]
    subprocess.run(command, check=True, capture_output=True)
    description = str(folder / "blockouts.json")
    made = background(task="blockouts", description=description, out=str(folder / "scenes"))
    with np.load(folder / "true.npz") as true:
        return dict(true), [Path(blend) for blend in made["blends"]]


def rendered(blend: Path, guide: str) -> np.ndarray:
    """Blender's guides of all frames of a scene, [f, h, w(, 3)]."""
    out = blend.with_suffix("")
    made = background(
        task="guides",
        blend=str(blend),
        out=str(out),
        guide=guide,
        keyframes="all",
        size={"native": SIDE, "multiple": 8},
        model={"frames": FRAMES, "fps": "8"},
        lineart_width=1.5,
    )
    clip = made["shot"]["clip"]
    assert (clip["frames"], clip["fps"], clip["width"], clip["height"]) == (FRAMES, "8", SIDE, SIDE)
    return np.stack([read_png(out / entry["file"]) for entry in made["guides"]])


def thickened(mask: np.ndarray, pixels: int) -> np.ndarray:
    """``mask`` [h, w] and all that is at most ``pixels`` away from it, also diagonally."""
    padded = np.pad(mask, pixels)
    height, width = mask.shape
    shifts = range(2 * pixels + 1)
    return np.any([padded[y : y + height, x : x + width] for y in shifts for x in shifts], axis=0)


def f1(ours: np.ndarray, theirs: np.ndarray, pixels: int) -> float:
    """F1 of two pictures' lines, which match when at most ``pixels`` apart."""
    ours, theirs = ours > 127, theirs > 127
    precision = thickened(theirs, pixels)[ours].mean()
    recall = thickened(ours, pixels)[theirs].mean()
    return 2 * precision * recall / (precision + recall)


def test_depth_is_blenders(blockouts):
    true, blends = blockouts
    for blend, codes, lines in zip(blends, true["depth"], true["lineart"], strict=True):
        for ours, theirs, edges in zip(codes, rendered(blend, "depth"), lines, strict=True):
            apart = np.abs(ours - theirs.astype(int)) / 65535
            # A ray that just misses an edge sees what is far behind it.
            clear = ~thickened(edges > 0, 1)
            assert clear.mean() > 0.5
            assert apart[clear].max() < 0.002, blend.name
            assert (apart > 0.002).mean() < 0.002, blend.name


def test_lines_are_freestyles(blockouts):
    true, blends = blockouts
    for blend, pictures in zip(blends, true["lineart"], strict=True):
        for ours, theirs in zip(pictures, rendered(blend, "lineart"), strict=True):
            if blend.stem in AMID_WALLS:
                # Freestyle also draws the horizon, across walls that go on behind the camera.
                assert thickened(theirs > 127, 1)[ours > 127].mean() > 0.97, blend.name
                continue
            assert f1(ours, theirs, 1) > 0.97, blend.name
            # As wide, and antialiased as much.
            assert ours.mean() == pytest.approx(theirs.mean(), rel=0.05), blend.name


def test_colours_are_the_ray_casters(blockouts):
    true, blends = blockouts
    theirs = rendered(blends[1], "render").astype(int)
    apart = np.abs(true["colour"][1].transpose(0, 2, 3, 1) - theirs)
    assert apart.mean() < 1.5
    assert np.percentile(apart, 90) <= 2
