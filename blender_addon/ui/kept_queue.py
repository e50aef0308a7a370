"""A queue of shots on disk, with the saved copy that they are made from: it outlives Blender.

Each queue has a folder of its own. Its lock says that a Blender is at work on it; a Blender that
was killed has let go of it. No bpy.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import AnimaticError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

WAITING, DONE, FAILED = "waiting", "done", "failed"
_SCHEMA = 1
_FILE = "queue.json"
_COPY = "shot.blend"
_GONE = "Another Blender has made these shots, or discarded them: nothing is left to do."
# Nobody comes back for it, and the copy of a scene may be large.
_KEPT_DAYS = 60


@dataclass
class Entry:
    """A shot: its ``title``, its ``settings`` as JSON, and ``state`` waiting, done or failed."""

    title: str
    settings: dict[str, Any]
    state: str = WAITING


class KeptQueue:
    """A queue in ``folder``, of the scene called ``scene`` in the file ``blend`` ("": not saved).

    While it is ``held``, no other Blender offers it.
    """

    def __init__(self, folder: Path, blend: str, scene: str, entries: list[Entry]) -> None:
        self.folder = folder
        self.blend = blend
        self.scene = scene
        self.entries = entries
        self._lock: IO[str] | None = None

    @classmethod
    def create(cls, root: Path, blend: str, scene: str) -> KeptQueue:
        """Make an empty queue in a new folder below ``root`` and hold it.

        Raises AnimaticError where that cannot be written.
        """
        made = cls(root / uuid.uuid4().hex, blend, scene, [])
        try:
            made.folder.mkdir(parents=True)
            made.hold()
        except OSError as error:
            raise AnimaticError(
                f"The queue cannot be kept in {root} ({error.strerror}): free some disk space, or "
                "generate the shots one by one."
            ) from error
        return made

    @property
    def copy(self) -> Path:
        """Where the saved copy of the scene lies."""
        return self.folder / _COPY

    @property
    def left(self) -> list[Entry]:
        """What is still to do; a shot that failed may be tried again."""
        return [entry for entry in self.entries if entry.state != DONE]

    def hold(self) -> None:
        """Keep other Blenders off, and read what they have done meanwhile.

        Raises AnimaticError when one is at work on it or has finished it.
        """
        try:
            lock = (self.folder / "lock").open("a")
        except FileNotFoundError as error:
            raise AnimaticError(_GONE) from error
        try:
            _lock(lock)
        except OSError as error:
            lock.close()
            raise AnimaticError(
                "Another Blender is making these shots: wait until it has finished."
            ) from error
        self._lock = lock
        written = self.folder / _FILE
        if written.is_file():
            self.entries = _entries(json.loads(written.read_text(encoding="utf-8")))
            if not self.left:
                self.close()
                raise AnimaticError(_GONE)

    def mark(self, entry: Entry, state: str) -> None:
        """Note what has become of a shot."""
        entry.state = state
        self.write()

    def write(self) -> None:
        """Write it down; a full disk costs the queue its life after Blender's, not the shots."""
        content = {
            "schema": _SCHEMA,
            "blend": self.blend,
            "scene": self.scene,
            "entries": [vars(entry) for entry in self.entries],
        }
        part = self.folder / f"{_FILE}.part"
        try:
            part.write_text(json.dumps(content), encoding="utf-8")
            os.replace(part, self.folder / _FILE)
        except OSError as error:
            print(f"Animatic: the queue could not be written down: {error}")

    def close(self) -> None:
        """Let go of it; it stays on disk where there is something left to do."""
        if self._lock is not None:
            self._lock.close()  # the lock goes with it
            self._lock = None
        if not self.left:
            shutil.rmtree(self.folder, ignore_errors=True)

    def discard(self) -> None:
        """Remove it with all that is left to do. Raises AnimaticError as ``hold``."""
        if self._lock is None:
            self.hold()
        self.entries = []
        self.close()


def find_kept(root: Path, blend: str) -> KeptQueue | None:
    """The newest queue of the file ``blend`` on which no Blender is at work."""
    found = [queue for queue in _read_all(root) if queue.blend == blend and queue.left]
    return max(found, key=lambda queue: queue.folder.stat().st_mtime, default=None)


def sweep(root: Path) -> None:
    """Remove queues that nobody can come back to: long ago, or never written down."""
    readable = {queue.folder: queue for queue in _read_all(root)}
    for folder in root.glob("*/"):
        queue = readable.get(folder) or KeptQueue(folder, "", "", [])
        old = time.time() - folder.stat().st_mtime > _KEPT_DAYS * 86400
        if (old or not queue.blend) and not _is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _read_all(root: Path) -> Iterator[KeptQueue]:
    for file in root.glob(f"*/{_FILE}"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["schema"] != _SCHEMA or _is_held(file.parent):
                continue
            yield KeptQueue(file.parent, content["blend"], content["scene"], _entries(content))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged, or of a later version: not ours to offer


def _entries(content: dict[str, Any]) -> list[Entry]:
    return [Entry(**entry) for entry in content["entries"]]


def _is_held(folder: Path) -> bool:
    try:
        with (folder / "lock").open("a") as lock:
            _lock(lock)
    except OSError:
        return True
    return False


def _lock(file: IO[str]) -> None:
    """Raise OSError when another holds it."""
    if sys.platform == "win32":
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
