"""One service for each data folder: a lock that the operating system drops with the process."""

import os
import sys
from pathlib import Path

LOCK_NAME = "service.lock"


class FolderBusy(RuntimeError):
    """Another service holds the data folder."""


class FolderLock:
    """Exclusive lock on a data folder, held until ``release`` or the end of the process.

    Raises:
        FolderBusy: if another process holds it; the sentence says what to do.
        OSError: if the lock file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._descriptor)
        except OSError as error:
            os.close(self._descriptor)
            raise FolderBusy(
                f"Another engine service is using the data folder {folder}. "
                "Stop it, or choose another folder with --data."
            ) from error

    def release(self) -> None:
        """Give the folder free."""
        os.close(self._descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # flock, not lockf: a POSIX record lock is lost as soon as any code in this process
        # opens and closes the same file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
