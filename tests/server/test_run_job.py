"""A job seen from the host: what the engine does once its takes are home, or cannot come home."""

from __future__ import annotations

import threading

import pytest
from animatic.blender_addon.errors import AnimaticError, Cancelled
from animatic.blender_addon.link.client import EngineGone
from animatic.blender_addon.link.job import run_job
from animatic.blender_addon.link.progress import Progress
from animatic.blender_addon.shot.take_folder import OutputFolder

from .conftest import make_request


@pytest.fixture
def folder(tmp_path):
    with OutputFolder.prepare(tmp_path / "shot") as prepared:
        yield prepared
        prepared.discard()


def progress() -> Progress:
    return Progress(lambda event: None, threading.Event())


def test_the_engine_forgets_what_is_home(client, folder):
    before = client.jobs()
    takes = run_job(client, make_request(seeds=(1, 2)), [], folder, progress())
    assert [take["seed"] for take in takes] == [1, 2]
    assert len(list(folder.staging.rglob("frames/*.png"))) == 4
    assert client.jobs() == before


def test_takes_that_cannot_be_written_stop_the_engine(client, folder, monkeypatch):
    def full(*_arguments):
        raise AnimaticError("No space left on the disk.")

    monkeypatch.setattr(client, "download", full)
    with pytest.raises(AnimaticError, match="No space"):
        run_job(client, make_request(seeds=(1, 2), steps=100), [], folder, progress())
    last = list(client.events(client.jobs()[-1]["id"]))[-1]
    assert last["data"]["state"] == "cancelled"


def test_a_cancel_that_is_lost_is_asked_again(client, folder, monkeypatch):
    cancel, tried = client.cancel, []

    def lost_once(job: str):
        tried.append(job)
        if len(tried) == 1:
            raise EngineGone("The connection broke.")
        return cancel(job)

    monkeypatch.setattr(client, "cancel", lost_once)
    asked = progress()
    asked.cancelled.set()
    with pytest.raises(Cancelled):
        run_job(client, make_request(steps=150), [], folder, asked)
    assert len(tried) == 2
