"""A reference, a first picture, an image ControlNet and a LoRA, from the flags to the same bits."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.link.generate import GenerateSettings, Generation, Host
from animatic.blender_addon.shot.own_pictures import OwnPictures
from animatic.blender_addon.shot.png import write_png
from animatic.blender_addon.shot.request import Steering

from .conftest import ENGINE_PYTHON, ROOT, run

ADD_PARTS = ROOT / "tests" / "engine" / "image_parts.py"
WRITE_LORA = """
import sys, torch
from safetensors.torch import save_file
torch.manual_seed(0)
layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
down, up = f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"
save_file({down: torch.randn(2, 32), up: torch.randn(32, 2)}, sys.argv[1])
"""


@pytest.fixture(scope="module")
def equipped(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder whose ``tiny`` has the parts that may be added, and a LoRA beside it."""
    folder = tmp_path_factory.mktemp("equipped")
    shutil.copytree(models / "tiny", folder / "tiny")
    (folder / "loras").mkdir()
    for arguments in (
        [str(ADD_PARTS), str(folder / "tiny")],
        ["-c", WRITE_LORA, str(folder / "loras" / "film.safetensors")],
    ):
        subprocess.run([str(ENGINE_PYTHON), *arguments], check=True, capture_output=True)
    return folder


def test_all_of_them_and_the_same_bits_again(scenes, equipped, tmp_path):
    picture = tmp_path / "a@picture.png"
    write_png(picture, np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8))
    render = [
        "render", scenes(), "--prompt", "a red box", "--model", "tiny", "--models", equipped,
        "--steps", 2, "--frames", 3,
    ]  # fmt: skip
    out = tmp_path / "all"
    result = run(
        *render, "--encoder", "image", "--reference", f"{picture}@0.5", "--first-picture", picture,
        "--lora", "film", "--lora", "film.safetensors@-0.5", "--also", "depth/sparse:1",
        "--out", out, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert {"guides/reference.png", "guides/first.png"} <= set(result.summary["files"])
    request = json.loads((out / "request.json").read_text())
    assert request["controls"][0]["encoder"] == "image"
    assert request["image_prompt"]["scale"] == 0.5
    # one distance range for both kinds of depth: what they share is one picture
    both = [control["keyframes"][0]["sha256"] for control in request["controls"]]
    assert both[0] == both[1]
    assert [(lora["name"], lora["scale"]) for lora in request["loras"]] == [
        ("film", 1.0),
        ("film.safetensors", -0.5),
    ]
    assert all(len(lora["sha256"]) == 64 for lora in request["loras"])
    take = json.loads((out / "take.json").read_text())
    assert take["plan"]["parts"].keys() == {
        "controlnet_depth", "image_encoder", "ip_adapter.safetensors",
    }  # fmt: skip
    again = tmp_path / "again"
    result = run("generate", out / "take.json", "--models", equipped, "--out", again)
    assert result.code == 0, result.err
    assert json.loads((again / "take.json").read_text())["frames"] == take["frames"]
    assert (out / "guides" / "first.png").read_bytes() == picture.read_bytes()
    assert "The first picture is 160x90 pixels, of another shape" in result.err


def test_what_the_model_lacks_is_told_before_anything_starts(scenes, equipped, tmp_path):
    host, events = Host(models=(equipped,)), []
    for asked, sentence in (
        ({"steering": Steering(encoder="image"), "guide": "lineart"}, "no image encoder for the"),
        ({"steering": Steering(loras=(("grain", 1.0),))}, "no LoRA 'grain' .*; there are: film"),
        ({"guidance_end": 0.0}, "guidance would end after 0 of the steps"),
        ({"pictures": OwnPictures(reference=tmp_path / "no.png")}, "cannot be read"),
        ({"pictures": OwnPictures(reference=scenes())}, "neither PNG, JPEG"),
    ):
        settings = GenerateSettings(
            blend=scenes(), out=tmp_path / "out", prompt="x", model="tiny", **asked
        )
        with pytest.raises(AnimaticError, match=sentence):
            Generation(settings, host).run(events.append)
    assert events == []
    assert not (tmp_path / "out").exists()
