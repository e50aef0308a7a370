"""What a killed run leaves behind is removed by the next one, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from animatic.blender_addon.shot.in_use import ScratchFolder
from animatic.blender_addon.shot.take_folder import OutputFolder

RUN = """
import sys, time
from pathlib import Path
from animatic.blender_addon.shot.in_use import ScratchFolder
from animatic.blender_addon.shot.take_folder import OutputFolder
scratch = ScratchFolder()
Path(scratch.name, "task.json").touch()
folder = OutputFolder.prepare(Path(sys.argv[1]))
(folder.staging / "request.json").touch()
print("ready", flush=True)
time.sleep(60)
"""


def age(folder: Path) -> None:
    """Let the marks in ``folder`` look as if they were of an hour ago."""
    for mark in folder.rglob("*.lock"):
        os.utime(mark, (time.time() - 3600,) * 2)


def test_what_a_killed_run_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary, takes = tmp_path / "tmp", tmp_path / "takes"
    temporary.mkdir()
    takes.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    others = [temporary / "animatic-notours", takes / ".shot.0a1b2c3d.partial"]
    for other in others:  # nothing marks them as ours
        other.mkdir()
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(takes / "shot")],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
    )
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        age(tmp_path)

        def count() -> tuple[int, int]:
            with ScratchFolder():
                OutputFolder.prepare(takes / "next").discard()
            return len(list(temporary.iterdir())), len(list(takes.iterdir()))

        assert count() == (2, 3), "a run at work keeps its folders"
    finally:
        run.kill()
        run.wait()
    assert count() == (1, 1)
    assert [next(temporary.iterdir()), next(takes.iterdir())] == others


def test_half_replaced_take_is_left_alone(tmp_path: Path) -> None:
    left = tmp_path / ".shot.0a1b2c3d.partial"
    old = left.with_suffix(".old")
    for folder in (left, old):
        folder.mkdir()
    (tmp_path / f"{left.name}.lock").touch()
    age(tmp_path)
    OutputFolder.prepare(tmp_path / "next").discard()
    assert left.is_dir()
    assert old.is_dir()
