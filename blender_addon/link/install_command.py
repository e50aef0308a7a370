"""Runs one command of an installation: its lines are told and kept, cancelling ends its tree."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from ..errors import AnimaticError, Cancelled
from . import child_process

# What would lead another Python, or pip, to another place than the environment being made.
_FOREIGN = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "VIRTUAL_ENV",
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_REQUIRE_VIRTUALENV",
)
# Several a second, of no use in a log.
_FREQUENT = ("Progress ", "@animatic ")
_NETWORK = (
    "Failed to establish a new connection",
    "NewConnectionError",
    "NameResolutionError",
    "name resolution",
    "Max retries exceeded",
    "ConnectTimeout",
    "Read timed out",
    "Connection refused",
    "Connection reset",
    "dns error",
    "error sending request",
)


class CommandFailed(AnimaticError):
    """A command of the installation failed; the sentence says why and where the log is."""


class Commands:
    """Runs commands one after another.

    Args:
        log: file that gets every line.
        on_line: called with each line from the calling thread.
        cancelled: when set, the running command's whole tree is ended and Cancelled is raised.
    """

    def __init__(
        self, log: Path, on_line: Callable[[str], None], cancelled: threading.Event
    ) -> None:
        self._log = log
        self._on_line = on_line
        self._cancelled = cancelled

    def run(self, command: Sequence[str | Path], *, env: dict[str, str] | None = None) -> list[str]:
        """Run to the end; returns the last lines (300 at most).

        Raises CommandFailed, or Cancelled.
        """
        words = [str(word) for word in command]
        variables = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
        variables |= {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **(env or {})}
        tail: deque[str] = deque(maxlen=300)
        with self._log.open("a", encoding="utf-8", buffering=1) as log:
            log.write(f"$ {' '.join(words)}\n")
            try:
                process = child_process.start(words, env=variables)
            except OSError as error:
                raise CommandFailed(f"{words[0]} cannot be started: {error.strerror}.") from error
            try:
                self._follow(process, log, tail)
            finally:
                end_tree(process)
        if process.returncode:
            raise CommandFailed(explain(list(tail), self._log))
        return list(tail)

    def _follow(self, process: subprocess.Popen, log: IO[str], tail: deque[str]) -> None:
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        while True:
            if self._cancelled.is_set():
                raise Cancelled
            try:
                raw = lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if raw is None:
                process.wait()
                return
            line = raw.decode("utf-8", "replace").rstrip()
            if line:
                if not line.startswith(_FREQUENT):
                    log.write(line + "\n")
                tail.append(line)
                self._on_line(line)


def end_tree(process: subprocess.Popen) -> None:
    """End a process and all that it started, where it still runs."""
    if sys.platform == "win32" and process.poll() is None:
        # A virtual environment's python.exe there is a launcher of the real one.
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True)
    child_process.stop(process)


def explain(lines: Sequence[str], log: Path) -> str:
    """What went wrong, from a command's last words, in a sentence that says what to do."""
    text = "\n".join(lines)
    where = f"The log is {log}."
    if "No space left on device" in text or "Errno 28" in text:
        return f"The disk became full: free some space and install again. {where}"
    if "CERTIFICATE_VERIFY_FAILED" in text or "invalid peer certificate" in text:
        return (
            "The package index showed a certificate that this machine does not trust; a proxy may "
            "stand between. Set PIP_CERT to its certificate, start Blender again and install "
            f"again. {where}"
        )
    if any(sign in text for sign in _NETWORK):
        return (
            "The package index could not be reached: check the network connection (and the proxy, "
            f"if you need one), then install again; what is here already is not loaded twice. "
            f"{where}"
        )
    errors = [line for line in lines if line.lower().startswith(("error:", "fatal"))]
    last = (errors or list(lines) or ["it said nothing"])[-1].rstrip(".")
    last = last.removeprefix("ERROR: ")
    return f"The installation failed: {last}. {where}"


def _read(process: subprocess.Popen, lines: queue.SimpleQueue[bytes | None]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            lines.put(line)
    lines.put(None)
