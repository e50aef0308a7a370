"""Runs one task in a background Blender: which command starts it, its progress, its result."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from ..errors import AnimaticError
from ..shot.in_use import ScratchFolder
from .child_process import start, stop
from .progress import OnEvent, Progress

CHILD = Path(__file__).resolve().parents[1] / "scene" / "child.py"
PREFIX = "@animatic "
# Some Blenders hang while freeing memory after all work is done; the result is safe by then.
EXIT_PATIENCE_S = 10.0


def blender_command(executable: str | Path | None = None) -> list[str]:
    """Return the command that runs ``child.py``: a Blender executable, or this Python's bpy module.

    Raises AnimaticError when there is neither.
    """
    if executable is not None:
        path = Path(executable).expanduser()
        if not path.is_file():
            raise AnimaticError(
                f"There is no Blender at {path}: give the path of its executable to --blender."
            )
        return [str(path), "-b", "--factory-startup", "--python", str(CHILD), "--"]
    if importlib.util.find_spec("bpy") is None:
        raise AnimaticError(
            "No Blender here: install the bpy module (pip install 'animatic[host]') "
            "or give the path of a Blender executable with --blender."
        )
    return [sys.executable, str(CHILD)]


def run_task(command: list[str], task: dict, progress: Progress) -> dict:
    """Run ``task`` in a background Blender and return its result.

    The child's events go to ``progress``. Setting ``progress.cancelled`` kills the child within a
    tenth of a second and raises Cancelled. Raises AnimaticError with the child's own sentence, or,
    when it died without one, with its last lines of output.
    """
    with ScratchFolder() as scratch:
        result_path = Path(scratch) / "result.json"
        task_path = Path(scratch) / "task.json"
        whole = {**task, "result": str(result_path), "watch_stdin": True}
        task_path.write_text(json.dumps(whole), encoding="utf-8")
        # What a killed Blender leaves in its temporary folder goes with ours.
        environment = {**os.environ, "TMPDIR": scratch, "TEMP": scratch, "TMP": scratch}
        process = start([*command, str(task_path)], env=environment)
        tail: deque[str] = deque(maxlen=30)
        reader = threading.Thread(target=_read, args=(process, tail, progress.emit), daemon=True)
        reader.start()
        try:
            _wait(process, result_path, progress.cancelled)
        finally:
            stop(process)
            reader.join(timeout=5)
        progress.check()
        if not result_path.is_file():
            raise AnimaticError(
                f"Blender stopped unexpectedly (exit code {process.returncode}). "
                "Its last words:\n" + "\n".join(tail)
            )
        result = json.loads(result_path.read_text(encoding="utf-8"))
    if "error" in result:
        raise AnimaticError(result["error"])
    return result


def _wait(process: subprocess.Popen, result: Path, cancelled: threading.Event) -> None:
    finished_at = None
    while process.poll() is None and not cancelled.wait(0.05):
        if finished_at is None and result.is_file():
            finished_at = time.monotonic()
        if finished_at is not None and time.monotonic() - finished_at > EXIT_PATIENCE_S:
            return


def _read(process: subprocess.Popen, tail: deque[str], on_event: OnEvent) -> None:
    assert process.stdout is not None
    for raw in process.stdout:
        line = raw.decode("utf-8", "replace").rstrip()
        if line.startswith(PREFIX):
            on_event(json.loads(line.removeprefix(PREFIX)))
        elif line:
            tail.append(line)
