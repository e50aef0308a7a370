"""Starts and ends child processes so that none outlives us, on every system."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path


def start(
    command: list[str], env: dict[str, str] | None = None, cwd: str | Path | None = None
) -> subprocess.Popen:
    """Start ``command`` with piped input and output (stderr merged into it).

    The child gets a session of its own: Ctrl-C in our terminal reaches us alone, so that we can
    end it in order. It reads the end of its standard input as our death.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )


def stop(process: subprocess.Popen, patience_s: float = 3.0) -> None:
    """End ``process`` and everything it started: asked first, killed after ``patience_s``."""
    for end in ("SIGTERM", "SIGKILL"):
        if process.poll() is not None:
            break
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, getattr(signal, end))
        else:
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience_s)
    if process.stdin is not None:
        # The child may be gone already, with our last words unread.
        with contextlib.suppress(OSError):
            process.stdin.close()
