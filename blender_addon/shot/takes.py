"""Finds the takes that lie in output folders, for a list of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .take_folder import shown_in


@dataclass(frozen=True)
class TakeOnDisk:
    """A take: ``folder`` holds its take.json and frames, ``request`` is what was asked for.

    ``label`` is short and tells it from others of the same file: the number of its run's folder,
    and after a point its own where the run has several.
    """

    folder: Path
    label: str
    seed: int
    scene: str
    shot: str
    request: dict[str, Any]

    @property
    def guides(self) -> Path:
        """The folder of its run's guides, which the takes of one run share."""
        own = self.folder / "guides"
        return own if own.is_dir() else self.folder.parent / "guides"

    def frames(self) -> list[Path]:
        """Its pictures, one for each clip frame, or each scene frame where those were made."""
        return shown_in(self.folder)


def find_takes(runs: Iterable[Path]) -> list[TakeOnDisk]:
    """Return the takes in the output folders ``runs``, in order; damaged ones are passed over."""
    found = []
    for run in runs:
        request = _read(run / "request.json")
        if request is None or not isinstance(request.get("shot"), dict):
            continue
        shot = request["shot"]
        files = [run / "take.json", *sorted(run.glob("take-*/take.json"))]
        takes = [(file, take) for file in files if (take := _read(file)) is not None]
        number = run.name.rpartition("_")[2]
        for index, (file, take) in enumerate(takes, start=1):
            label = number if len(takes) == 1 else f"{number}.{index}"
            names = (str(shot.get("scene", "")), str(shot.get("name", "")))
            try:
                seed = int(take["seed"])
            except (KeyError, TypeError, ValueError):
                continue
            found.append(TakeOnDisk(file.parent, label, seed, *names, request))
    return found


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("schema") == 1 else None
