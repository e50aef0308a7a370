"""How long a job will go on, told only once it can be known. No bpy."""

from __future__ import annotations

# One step's length is known after the second step: the first has also prepared the others.
KNOWN_AFTER = 2


class TimeLeft:
    """Learns from the sampling steps; all takes of a job count."""

    def __init__(self) -> None:
        self._take = -1
        self._first: tuple[int, float] | None = None
        self._take_began = 0.0
        self._take_lasted: float | None = None
        self._ends: float | None = None

    def step(self, take: int, takes: int, done: int, of: int, now: float) -> None:
        """Learn that ``done`` of ``of`` steps of take ``take`` (from 0) are over at ``now`` (s)."""
        if take != self._take:
            if take == self._take + 1 and self._first is not None:
                self._take_lasted = now - self._take_began
            self._take, self._first, self._take_began = take, None, now
        if done < 1:
            return
        if self._first is None:
            self._first = (done, now)
        steps = done - self._first[0]
        if done < KNOWN_AFTER or steps < 1:
            return
        step = (now - self._first[1]) / steps
        each = self._take_lasted if self._take_lasted is not None else step * of
        self._ends = now + step * (of - done) + each * (takes - take - 1)

    def text(self, now: float) -> str:
        """ "about 40 s left", or nothing while it is not known."""
        if self._ends is None:
            return ""
        left = max(0.0, self._ends - now)
        if left < 3:
            return "a moment left"
        if left < 55:
            return f"about {5 * max(1, round(left / 5))} s left"
        if left < 3300:
            return f"about {round(left / 60)} min left"
        return f"about {left / 3600:.1f} h left"
