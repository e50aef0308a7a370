"""What a run tells while it works: its phase, the seconds each took, and whether to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import Cancelled

OnEvent = Callable[[dict], None]


class Progress:
    """Passes events on and times the phases; ``cancelled`` may be set by any thread."""

    def __init__(self, on_event: OnEvent, cancelled: threading.Event) -> None:
        self.emit = on_event
        self.cancelled = cancelled
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Announce and time one phase. Raises Cancelled at its start when the artist stopped."""
        self.check()
        began = time.monotonic()
        self.emit({"phase": name, "done": 0, "of": 1, "text": ""})
        yield
        self.seconds[name] = round(time.monotonic() - began, 3)
        self.emit({"phase": name, "done": 1, "of": 1, "text": ""})

    def check(self) -> None:
        """Raise Cancelled when the artist stopped the run."""
        if self.cancelled.is_set():
            raise Cancelled
