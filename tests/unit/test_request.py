"""A request says everything, holds to its schema, and hashes to one value everywhere."""

from __future__ import annotations

import copy
import json
from fractions import Fraction
from pathlib import Path

import animatic
import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.report import shot_sentences
from animatic.blender_addon.shot.request import (
    build_request,
    canonical_json,
    request_hash,
    seeds_for,
)

SCHEMA = Path(animatic.__file__).parent / "presets" / "schema" / "request.schema.json"
HASHES = ["a" * 64, "b" * 64]
SHOT = {
    "shot": {
        "name": "City",
        "scene": "Scene",
        "camera": "Camera",
        "start": 1,
        "end": 48,
        "scene_fps": "24000/1001",
        "film": {"width": 1920, "height": 1080},
        "clip": {"frames": 16, "fps": "8", "width": 168, "height": 96},
        "frame_map": [k for k in range(16) for _ in range(3)],
        "note": "",
    },
    "shots": [],
    "keyframes": [
        {"asked": "1", "clip_frame": 0, "scene_time": "1", "shift": "0", "kept": True,
         "reason": ""},
        {"asked": "2", "clip_frame": 0, "scene_time": "1", "shift": "-1", "kept": False,
         "reason": "Keyframe 2 is left out."},
        {"asked": "25/2", "clip_frame": 4, "scene_time": "13003/1001", "shift": "981/2002",
         "kept": True, "reason": ""},
    ],
    "guides": [
        {"guide": "depth", "clip_frame": 4, "scene_time": "13", "file": "x", "sha256": HASHES[1]},
        {"guide": "depth", "clip_frame": 0, "scene_time": "1", "file": "x", "sha256": HASHES[0]},
    ],
    "depth": {"near": 2.0, "far": 31.4159, "method": "cycles", "encoding": "disparity16"},
    "warnings": [],
}  # fmt: skip
ASKED = {
    "prompt": "a wet city at dusk, café",
    "negative_prompt": "",
    "checkpoint": {"name": "blockout-mini", "sha256": None},
    "seeds": [1, 2],
    "steps": 20,
    "guidance": 7,
    "strength": 1,
}


def test_a_request_holds_to_the_schema_and_names_no_path():
    request = build_request(SHOT, **ASKED)
    keyframes = request["controls"][0]["keyframes"]
    assert [(k["clip_frame"], k["sha256"]) for k in keyframes] == [(0, HASHES[0]), (4, HASHES[1])]
    assert request["shot"]["depth"]["far"] == 31.4159
    assert "/" not in json.dumps({**request, "shot": None})
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(request, json.loads(SCHEMA.read_text()))


def test_a_keyframe_has_the_strength_of_the_frame_that_was_asked_for():
    strengths = {Fraction(25, 2): 0.5, Fraction(2): 0.1}  # frame 2 is left out
    request = build_request(SHOT, **ASKED, strengths=strengths)
    assert [k["strength"] for k in request["controls"][0]["keyframes"]] == [1.0, 0.5]


def test_the_hash_is_of_the_content_and_survives_the_disk():
    request = build_request(SHOT, **ASKED)
    assert request_hash(json.loads(canonical_json(request))) == request_hash(request)
    assert request_hash(dict(reversed(request.items()))) == request_hash(request)
    assert request_hash({**request, "prompt": "b"}) != request_hash(request)
    # Whether a number was typed as 7 or as 7.0 must not make another request.
    assert request_hash(build_request(SHOT, **{**ASKED, "guidance": 7.0})) == request_hash(request)
    assert canonical_json({"b": "é", "a": [1, 0.5]}) == '{"a":[1,0.5],"b":"é"}'.encode()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"prompt": "x" * 4001}, "4001 characters"),
        ({"negative_prompt": "\udcff"}, "negative prompt holds bytes"),
        ({"steps": 0}, "from 1 to 150"),
        ({"guidance": 0.5}, "guidance is 0.5"),
        ({"strength": float("nan")}, "strength is nan"),
    ],
)
def test_numbers_out_of_range_are_sentences(change, word):
    with pytest.raises(ShotError, match=word):
        build_request(SHOT, **{**ASKED, **change})


def test_a_shot_without_guides_is_refused():
    with pytest.raises(ShotError, match="no guides"):
        build_request({**SHOT, "guides": []}, **ASKED)


def test_seeds_count_up_and_wrap():
    assert seeds_for(7, 3) == [7, 8, 9]
    assert seeds_for(2**32 - 1, 2) == [2**32 - 1, 0]
    for seed, takes in ((-1, 1), (2**32, 1), (1, 0), (1, 65)):
        with pytest.raises(ShotError):
            seeds_for(seed, takes)


def test_the_report_tells_what_moved_and_what_was_left_out():
    result = copy.deepcopy(SHOT)
    result["shot"]["note"] = "The shot is longer."
    assert shot_sentences(result) == [
        "Shot City: scene frames 1 to 48 at 23.976 per second; the clip has 16 frames of 168x96 "
        "pixels at 8 per second.",
        "The shot is longer.",
        "Keyframes: 1 on clip frame 1; 12.5 on clip frame 5 (0.49 frames later).",
        "Keyframe 2 is left out.",
        "Depth from 2 to 31.42 units, by cycles.",
    ]
