"""Videos of takes at the scene's rate, one picture for each scene frame, for movie strips."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from ..errors import AnimaticError, Cancelled
from ..shot.held_frames import per_scene_frame
from ..shot.in_between_files import video_name
from ..shot.take_folder import shown_in, take_folder
from .background import blender_command, run_task
from .generate import Host, Outcome
from .progress import OnEvent, Progress


class _Work(Protocol):
    host: Host

    def run(self, on_event: Callable[[dict], None]) -> Outcome: ...

    def cancel(self) -> None: ...


class WithMovies:
    """Does ``work``, and then writes the videos of the takes that came of it.

    Takes are complete without: where a video cannot be written, or is cancelled, a note says so.
    """

    def __init__(self, work: _Work) -> None:
        self.host = work.host
        self._work = work
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop within one sampling step, or a tenth of a second."""
        self._cancelled.set()
        self._work.cancel()

    def run(self, on_event: OnEvent) -> Outcome:
        """As the work's. Raises what it raises."""
        outcome = self._work.run(on_event)
        if outcome.shot is None or not outcome.takes:
            return outcome
        folders = [take_folder(outcome.out, index) for index in range(len(outcome.takes))]
        try:
            progress = Progress(on_event, self._cancelled)
            write_videos(outcome.shot["shot"], folders, self.host, progress)
        except Cancelled:
            outcome.notes.append("The video was cancelled: the strip shows the images.")
        except AnimaticError as error:
            outcome.notes.append(f"The strip shows the images, there is no video: {error}")
        return outcome


class TakeMovie:
    """Writes the video of the take in ``folder`` of ``shot``, the shot object."""

    def __init__(self, folder: Path, shot: dict[str, Any], host: Host) -> None:
        self.folder = folder
        self.shot = shot
        self.host = host
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop within a tenth of a second."""
        self._cancelled.set()

    def run(self, on_event: OnEvent) -> Outcome:
        """Write it. Raises AnimaticError, Cancelled among them; nothing is then left behind."""
        write_videos(self.shot, [self.folder], self.host, Progress(on_event, self._cancelled))
        return Outcome(self.folder, {"shot": self.shot})


def write_videos(
    shot: dict[str, Any], folders: Sequence[Path], host: Host, progress: Progress
) -> None:
    """Write the videos of the takes in ``folders``, which are there for good, where they have none.

    Raises AnimaticError where one cannot be written, or pictures are missing.
    """
    rate = Fraction(shot["scene_fps"])
    parts: dict[Path, Path] = {}
    videos = []
    for folder in folders:
        file = folder / video_name(rate)
        if file.is_file():
            continue
        parts[file] = file.with_name(f".{file.stem}.partial.mp4")
        frames = [str(path) for path in per_scene_frame(shown_in(folder), shot)]
        videos.append({"frames": frames, "file": str(parts[file])})
    if not videos:
        return
    task = {"task": "videos", "fps": str(rate), "videos": videos}
    try:
        run_task(blender_command(host.blender), task, progress)
        for file, part in parts.items():
            os.replace(part, file)
    except OSError as error:
        raise AnimaticError(
            f"A video could not be moved into {folders[0]} ({error.strerror}): check the folder."
        ) from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
