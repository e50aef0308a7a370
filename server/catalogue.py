"""The checkpoints that the service offers: folders on disk, described by the engine."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from .worker_process import WorkerProcess

MARKERS = ("animatic.json", "model_index.json")


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

    async def models(self, worker: WorkerProcess) -> dict[str, list[dict[str, Any]]]:
        """``{"models": [description, ...], "broken": [{"name", "error"}, ...]}``.

        Raises:
            WorkerDied: if the engine cannot answer.
        """
        models, broken = [], []
        for folder in self._checkpoint_folders():
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
        names = []
        for folder in self._checkpoint_folders():
            answer = await self._describe(folder, worker)
            if "error" in answer:
                if folder.name == name:
                    faults.append(answer["error"])
                continue
            found = answer["description"]
            names.append(found["name"])
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
        searched = ", ".join(map(str, self._folders))
        raise UnknownCheckpoint(
            f'There is no checkpoint "{name}". There are: {", ".join(names) or "none"} '
            f"(searched: {searched})."
        )

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
        # Hashing a large checkpoint takes seconds: do it again only when a file has changed.
        # LoRAs may lie in the checkpoint's folder or beside it, where its description finds them.
        state = []
        for place in (folder, folder.parent / "loras"):
            for parent, _, names in os.walk(place):
                for file in (os.path.join(parent, name) for name in names):
                    with suppress(OSError):  # it has gone since: part of a download, say
                        status = os.stat(file)
                        state.append((file, status.st_size, status.st_mtime_ns))
        state.sort()
        known = self._known.get(folder)
        if known is None or known[0] != state:
            known = (state, await worker.describe(folder))
            self._known[folder] = known
        return known[1]
