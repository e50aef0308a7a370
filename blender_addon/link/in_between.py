"""Makes the frames of takes at the scene's rate, from the clip frames and the run's motion.

Where the scene tells no motion, optical flow between the clip frames stands in. It is measured by a
library in the engine's environment, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ..errors import AnimaticError, Cancelled
from ..shot.in_between_files import make_frames, needs_flow, video_name
from .background import run_task
from .engine_process import find_engine_python
from .progress import Progress


def add_in_between(
    shot: dict,
    guides: Path,
    takes: Sequence[dict],
    folders: Sequence[Path],
    blender: list[str] | None,
    progress: Progress,
    engine_python: Path | None = None,
) -> list[dict]:
    """Add frames at the scene's rate to ``takes``, which lie in ``folders``; return the takes.

    ``shot`` is the shot object; nothing happens where it does not ask for them. ``guides`` is the
    run's folder of guides, with the scene's motion where there is any. Where optical flow is needed
    and cannot be measured, the takes go without it, and their notes tell. A video is written where
    there is a ``blender`` to write it; where it fails the notes tell. Raises AnimaticError with a
    sentence, and Cancelled.
    """
    if not shot.get("in_between"):
        return list(takes)
    added, videos = [], []
    rate = Fraction(shot["scene_fps"])
    for index, (take, folder) in enumerate(zip(takes, folders, strict=True)):
        text = f"take {index + 1} of {len(takes)}" if len(takes) > 1 else ""

        def on_step(done: int, of: int, text: str = text) -> None:
            progress.check()
            progress.emit({"phase": "in-between", "done": done, "of": of, "text": text})

        with tempfile.TemporaryDirectory(prefix="animatic-") as scratch:
            flow = None
            if needs_flow(shot, guides):
                flow = Path(scratch)
                try:
                    measure_flow(find_engine_python(engine_python), folder / "frames", flow)
                except AnimaticError as error:
                    flow = None
                    take = {**take, "notes": [*take.get("notes", []), str(error)]}
            made = make_frames(shot, guides, folder, on_step, flow)
        entry = {"frames": made.name}
        if blender is not None:
            entry["video"] = video_name(rate)
            frames = [str(frame) for frame in sorted(made.iterdir())]
            videos.append({"frames": frames, "file": str(folder / entry["video"])})
        added.append({**take, "in_between": entry})
    if blender is not None:
        try:
            run_task(blender, {"task": "videos", "fps": str(rate), "videos": videos}, progress)
        except Cancelled:
            raise
        except AnimaticError as error:  # no reason to lose the frames
            for take, folder in zip(added, folders, strict=True):
                (folder / take["in_between"].pop("video")).unlink(missing_ok=True)
                note = f"The frames in between are there, their video is not: {error}"
                take["notes"] = [*take.get("notes", []), note]
    for take, folder in zip(added, folders, strict=True):
        (folder / "take.json").write_text(json.dumps(take, indent=1), encoding="utf-8")
    return added


def measure_flow(python: Path, frames: Path, out: Path) -> None:
    """Measure the optical flow between the pictures in ``frames``, into the folder ``out``.

    Raises AnimaticError where ``python``, the engine's, cannot do it.
    """
    program = [str(python), "-m", "animatic.engine.flow", str(frames), str(out)]
    done = subprocess.run(program, capture_output=True, text=True, errors="replace")
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise AnimaticError(
            f"Motion could not be measured in the pictures ({words}): the frames between them show "
            "none. Install the engine anew, and replay the take."
        )
