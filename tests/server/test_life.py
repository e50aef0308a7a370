"""Start, restart and end of the service: nothing is lost, and nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from animatic.blender_addon.link.client import EngineGone
from animatic.blender_addon.link.engine_process import (
    EngineProcess,
    EngineStartError,
    find_engine_python,
)

from .conftest import make_request, write_guide
from .test_faults import wait_for
from .test_protocol import control

posix = pytest.mark.skipif(os.name == "nt", reason="signals")

PARENT = """
import sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
from conftest import EngineProcess, FAULT_ENGINE, make_request
engine = EngineProcess([Path({models!r})], data=Path({data!r}), arguments=FAULT_ENGINE,
                       environment={{"PYTHONPATH": {here!r}}})
engine.start()
client = engine.client()
client.submit(make_request("slow", steps=150))
while client.health()["worker"] != "busy":
    time.sleep(0.02)
print(engine.pid, client.health()["worker_pid"], flush=True)
time.sleep(60)
"""


def runs(pid: int) -> bool:
    """Whether a process lives; a zombie that nobody collects does not."""
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc/self").exists():
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_all_end(*pids: int) -> None:
    deadline = time.monotonic() + 8
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.05)


@posix
@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_restart_keeps_jobs_and_takes(launch, tmp_path, end):
    with launch(tmp_path / "data") as engine:
        client = engine.client()
        guide = client.upload(write_guide(tmp_path / "guide.png", 1))
        client.upload(write_guide(tmp_path / "of_no_job.png", 2))
        done = client.submit(make_request(controls=control(guide)))
        wait_for(client, done, "done")
        hung = client.submit(make_request("hang on second", seeds=(1, 2, 3)))
        queued = client.submit(make_request(seeds=(5, 6)))
        for event in client.events(hung):
            last = event["id"]
            if event["event"] == "take":
                break
        pids = engine.pid, client.health()["worker_pid"]
        if end == "killed":
            os.kill(engine.pid, signal.SIGKILL)
            with pytest.raises(EngineGone, match="exit code -9"):
                list(client.events(hung, since=last))
    assert_all_end(*pids)
    # What a power cut may leave of a take that was being published.
    cut = tmp_path / "data" / "jobs" / hung / "takes" / "1"
    cut.mkdir()
    (cut / "take.json").write_bytes(b"")
    with launch(tmp_path / "data") as engine:
        client = engine.client()
        assert [blob.name for blob in (tmp_path / "data" / "blobs").iterdir()] == [guide]
        assert len(client.download(done, 0, tmp_path / "kept")["frames"]) == 2
        failed = client.job(hung)
        assert failed["state"] == "failed"
        assert "1 of 3 takes were finished and are kept" in failed["error"]
        assert [take["seed"] for take in failed["takes"]] == [1]
        # A client that followed the old service goes on where it was.
        assert list(client.events(hung, since=last))[-1]["event"] == "end"
        assert [take["seed"] for take in wait_for(client, queued, "done")["takes"]] == [5, 6]


@posix
def test_a_killed_parent_leaves_no_process(models, tmp_path):
    here = str(Path(__file__).parent)
    script = PARENT.format(here=here, models=str(models), data=str(tmp_path / "data"))
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert all(runs(pid) for pid in pids)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert_all_end(*pids)


def test_shutdown_request_ends_service_and_worker(launch, tmp_path):
    engine = launch(tmp_path / "data")
    engine.start()
    client = engine.client()
    wait_for(client, client.submit(make_request()), "done")
    pids = engine.pid, client.health()["worker_pid"]
    client.shutdown()
    engine._process.wait(8)
    assert_all_end(*pids)
    with pytest.raises(EngineGone, match="exit code 0"):
        client.health()
    engine.stop()


@posix
def test_a_frozen_engine_counts_as_gone(launch, tmp_path):
    with launch(tmp_path / "data") as engine:
        client = engine.client()
        client._heartbeat_limit = 1.0
        job = client.submit(make_request(steps=150))
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            with pytest.raises(EngineGone, match="does not answer"):
                list(client.events(job))
        finally:
            os.kill(engine.pid, signal.SIGCONT)


def test_a_taken_port_and_a_taken_folder_are_told(launch, service, tmp_path):
    with pytest.raises(EngineStartError, match=f"Port {service.port} cannot be used"):
        launch(tmp_path / "data", port=service.port).start()
    assert not (tmp_path / "data").exists()
    with pytest.raises(EngineStartError, match=r"Another engine service is using the data folder"):
        launch(service._data).start()
    assert service.client().health()["worker"] != "dead"


def run_service(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess:
    command = [find_engine_python(), "-m", "animatic.server", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=20)


def test_exit_codes(service, tmp_path):
    common = ("--data", tmp_path / "data", "--models", tmp_path)
    taken = run_service("--port", service.port, *common, stdin="t" * 40 + "\n")
    assert (taken.returncode, taken.stderr.count("\n")) == (3, 1)
    short = run_service(*common, stdin="short\n")
    assert (short.returncode, short.stderr.count("\n")) == (2, 1)
    held = run_service("--data", service._data, "--models", tmp_path, stdin="t" * 40 + "\n")
    assert (held.returncode, held.stderr.count("\n")) == (4, 1)
    if os.name != "nt":
        token = tmp_path / "token"
        token.write_text("t" * 40)
        token.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IROTH)
        readable = run_service(*common, "--token-file", token)
        assert (readable.returncode, "chmod 600" in readable.stderr) == (2, True)


def test_starting_tells_what_is_wrong(tmp_path):
    with pytest.raises(EngineStartError, match="not a program"):
        EngineProcess([tmp_path], python=tmp_path / "no-python").start()
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho this Python is broken\nexit 9\n")
    broken.chmod(0o755)
    with pytest.raises(EngineStartError, match="this Python is broken"):
        EngineProcess([tmp_path], python=broken).start()


def test_only_the_loopback_listens(service):
    # The whole of 127/8 is this machine: a service on 0.0.0.0 would answer here too.
    with pytest.raises(OSError):  # noqa: PT011 - refused or unreachable, by system
        socket.create_connection(("127.0.0.2", service.port), 2)
