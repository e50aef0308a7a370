"""The checkpoints that the service offers: folders on disk, described by the engine."""

import asyncio
import json
import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from .worker_process import WorkerProcess

CARD = "animatic.json"
MARKERS = (CARD, "model_index.json")


class UnknownCheckpoint(LookupError):
    """The request's checkpoint is not there or not usable; the text is a sentence."""


class Catalogue:
    """Checkpoint folders under the model folders.

    Args:
        folders: model folders; each is a checkpoint itself or holds checkpoints.
    """

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._known: dict[Path, tuple[object, dict[str, Any]]] = {}
        self._describing: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def models(self, worker: WorkerProcess) -> dict[str, list[dict[str, Any]]]:
        """``{"models": [description, ...], "broken": [{"name", "error"}, ...]}``.

        Raises:
            WorkerDied: if the engine cannot answer.
        """
        models, broken = [], []
        for folder in await asyncio.to_thread(self._checkpoint_folders):
            answer = await self._describe(folder, worker)
            if "description" in answer:
                models.append(answer["description"])
            else:
                broken.append({"name": folder.name, "error": answer["error"]})
        return {"models": models, "broken": broken}

    async def find(self, wanted: dict[str, Any], worker: WorkerProcess) -> dict[str, str]:
        """The checkpoint with this name, and this sha256 if one is given.

        Returns:
            ``{"name", "sha256", "folder"}``

        Raises:
            UnknownCheckpoint: if there is none.
            WorkerDied: if the engine cannot answer.
        """
        name, other_content, faults = wanted["name"], [], []
        named = await asyncio.to_thread(self._named_folders)
        # To describe a checkpoint is to hash it: only those that are asked for.
        for folder in (folder for folder, title in named if title == name):
            answer = await self._describe(folder, worker)
            if "error" in answer:
                faults.append(answer["error"])
                continue
            found = answer["description"]
            if found["name"] == name:
                if wanted["sha256"] in (None, found["sha256"]):
                    return {"name": name, "sha256": found["sha256"], "folder": str(folder)}
                other_content.append(found["sha256"])
        if other_content:
            raise UnknownCheckpoint(
                f'The checkpoint "{name}" here has the content {other_content[0][:12]}..., the '
                f"request asks for {wanted['sha256'][:12]}.... Install the one that was asked for, "
                "or ask for this one."
            )
        if faults:
            raise UnknownCheckpoint(faults[0])
        names = ", ".join(title for _, title in named) or "none"
        searched = ", ".join(map(str, self._folders))
        raise UnknownCheckpoint(
            f'There is no checkpoint "{name}". There are: {names} (searched: {searched}).'
        )

    # A share may take seconds to answer, and the event loop must not wait for it: what looks at the
    # disk runs in a thread.

    def _named_folders(self) -> list[tuple[Path, str]]:
        return [(folder, _name_of(folder)) for folder in self._checkpoint_folders()]

    def _checkpoint_folders(self) -> list[Path]:
        found = []
        for folder in self._folders:
            candidates = [folder]
            if folder.is_dir():
                candidates += sorted(path for path in folder.iterdir() if path.is_dir())
            found += [
                path for path in candidates if any((path / name).is_file() for name in MARKERS)
            ]
        return found

    async def _describe(self, folder: Path, worker: WorkerProcess) -> dict[str, Any]:
        # One after the other: who joined a description under way would take an answer that is
        # older than the files it has seen.
        async with self._describing[folder]:
            # Hashing a large checkpoint takes seconds: do it again only when a file has changed.
            state = await asyncio.to_thread(_state_of, folder)
            known = self._known.get(folder)
            if known is None or known[0] != state:
                known = (state, await worker.describe(folder))
                self._known[folder] = known
            return known[1]


def _name_of(folder: Path) -> str:
    """The checkpoint's name by its card; the folder's, where that tells none."""
    try:
        return str(json.loads((folder / CARD).read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return folder.name  # what is wrong with the card, its description tells


def _state_of(folder: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of all files that decide the checkpoint's description.

    LoRAs may lie in the checkpoint's folder or beside it, where its description finds them.
    """
    state = []
    for place in (folder, folder.parent / "loras"):
        for parent, _, names in os.walk(place):
            for file in (os.path.join(parent, name) for name in names):
                with suppress(OSError):  # it has gone since: part of a download, say
                    status = os.stat(file)
                    state.append((file, status.st_size, status.st_mtime_ns))
    return sorted(state)
