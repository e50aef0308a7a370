"""One generation in a thread of its own, and what the panel shows of it. No bpy."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from ..errors import AnimaticError, Cancelled
from ..link.generate import Outcome

PHASES = {
    "guides": "Rendering guides",
    "engine": "Starting the engine",
    "load": "Loading the model",
    "control": "Reading the guides",
    "sampling": "Sampling",
    "decode": "Developing frames",
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
    0 to 1; ``message`` is a sentence about the last result, ``notes`` are more of them, ``folder``
    is the last take's.
    """

    state: State = State.IDLE
    phase: str = ""
    detail: str = ""
    fraction: float = 0.0
    message: str = ""
    notes: list[str] = field(default_factory=list)
    folder: Path | None = None


class Runs(Protocol):
    """The part of ``link.generate.Generation`` that a job needs."""

    def run(self, on_event: Callable[[dict], None]) -> Outcome: ...

    def cancel(self) -> None: ...


class Job:
    """Runs a generation; ``scratch`` (the saved copy lies there) is removed when it is over."""

    def __init__(self, generation: Runs, scratch: tempfile.TemporaryDirectory) -> None:
        self.status = Status(State.RUNNING, "Saving a copy")
        self.outcome: Outcome | None = None
        self.seconds = 0.0
        self._generation = generation
        self._scratch = scratch
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
        if not alive and self.status.state.busy:
            self._settle()
            changed = True
        return changed

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self.outcome = self._generation.run(self._events.put)
        except AnimaticError as error:
            self._error = error
        finally:
            self.seconds = time.monotonic() - began
            self._scratch.cleanup()

    def _show(self, event: dict) -> None:
        done, of = event.get("done", 0), event.get("of", 0)
        phase = PHASES.get(event["phase"], event["phase"].capitalize())
        counted = f"{done} of {of}"
        self.status.phase = f"{phase} {counted}" if of > 1 else phase
        text = event.get("text", "")
        # The guides count in their own words ("depth 1 of 3"); once is enough.
        self.status.detail = "" if counted in text else text[:1].upper() + text[1:]
        self.status.fraction = min(1.0, done / of) if of else 0.0

    def _settle(self) -> None:
        status = self.status
        if self.outcome is not None:
            status.state, status.folder = State.DONE, self.outcome.out
            takes = len(self.outcome.takes)
            status.message = f"{takes} take{'s' if takes != 1 else ''} in {self.seconds:.0f} s."
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
