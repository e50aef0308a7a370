"""`animatic train` as a command."""

from __future__ import annotations

import signal
import subprocess
import time

from .conftest import command
from .test_render import processes_of


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
    assert processes_of(tmp_path) == {}
