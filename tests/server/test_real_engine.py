"""The whole road through the socket with the real engine and a tiny untrained checkpoint."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from animatic.blender_addon.link.engine_process import EngineProcess, find_engine_python

from .conftest import make_request, write_guide

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    build = ["-m", "animatic.engine.training.architecture", "--tiny", str(folder / "tiny")]
    subprocess.run([str(find_engine_python()), *build], check=True, capture_output=True)
    with EngineProcess([folder], device="cpu") as running:
        yield running


def test_guides_to_frames_and_the_same_bits_again(engine, tmp_path):
    client = engine.client()
    (model,) = client.models()
    assert "depth" in model["guides"]
    assert (model["encoders"]["depth"], model["image_prompt"]) == (["sparse"], False)
    guides = [client.upload(write_guide(tmp_path / f"{k}.png", 60 * k)) for k in (1, 2)]
    keyframes = [
        {"clip_frame": 3 * k, "sha256": guide, "strength": 1.0} for k, guide in enumerate(guides)
    ]
    request = make_request(
        "a red box",
        seeds=(7, 8),
        steps=2,
        clip={"frames": 4, "fps": "8", "width": 64, "height": 64},
        checkpoint={"name": model["name"], "sha256": model["sha256"]},
        controls=[{"guide": "depth", "strength": 1.0, "keyframes": keyframes}],
    )
    job = client.submit(request)
    phases, previews = set(), []
    for event in client.events(job):
        if event["event"] == "phase":
            phases.add(event["data"]["phase"])
        elif event["event"] == "preview":
            previews.append(event["data"])
    assert client.job(job)["error"] is None
    assert phases == {"load", "control", "sampling", "decode"}
    assert previews
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in previews)
    take = client.download(job, 1, tmp_path / "take")
    assert take["seed"] == 8
    assert take["checkpoint"] == {"name": model["name"], "sha256": model["sha256"]}
    assert (tmp_path / "take" / "frames" / "0004.png").read_bytes().startswith(PNG)

    replay = client.submit({**request, "seeds": [8]}, plan=take["plan"])
    assert list(client.events(replay))[-1]["data"] == {"state": "done", "error": None}
    assert client.job(replay)["takes"][0]["frames"] == take["frames"]

    # torch lives in the worker alone: the service must survive what it does.
    maps = Path(f"/proc/{engine.pid}/maps")
    if maps.exists():
        assert "libtorch" not in maps.read_text()
        assert "libtorch" in Path(f"/proc/{client.health()['worker_pid']}/maps").read_text()


def test_a_replay_finds_the_checkpoint_loaded_as_it_needs_it(engine):
    client = engine.client()
    (model,) = client.models()
    request = make_request(steps=1, checkpoint={"name": model["name"], "sha256": None})
    first = client.submit(request)
    list(client.events(first))
    plan = client.job(first)["takes"][0]["plan"]
    plan["dtype"] = "bfloat16" if plan["dtype"] == "float32" else "float32"
    loads = []
    for _ in range(2):
        replay = client.submit(request, plan=plan)
        phases = [e["data"]["phase"] for e in client.events(replay) if e["event"] == "phase"]
        assert client.job(replay)["error"] is None
        loads.append("load" in phases)
    assert loads == [True, False]


def test_cancel_within_a_step(engine):
    client = engine.client()
    (model,) = client.models()
    checkpoint = {"name": model["name"], "sha256": None}
    job = client.submit(make_request(steps=150, checkpoint=checkpoint))
    steps_done = 0
    for event in client.events(job):
        if event["event"] == "phase" and event["data"]["phase"] == "sampling":
            steps_done = event["data"]["done"]
            if steps_done == 3:
                asked = time.monotonic()
                client.cancel(job)
    assert event["data"]["state"] == "cancelled"
    assert steps_done < 150
    assert time.monotonic() - asked < 3
