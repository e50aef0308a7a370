"""Starts a virtual screen and a Blender on it that runs a script of steps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

INSIDE = Path(__file__).resolve().parent
SIZE = (1600, 1000)


class NoWindow(Exception):
    """There is no Blender, or no virtual screen, to open a window with; the message says which."""


@dataclass(frozen=True)
class Tools:
    """The programs that are needed."""

    blender: str
    xvfb: str

    @classmethod
    def find(cls) -> Tools:
        """Raises NoWindow with a sentence where one is missing."""
        blender = os.environ.get("ANIMATIC_BLENDER")
        if not blender:
            raise NoWindow("ANIMATIC_BLENDER does not name a Blender's executable.")
        xvfb = os.environ.get("ANIMATIC_XVFB") or shutil.which("Xvfb")
        if not xvfb:
            raise NoWindow("There is no Xvfb here: install it, or name it in ANIMATIC_XVFB.")
        return cls(blender, xvfb)


@contextmanager
def screen(xvfb: str, folder: Path, size: tuple[int, int]) -> Iterator[str]:
    """A screen for the time of the context; yields its name, such as ``:99``.

    What it shows lies in ``folder`` as an XWD file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = ["-displayfd", "1", "-screen", "0", f"{size[0]}x{size[1]}x24", "+extension", "GLX"]
    command = [xvfb, *words, "-fbdir", str(folder), "-nolisten", "tcp"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        number = process.stdout.readline().decode().strip()
        if not number:
            raise NoWindow(f"{xvfb} did not start.")
        yield f":{number}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def drive(
    tools: Tools,
    script: Path,
    folder: Path,
    settings: dict,
    limit_s: float = 400,
    size: tuple[int, int] = SIZE,
) -> list[dict]:
    """Run ``script`` in a new Blender window with a fresh profile, and return what it reported.

    ``script`` defines ``steps(driver)``, a generator (see ``inside.Driver``). Pictures and the
    profile lie in ``folder``; ``settings`` reach the script as ``driver.settings``. Raises
    AssertionError with the script's own words where it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.jsonl"
    with screen(tools.xvfb, folder / "screen", size) as display:
        told = {
            "script": str(script.resolve()),
            "folder": str(folder),
            "screen": str(folder / "screen" / "Xvfb_screen0"),
            "report": str(report),
            **settings,
        }
        environment = {
            **os.environ,
            "DISPLAY": display,
            "BLENDER_USER_RESOURCES": str(folder / "profile"),
            "ANIMATIC_DATA": str(folder / "data"),
            "ANIMATIC_WINDOW": json.dumps(told),
            "TMPDIR": str(folder / "tmp"),
        }
        (folder / "tmp").mkdir()
        environment.pop("ANIMATIC_ENGINE_PYTHON", None)
        command = [tools.blender, "--enable-event-simulate", "--window-geometry", "0", "0"]
        command += [*map(str, size), "--python-exit-code", "3"]
        command += ["--python", str(INSIDE / "inside.py")]
        log = folder / "blender.log"
        with log.open("wb") as out:
            try:
                code = subprocess.run(
                    command, env=environment, stdout=out, stderr=out, timeout=limit_s, cwd=folder
                ).returncode
            except subprocess.TimeoutExpired:
                code = None
    lines = report.read_text(encoding="utf-8").splitlines() if report.is_file() else []
    told_back = [json.loads(line) for line in lines]
    failures = [line["failed"] for line in told_back if "failed" in line]
    tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
    assert not failures, f"{failures[0]}\n{tail}"
    assert code is not None, f"Blender did not end within {limit_s:g} s.\n{tail}"
    assert code == 0, f"Blender ended with {code}.\n{tail}"
    assert "done" in (told_back or [{}])[-1], f"the script ended before its end\n{tail}"
    return told_back
