"""A disk that fills up, goes away or changes costs the jobs it hits, and not the queue."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from animatic.blender_addon.link.client import EngineRefused
from animatic.blender_addon.link.engine_process import EngineProcess
from animatic.server.catalogue import Catalogue
from animatic.server.store import BlobWriter

from .conftest import FAULT_ENGINE, HERE, make_request, write_guide
from .test_faults import wait_for
from .test_protocol import control

SENTENCE = "The engine could not read or write a file"
posix = pytest.mark.skipif(os.name == "nt", reason="signals, links")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_the_queue_waits_for_room_on_the_disk(launch, tmp_path):
    import resource

    with launch(tmp_path / "data") as engine:
        client = engine.client()
        wait_for(client, client.submit(make_request()), "done")
        hit = client.submit(make_request(steps=100))
        waiting = client.submit(make_request(steps=1))
        wait_for(client, hit, "running")
        size = (tmp_path / "data" / "jobs.sqlite-wal").stat().st_size
        room = resource.prlimit(engine.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, (size, room[1]))
        deadline = time.monotonic() + 8
        while client.health()["worker"] != "dead":  # what nobody can enter is not worked on
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(EngineRefused, match=SENTENCE):
            client.cancel(waiting)
        resource.prlimit(engine.pid, resource.RLIMIT_FSIZE, room)
        assert SENTENCE in wait_for(client, hit, "failed")["error"]
        assert wait_for(client, waiting, "done")["takes"]


@posix
def test_a_models_folder_that_goes_away_costs_the_jobs_that_need_it(tmp_path):
    models, away = tmp_path / "models", tmp_path / "away"
    (models / "tiny").mkdir(parents=True)
    (models / "tiny" / "animatic.json").write_text("{}")
    here = {"PYTHONPATH": str(HERE)}
    with EngineProcess([models], arguments=FAULT_ENGINE, environment=here) as engine:
        client = engine.client()
        running = client.submit(make_request(steps=20))
        failing = client.submit(make_request())
        wait_for(client, running, "running")
        models.rename(away)
        models.symlink_to("a" * 300)  # the system refuses it, as a share that has gone
        assert wait_for(client, running, "done")["takes"]
        assert SENTENCE in wait_for(client, failing, "failed")["error"]
        with pytest.raises(EngineRefused, match=SENTENCE):
            client.submit(make_request())
        models.unlink()
        away.rename(models)
        wait_for(client, client.submit(make_request()), "done")


def test_a_download_beside_the_models_disturbs_nobody(tmp_path):
    (tmp_path / "tiny" / "loras").mkdir(parents=True)
    (tmp_path / "tiny" / "animatic.json").write_text("{}")
    over = threading.Event()

    def download() -> None:
        for number in range(1_000_000):
            part = tmp_path / "tiny" / "loras" / f"{number % 7}.part"
            part.write_text("x")
            part.unlink()
            if over.is_set():
                return

    class Worker:
        async def describe(self, folder: Path) -> dict:
            return {"description": {"name": folder.name, "sha256": "0" * 64}}

    async def ask() -> None:
        catalogue = Catalogue([tmp_path])
        for _ in range(2000):
            assert (await catalogue.models(Worker()))["models"][0]["name"] == "tiny"

    with ThreadPoolExecutor() as threads:
        downloading = threads.submit(download)
        try:
            asyncio.run(ask())
        finally:
            over.set()
        downloading.result()


@posix
def test_guides_deleted_while_the_engine_answers_are_missed(client, models, tmp_path):
    guided = make_request(controls=control(client.upload(write_guide(tmp_path / "guide.png", 91))))
    first = client.submit(guided)
    wait_for(client, first, "done")
    worker = client.health()["worker_pid"]
    (models / "tiny" / "new.txt").write_text("")  # so that the engine is asked about it again
    os.kill(worker, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as threads:
            second = threads.submit(client.submit, guided)
            time.sleep(0.3)
            client.delete(first)
            os.kill(worker, signal.SIGCONT)
            with pytest.raises(EngineRefused, match="guides are not here"):
                second.result()
    finally:
        os.kill(worker, signal.SIGCONT)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process")
def test_a_guide_that_finds_no_room_leaves_no_part(tmp_path):
    import resource

    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = BlobWriter(tmp_path)
    writer.write(b"x" * 100)  # stays in Python's buffer until the file is closed
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, room[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            writer.discard()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []
