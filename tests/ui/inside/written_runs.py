"""Runs on disk as the engine leaves them, small, with pictures that tell which they are."""

from __future__ import annotations

import json
from pathlib import Path

import harness
import numpy as np

BITS, SIDE = 8, 64
SHOT = {
    "name": "Scene", "scene": "Scene", "camera": "Camera", "start": 1, "end": 24,
    "scene_fps": "24", "film": {"width": 16, "height": 16}, "note": "",
    "clip": {"frames": 4, "fps": "8", "width": 64, "height": 64},
    "frame_map": [k // 6 for k in range(24)],
}  # fmt: skip


def picture(number: int) -> np.ndarray:
    """A picture that says ``number``, 0 to 255, in bars: uint8 [64, 64, 3]."""
    bars = [230 if number >> bit & 1 else 20 for bit in range(BITS)]
    row = np.repeat(np.array(bars, np.uint8), SIDE // BITS)
    return np.repeat(np.tile(row, (SIDE, 1))[..., None], 3, axis=2)


def number_in(shown: np.ndarray) -> int:
    """The number that a picture of any size says."""
    row = shown[shown.shape[0] // 2, :, 0].astype(int)
    width = len(row) // BITS
    return sum((row[bit * width + width // 2] > 125) << bit for bit in range(BITS))


def write_run(name: str, seeds: list[int], shot: dict, first: int = 0, **asked: object) -> Path:
    """Write a run of ``shot``; its first take's pictures say ``first`` and up. Returns its folder.

    ``asked`` are arguments of build_request, or changes of its sampling by a ``sampling``.
    """
    request, png = harness.module("shot.request"), harness.module("shot.png")
    run = harness.SCRATCH / "animatic" / name
    guides = [{"guide": "lineart", "clip_frame": k, "sha256": "a" * 64} for k in (0, 2)]
    keyframes = [{"asked": str(1 + 3 * k), "clip_frame": k, "kept": True} for k in (0, 2)]
    sampling = asked.pop("sampling", {})
    usual = {
        "prompt": name, "negative_prompt": "blur", "steps": 8, "guidance": 2.0, "strength": 0.8,
        "strengths": {7: 0.5}, "checkpoint": {"name": "blockout-mini", "sha256": None},
    }  # fmt: skip
    made = request.build_request(
        {"shot": shot, "guides": guides, "keyframes": keyframes, "depth": None},
        seeds=seeds,
        **(usual | asked),
    )
    made["sampling"] |= sampling
    for index, seed in enumerate(seeds):
        folder = run if index == 0 else run / f"take-{index + 1:02d}"
        (folder / "frames").mkdir(parents=True)
        for k in range(shot["clip"]["frames"]):
            number = first + index * shot["clip"]["frames"] + k
            png.write_png(folder / "frames" / f"{k + 1:04d}.png", picture(number))
        take = {"schema": 1, "seed": seed, "request_sha256": request.request_hash(made)}
        (folder / "take.json").write_text(json.dumps(take))
    (run / "request.json").write_bytes(request.canonical_json(made))
    return run


def as_draft() -> dict:
    """What ``write_run`` is asked for a run as blockout-mini makes a draft with words to avoid."""
    draft = harness.module("ui.presets").QUALITIES["draft"]
    mini = harness.module("ui.asked").find_model("blockout-mini")
    level = harness.module("link.quality").level_for(draft, mini, guided=True)
    usual = {"steps": level.steps, "guidance": level.guidance}
    return {**usual, "sampling": {"schedule": level.schedule}}
