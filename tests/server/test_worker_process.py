"""A worker that does not let go of its process or its pipes holds up nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from animatic.server import worker_process
from animatic.server.worker_process import WorkerDied, WorkerProcess

# Its child keeps the log open.
WORKER = """
import json, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(60)"],
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
)
print(json.dumps({"type": "ready", "device": str(child.pid)}), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("fault", ["killed", "dies", "stays"])
def test_a_worker_that_does_not_let_go_is_given_up(monkeypatch, fault):
    monkeypatch.setattr(worker_process, "LAST_WORDS_SECONDS", 0.2)
    monkeypatch.setattr(worker_process, "KILL_SECONDS", 0.2 if fault == "stays" else 30)

    async def live() -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER), stdin=pipe, stdout=pipe, stderr=pipe
        )
        worker = WorkerProcess(process)
        ready = await worker.messages.get()
        asked = asyncio.create_task(worker.describe(Path("a")))
        await asyncio.sleep(0)
        began = time.monotonic()
        try:
            if fault == "dies":
                os.kill(worker.pid, signal.SIGKILL)
            else:
                if fault == "stays":  # as a process that waits in a driver
                    monkeypatch.setattr(process, "kill", lambda: None)
                await worker.kill()
                assert worker.ended.is_set()
            assert (await asyncio.wait_for(worker.messages.get(), 10))["type"] == "died"
            sentence = "restart the computer" if fault == "stays" else "killed by the system"
            with pytest.raises(WorkerDied, match=sentence):
                await asyncio.wait_for(asked, 10)
            await worker.stop()
            assert time.monotonic() - began < 10
        finally:
            for pid in (int(ready["device"]), worker.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process._transport.close()  # or its finaliser would, in some other test
            await asyncio.sleep(0.1)

    asyncio.run(live())
