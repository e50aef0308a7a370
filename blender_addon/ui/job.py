"""One run in a thread of its own, and what the panel shows of it. No bpy."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from ..errors import AnimaticError, Cancelled
from ..link.generate import Host, Outcome
from .time_left import TimeLeft

PHASES = {
    "guides": "Rendering guides",
    "engine": "Starting the engine",
    "load": "Loading the model",
    "control": "Reading the guides",
    "sampling": "Sampling",
    "decode": "Developing frames",
    "in-between": "Frames in between",
    "write": "Writing frames",
}


class State(Enum):
    """The life of a job."""

    IDLE = "idle"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def busy(self) -> bool:
        """Whether a thread is at work."""
        return self in (State.RUNNING, State.CANCELLING)


@dataclass
class Status:
    """What the panel reads; written on the main thread only.

    ``phase`` and ``detail`` say in few words what is going on, ``fraction`` is that of the phase,
    0 to 1, ``left`` how long it will take; ``message`` is a sentence about the last result,
    ``notes`` are more of them, ``folder`` is the last take's.
    """

    state: State = State.IDLE
    phase: str = ""
    detail: str = ""
    left: str = ""
    fraction: float = 0.0
    message: str = ""
    notes: list[str] = field(default_factory=list)
    folder: Path | None = None


@dataclass(frozen=True)
class Preview:
    """The clip so far: a picture in a ``file``, its ``frames`` from left to right, eight a row."""

    file: Path
    frames: int


class Runs(Protocol):
    """The part of ``link.generate.Generation`` that a job needs."""

    host: Host

    def run(self, on_event: Callable[[dict], None]) -> Outcome: ...

    def cancel(self) -> None: ...


class Job:
    """Runs a generation; ``release`` is called when it is over (the saved copy goes then).

    The clip so far is written into ``preview_file``, if there is one.
    """

    def __init__(
        self,
        generation: Runs,
        release: Callable[[], None],
        preview_file: Path | None = None,
    ) -> None:
        self.status = Status(State.RUNNING, "Beginning")
        self.outcome: Outcome | None = None
        self.seconds = 0.0
        self._over_at = 0.0
        self._preview: Preview | None = None
        self._generation = generation
        self._release = release
        self._preview_file = preview_file
        self._time_left = TimeLeft()
        self._events: queue.SimpleQueue[dict] = queue.SimpleQueue()
        self._error: AnimaticError | None = None
        self._thread = threading.Thread(target=self._run, name="animatic", daemon=True)

    def start(self) -> None:
        """Begin in a thread and return at once."""
        self._thread.start()

    def run_here(self) -> None:
        """Do it all on the calling thread, for scripts and background Blender."""
        self._run()
        self._settle()

    def cancel(self) -> None:
        """Ask the generation to stop; it is over when ``pump`` says so."""
        self._generation.cancel()
        if self.status.state is State.RUNNING:
            self.status.state = State.CANCELLING

    def wait(self, seconds: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def pump(self) -> bool:
        """Take in what the thread has told; return whether the status changed. Never waits."""
        alive = self._thread.is_alive()  # asked first: what it told before it ended is then here
        changed = False
        while not self._events.empty():
            event = self._events.get()
            if "phase" in event:
                self._show(event)
                changed = True
            elif "preview" in event:
                self._preview = event["preview"]
        left = self._time_left.text(time.monotonic())
        if left != self.status.left:
            self.status.left, changed = left, True
        if not alive and self.status.state.busy:
            self._settle()
            changed = True
        return changed

    def since_over(self) -> float:
        """Seconds since it was found to be over."""
        return time.monotonic() - self._over_at

    def take_preview(self) -> Preview | None:
        """The newest preview, once."""
        preview, self._preview = self._preview, None
        return preview

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self.outcome = self._generation.run(self._tell)
        except AnimaticError as error:
            self._error = error
        finally:
            self.seconds = time.monotonic() - began
            self._release()

    def _tell(self, event: dict) -> None:
        if "preview" in event:
            self._tell_preview(event["preview"], event["frames"])
        else:
            # Timed here: the main thread may take it in late.
            self._events.put({**event, "at": time.monotonic()})

    def _tell_preview(self, jpeg: bytes, frames: int) -> None:
        if self._preview_file is None:
            return
        # On this thread: the main one must not wait for a disk.
        part = self._preview_file.with_suffix(".part")
        try:
            part.write_bytes(jpeg)
            os.replace(part, self._preview_file)
        except OSError:
            return  # a full disk, say: the video does not depend on its preview
        self._events.put({"preview": Preview(self._preview_file, frames)})

    def _show(self, event: dict) -> None:
        done, of = event.get("done", 0), event.get("of", 0)
        phase = PHASES.get(event["phase"], event["phase"].capitalize())
        counted = f"{done} of {of}"
        self.status.phase = f"{phase} {counted}" if of > 1 else phase
        text = event.get("text", "")
        # The guides count in their own words ("depth 1 of 3"); once is enough.
        self.status.detail = "" if counted in text else text[:1].upper() + text[1:]
        self.status.fraction = min(1.0, done / of) if of else 0.0
        if event["phase"] == "sampling" and "takes" in event:
            self._time_left.step(event["take"], event["takes"], done, of, event["at"])

    def _settle(self) -> None:
        status, self._over_at = self.status, time.monotonic()
        status.left = ""
        if self.outcome is not None:
            status.state = State.DONE
        elif isinstance(self._error, Cancelled):
            status.state, status.message = State.CANCELLED, str(self._error)
        elif self._error is not None:
            status.state, status.message = State.FAILED, str(self._error)
        else:  # a fault of ours: Python has printed its traceback
            status.state = State.FAILED
            status.message = (
                "Animatic stopped because of a fault of its own. "
                "The system console shows it; please report it."
            )
