"""Makes the frames of takes at the scene's rate, from the clip frames and the run's motion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ..shot.in_between_files import make_frames, video_name
from .background import run_task
from .progress import Progress


def add_in_between(
    shot: dict,
    guides: Path,
    takes: Sequence[dict],
    folders: Sequence[Path],
    blender: list[str] | None,
    progress: Progress,
) -> list[dict]:
    """Add frames at the scene's rate to ``takes``, which lie in ``folders``; return the takes.

    ``shot`` is the shot object; nothing happens where it does not ask for them. ``guides`` is the
    run's folder of guides. A video of them is written where there is a ``blender`` to write it.
    Raises AnimaticError with a sentence, and Cancelled.
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

        made = make_frames(shot, guides, folder, on_step)
        entry = {"frames": made.name}
        if blender is not None:
            entry["video"] = video_name(rate)
            frames = [str(frame) for frame in sorted(made.iterdir())]
            videos.append({"frames": frames, "file": str(folder / entry["video"])})
        added.append({**take, "in_between": entry})
    if blender is not None:
        run_task(blender, {"task": "videos", "fps": str(rate), "videos": videos}, progress)
    for take, folder in zip(added, folders, strict=True):
        (folder / "take.json").write_text(json.dumps(take, indent=1), encoding="utf-8")
    return added
