"""A worker that crashes, hangs or runs out of memory costs its own job and no other."""

from __future__ import annotations

import os
import signal
import time

import pytest
from animatic.blender_addon.link.client import EngineRefused
from animatic.blender_addon.link.engine_process import EngineProcess

from .conftest import make_request


def wait_for(client, job: str, *states: str) -> dict:
    for _ in range(400):
        state = client.job(job)
        if state["state"] in states:
            return state
        time.sleep(0.025)
    raise AssertionError(f"the job is still {state['state']}")


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("crash", "crashed (SIGSEGV)"),
        ("killed", "memory ran out"),
        ("killed while it wrote", "memory ran out"),
        ("memory", "ran out of memory. Use fewer frames"),
        ("fault", "It said last: AssertionError: a bug of ours"),
        ("CUDA", "It said last: RuntimeError: CUDA error: bad address"),
        ("hang", "no sign of life for 1.5 seconds"),
    ],
)
def test_the_queue_goes_on_after(client, prompt, sentence):
    wait_for(client, client.submit(make_request()), "done")
    first_worker = client.health()["worker_pid"]
    bad = client.submit(make_request(prompt))
    good = client.submit(make_request())
    assert client.job(good)["queue_position"] == 1
    events = list(client.events(bad))
    assert events[-1]["data"]["state"] == "failed"
    assert sentence in events[-1]["data"]["error"]
    assert client.job(bad)["error"] == events[-1]["data"]["error"]
    assert wait_for(client, good, "done", "failed")["state"] == "done"
    assert client.health()["worker_pid"] != first_worker


def test_an_engine_that_cannot_start_is_told_and_not_tried_for_ever(models, tmp_path):
    with EngineProcess([models], arguments=["--engine", "no_such_engine"]) as engine:
        client = engine.client()
        with pytest.raises(EngineRefused, match="lacks no_such_engine"):
            client.submit(make_request())
        time.sleep(1)
        assert client.health()["worker"] == "dead"
        assert engine.log_tail.count("lacks no_such_engine") <= 2


def test_a_worker_that_dies_idle_costs_no_job(client):
    wait_for(client, client.submit(make_request()), "done")
    os.kill(client.health()["worker_pid"], signal.SIGTERM)
    assert wait_for(client, client.submit(make_request()), "done", "failed")["state"] == "done"


def test_a_refusal_of_the_engine_keeps_the_worker(client):
    wait_for(client, client.submit(make_request()), "done")
    worker = client.health()["worker_pid"]
    job = client.submit(make_request("refuse"))
    failed = wait_for(client, job, "failed")
    assert failed["error"] == "The weights are damaged. Install the checkpoint again."
    assert client.health()["worker_pid"] == worker


def test_cancel_stops_one_job_and_no_other(client):
    running = client.submit(make_request(steps=150))
    waiting = client.submit(make_request(steps=2))
    other = client.submit(make_request(steps=2))
    wait_for(client, running, "running")
    answer = client.cancel(waiting)
    assert (answer["cancelled"], answer["state"]) == (True, "cancelled")
    assert client.job(running)["state"] == "running"

    asked = time.monotonic()
    assert client.cancel(running)["cancelled"]
    last = list(client.events(running))[-1]
    assert last["data"]["state"] == "cancelled"
    assert time.monotonic() - asked < 0.5  # a step takes 50 ms, a whole take 7.5 s
    assert wait_for(client, other, "done")["takes"]
    assert client.job(waiting)["takes"] == []
    for job in (running, waiting, other):
        assert client.cancel(job)["cancelled"] is False
    assert client.cancel(other)["message"] == "The job is not running: it is done."


def test_cancel_frees_the_queue_from_a_job_that_hangs(client):
    hung = client.submit(make_request("hang on second", seeds=(1, 2)))
    for event in client.events(hung):
        if event["event"] == "take":
            break
    client.cancel(hung)
    state = wait_for(client, hung, "cancelled")
    assert [take["seed"] for take in state["takes"]] == [1]  # what was finished stays
    wait_for(client, client.submit(make_request()), "done")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_worker_that_takes_no_job_is_replaced(client):
    wait_for(client, client.submit(make_request()), "done")
    os.kill(client.health()["worker_pid"], signal.SIGSTOP)
    # More than the pipe and its buffer hold.
    clip = {"frames": 32, "fps": "8", "width": 64, "height": 64}
    prompts = [{"clip_frame": k, "prompt": "é" * 4000} for k in range(32)]
    job = client.submit(make_request(clip=clip, prompts=prompts))
    assert "no sign of life" in wait_for(client, job, "failed")["error"]
    wait_for(client, client.submit(make_request()), "done")
