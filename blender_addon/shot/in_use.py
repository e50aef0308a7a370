"""Folders that a run works in: marked as in use, and swept away when their process was killed.

A lock on a small file is the mark. The system lets go of it when the process ends, however it
ends; a folder whose lock can be taken therefore belongs to nobody any more. A folder without such
a file is not ours and is never touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

PREFIX = "animatic-"
# A file that was made a moment ago may not be locked by its owner yet.
YOUNG_S = 60.0
_SCRATCH = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")
_LOCK = "in-use.lock"


class Lock:
    """A lock on the file ``path``, made for it with ``make``; OSError where someone else has it."""

    def __init__(self, path: Path, make: bool = True) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0), 0o600)
        try:
            _lock(self._file)
        except OSError:
            os.close(self._file)
            if make:
                path.unlink(missing_ok=True)
            raise

    def release(self) -> None:
        """Let go of it and remove the file."""
        if self._file < 0:
            return
        file, self._file = self._file, -1
        if sys.platform == "win32":  # a file that is open cannot be removed there
            os.close(file)
            self.path.unlink(missing_ok=True)
        else:
            self.path.unlink(missing_ok=True)
            os.close(file)


class ScratchFolder:
    """A temporary folder, removed at the end; those of killed processes are removed before.

    Use as a context, which gives its path, or call ``cleanup``.
    """

    def __init__(self) -> None:
        base = Path(tempfile.gettempdir())
        for folder in base.glob(f"{PREFIX}*"):
            if _SCRATCH.fullmatch(folder.name):
                _sweep(folder / _LOCK, folder)
        self.name = tempfile.mkdtemp(prefix=PREFIX)
        self._lock: Lock | None = None
        with contextlib.suppress(OSError):  # no locks on this drive: it is never swept
            self._lock = Lock(Path(self.name) / _LOCK)

    def __enter__(self) -> str:
        """Return its path."""
        return self.name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove it."""
        self.cleanup()

    def cleanup(self) -> None:
        """Remove it."""
        if self._lock is not None:
            self._lock.release()
        shutil.rmtree(self.name, ignore_errors=True)


def sweep_staging(parent: Path) -> None:
    """Remove the half-written takes that killed runs have left in ``parent``.

    One whose run had begun to replace an earlier take (its files lie in ``.old``) is left alone.
    """
    with contextlib.suppress(OSError):
        for lock in parent.glob(".*.partial.lock"):
            staging = lock.with_suffix("")
            if not staging.with_suffix(".old").exists():
                _sweep(lock, staging)


def _sweep(mark: Path, folder: Path) -> None:
    """Remove ``folder`` if its ``mark`` is there, not quite new, and nobody holds it."""
    try:
        if mark.is_symlink() or folder.is_symlink():
            return
        if time.time() - mark.stat().st_mtime < YOUNG_S:
            return
        lock = Lock(mark, make=False)
    except OSError:
        return  # not there, in use, or another user's
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
