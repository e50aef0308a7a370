"""Guides of several kinds in one request: read from words, refused in sentences, put together."""

from __future__ import annotations

import pytest
from animatic.blender_addon.shot.also_guides import (
    AlsoGuide,
    also_controls,
    check_also,
    merged,
    parse_also,
)
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.request import Steering, build_request

ENCODERS = {"depth": ("sparse", "image"), "lineart": ("sparse",)}


def test_words_become_a_guide():
    assert parse_also("lineart:all") == AlsoGuide("lineart", "all")
    assert parse_also("depth/image@0.5:every:8") == AlsoGuide("depth", "every:8", 0.5, "image")
    assert parse_also("render:1,12@0.2") == AlsoGuide("render", "1,12@0.2")
    for wrong in (
        "lineart",
        "lines:all",
        "depth/dense:all",
        "depth@x:all",
        "depth@3:all",
        "depth:",
    ):
        with pytest.raises(ShotError, match=r"is not GUIDE\[/ENCODER\]\[@STRENGTH\]:KEYFRAMES"):
            parse_also(wrong)


def test_what_the_model_cannot_take_at_once_is_a_sentence():
    own = AlsoGuide("depth", "camera")
    check_also([own, AlsoGuide("depth", "all", encoder="image")], ENCODERS, "small")
    for also, sentence in (
        (AlsoGuide("render", "all"), "small has no control encoder for the guide 'render'"),
        (AlsoGuide("lineart", "all", encoder="image"), "no image encoder for the guide 'lineart'"),
        (AlsoGuide("depth", "all", encoder="sparse"), "asked for twice with one encoder"),
        (AlsoGuide("lineart", "every:0"), "is not every:N"),
    ):
        with pytest.raises(ShotError, match=sentence):
            check_also([own, also], ENCODERS, "small")


def rendered(guide: str, frames: tuple[int, ...], warnings: list[str]) -> dict:
    """What the guides task gives, in short."""
    return {
        "shot": {"clip": {"frames": 8, "fps": "8", "width": 64, "height": 64}},
        "guides": [
            {"guide": guide, "clip_frame": k, "sha256": f"{guide[0]}{k}", "file": f"{guide}_{k}"}
            for k in frames
        ],
        "keyframes": [{"asked": str(k + 1), "clip_frame": k, "kept": True} for k in frames],
        "depth": {"near": 1.0} if guide == "depth" else None,
        "warnings": warnings,
    }


def test_each_kind_has_its_own_keyframes_strengths_and_encoder():
    also = (AlsoGuide("depth", "1,8@0.25", 0.5, "image"), AlsoGuide("lineart", "all"))
    shot = merged(
        rendered("depth", (0, 4), ["a"]),
        [rendered("depth", (0, 7), ["a"]), rendered("lineart", (3,), ["b"])],
    )
    assert shot["warnings"] == ["a", "b"]
    steering = Steering(blur=2, end=0.5, encoder="sparse")
    usual = {"negative_prompt": "", "checkpoint": {"name": "small", "sha256": None}, "seeds": [1]}
    request = build_request(
        shot, prompt="x", steps=4, guidance=7, strength=1.5, steering=steering, **usual
    )
    controls = request["controls"] + also_controls(shot, also, steering)

    def keyed(*entries: tuple[int, str, float]) -> list[dict]:
        return [{"clip_frame": k, "sha256": sha, "strength": s} for k, sha, s in entries]

    assert controls == [
        {"guide": "depth", "strength": 1.5, "keyframes": keyed((0, "d0", 1.0), (4, "d4", 1.0)),
         "encoder": "sparse", "blur": 2, "end": 0.5},
        {"guide": "depth", "strength": 0.5, "keyframes": keyed((0, "d0", 1.0), (7, "d7", 0.25)),
         "encoder": "image", "blur": 2, "end": 0.5},
        {"guide": "lineart", "strength": 1.0, "keyframes": keyed((3, "l3", 1.0)), "end": 0.5},
    ]  # fmt: skip
