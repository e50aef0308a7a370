"""What may be asked for beyond the prompt reaches the request, and only where it is asked."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import animatic
import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.request import Steering, build_request, request_hash

SCHEMA = Path(animatic.__file__).parent / "presets" / "schema" / "request.schema.json"
SHOT = {
    "shot": {
        "name": "City",
        "start": 1,
        "end": 48,
        "scene_fps": "24",
        "clip": {"frames": 16, "fps": "8", "width": 168, "height": 96},
    },
    "keyframes": [],
    "guides": [{"guide": "depth", "clip_frame": 0, "sha256": "a" * 64}],
    "depth": None,
}
ASKED = {
    "prompt": "a city at noon",
    "negative_prompt": "",
    "checkpoint": {"name": "blockout-mini", "sha256": None},
    "seeds": [1],
    "steps": 20,
    "guidance": 7,
    "strength": 1,
}


def request_of(**steering):
    return build_request(SHOT, **ASKED, steering=Steering(**steering))


def test_all_of_it_holds_to_the_schema():
    prompts = ((Fraction(24), "dusk"), (Fraction(13), "sunset"))
    request = request_of(temporal=2, guidance_end=0.5, blur=3, start=0, end=0.6, prompts=prompts)
    assert request["sampling"] == {
        "steps": 20,
        "guidance": 7.0,
        "temporal": 2.0,
        "guidance_end": 0.5,
    }
    assert {name: request["controls"][0].get(name) for name in ("blur", "start", "end")} == {
        "blur": 3,
        "start": None,
        "end": 0.6,
    }
    assert request["prompts"] == [
        {"clip_frame": 4, "prompt": "sunset"},
        {"clip_frame": 8, "prompt": "dusk"},
    ]
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(request, json.loads(SCHEMA.read_text()))


def test_encoder_and_loras_are_named():
    steering = Steering(encoder="image", loras=(("film", 1), ("roll", -0.5)))
    request = build_request(SHOT, **ASKED, steering=steering, lora_hashes={"film": "b" * 64})
    assert request["controls"][0]["encoder"] == "image"
    assert request["loras"] == [
        {"name": "film", "sha256": "b" * 64, "scale": 1.0},
        {"name": "roll", "sha256": None, "scale": -0.5},
    ]
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(request, json.loads(SCHEMA.read_text()))


def test_nothing_asked_is_the_request_of_before():
    plain = build_request(SHOT, **ASKED)
    assert request_hash(request_of(temporal=1, blur=0, start=0, end=1)) == request_hash(plain)
    assert request_hash(request_of(temporal=2)) == request_hash(request_of(temporal=2.0))
    assert set(plain) - {"shot"} == {
        "schema", "prompt", "negative_prompt", "checkpoint", "loras", "clip", "controls",
        "sampling", "seeds",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("steering", "sentence"),
    [
        ({"temporal": 5}, "temporal guidance is 5: set it from 0 to 4"),
        ({"guidance_end": 0}, "guidance would end after 0 of the steps"),
        ({"guidance_end": float("nan")}, "guidance would end after nan of the steps"),
        ({"blur": 5}, "blur is 5"),
        ({"end": float("nan")}, "end of the guides is nan"),
        ({"encoder": "dense"}, "'dense' is no encoder: use sparse or image"),
        ({"loras": (("film", 3.0),)}, "scale of the LoRA film is 3.0: set it from -2 to 2"),
        ({"loras": (("film", 1.0),) * 9}, "9 LoRAs were asked for"),
        ({"start": 0.5, "end": 0.5}, "act from 0.5 to 0.5 of the steps, which is never"),
        ({"prompts": ((Fraction(49), "x"),)}, "Outside the shot's frames 1 to 48: 49"),
        ({"prompts": ((Fraction(13), "x"), (Fraction(14), "y"))}, "prompt at frame 14 shares"),
        ({"prompts": ((Fraction(13), "x" * 4001),)}, "prompt at frame 13 has 4001 characters"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(steering, sentence):
    with pytest.raises(ShotError, match=sentence):
        request_of(**steering)


def test_only_depth_can_be_blurred():
    with pytest.raises(ShotError, match="the guide here is lineart"):
        Steering(blur=1).check("lineart")
