"""`animatic train` as a command."""

from __future__ import annotations

import signal
import subprocess
import time

from .conftest import command


def test_ending_the_command_ends_the_training(tmp_path):
    stills = tmp_path / "stills"
    run = subprocess.Popen(
        command("train", "data", "--folder", tmp_path, "--minutes", 60, "--size", "tiny"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while not list(stills.glob("*.pt")):
            assert run.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == -signal.SIGTERM
    finally:
        run.kill()
    count = len(list(stills.glob("*.pt")))
    time.sleep(8)  # a shard takes less than that, were it still at work
    assert len(list(stills.glob("*.pt"))) == count
