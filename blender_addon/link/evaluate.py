"""`animatic evaluate`: scenes rendered by Blender, then measured in the engine's Python."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import AnimaticError
from ..shot.in_use import ScratchFolder
from .background import run_task
from .catalogue import Checkpoint
from .generate import GenerateSettings, guides_task
from .progress import OnEvent, Progress

_PROGRAM = "animatic.engine.evaluation.cli"
_GUIDES = ("depth", "lineart")


@dataclass(frozen=True)
class Evaluation:
    """One measurement of ``checkpoint``; ``options`` go to the engine's side as they are."""

    checkpoint: Checkpoint
    python: Path
    blender: list[str]
    options: Sequence[str]
    quick: bool
    on_event: OnEvent

    def run(self) -> int:
        """Render, measure, print; returns the exit code of the engine's side."""
        with ScratchFolder() as scratch:
            description = Path(scratch) / "scenes.json"
            if code := self._engine(["--describe", str(description)]):
                return code  # the engine has said why
            guides = self._blender_guides(description)
            more = ["--blender-guides", str(guides)] if guides else []
            return self._engine(more)

    def _engine(self, more: list[str]) -> int:
        quick = ["--quick"] if self.quick else []
        folder = str(self.checkpoint.folder)
        program = [str(self.python), "-m", _PROGRAM, folder, *quick, *self.options, *more]
        return subprocess.run(program).returncode

    def _blender_guides(self, description: Path) -> Path | None:
        """Guides of the scenes for Blender, as <scene>/<guide>/; None where none are wanted."""
        scratch = description.parent
        wanted = json.loads(description.read_text(encoding="utf-8"))["clips"]
        if not wanted:
            return None
        progress = Progress(self.on_event, threading.Event())
        blends = run_task(
            self.blender,
            {"task": "blockouts", "description": str(description), "out": str(scratch / "blends")},
            progress,
        )["blends"]
        guides = scratch / "guides"
        for done, blend in enumerate(blends, start=1):
            for guide in _GUIDES[:1] if self.quick else _GUIDES:
                self._render(Path(blend), guide, guides / Path(blend).stem / guide, progress)
            of = len(blends)
            self.on_event({"phase": "scenes", "done": done, "of": of, "text": Path(blend).name})
        return guides

    def _render(self, blend: Path, guide: str, out: Path, progress: Progress) -> None:
        out.mkdir(parents=True)
        settings = GenerateSettings(blend, out, guide=guide, keyframes="all", guides_only=True)
        task = guides_task(settings, self.checkpoint, out)
        quiet = Progress(lambda event: None, progress.cancelled)
        made = run_task(self.blender, task, quiet)["guides"]
        if len(made) != self.checkpoint.frames:
            raise AnimaticError(
                f"Blender made {len(made)} {guide} guides of {blend.name} and "
                f"{self.checkpoint.frames} were wanted: the scene's rate or range is not the "
                "model's."
            )
