"""How a run's progress is shown on a terminal."""

from __future__ import annotations

import sys
import time
from typing import Protocol

NAMES = {"load": "model load", "engine": "engine start", "control": "guide encoding"}
LINE_EVERY_S = 1.0


class Display(Protocol):
    """Shows the events of a run, until it is left as a context."""

    def __enter__(self) -> Display:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """Leave the terminal in order."""

    def on_event(self, event: dict) -> None:
        """Show one event of a run; previews are not for a terminal."""


def display(quiet: bool) -> Display:
    """Bars where tqdm is installed, lines where it is not, as in Blender's own Python."""
    try:
        import tqdm  # noqa: F401
    except ImportError:
        return Lines(quiet)
    return Bars(quiet)


class Bars:
    """One progress bar per phase, on standard error."""

    def __init__(self, quiet: bool) -> None:
        from tqdm import tqdm

        self._make = tqdm
        self._quiet = quiet
        self._bar: tqdm | None = None
        self._key = ("", "")

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_event(self, event: dict) -> None:
        """Show one event of a run; previews are not for a terminal."""
        if "phase" not in event or self._quiet:
            return
        key = _key(event)
        if key != self._key:
            self.__exit__()
            self._bar = self._make(
                desc=f"{_title(key):<24}",
                bar_format="{desc}|{bar:30}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]",
            )
            self._key = key
        assert self._bar is not None
        self._bar.total = event["of"]
        self._bar.n = event["done"]
        self._bar.refresh()


class Lines:
    """A line for each step, one a second at most, on standard error."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._key = ("", "")
        self._last = 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def on_event(self, event: dict) -> None:
        """Show one event of a run; the first and the last of a phase are never left out."""
        if "phase" not in event or self._quiet:
            return
        now, key = time.monotonic(), _key(event)
        ends = event["done"] >= event["of"]
        if key == self._key and not ends and now - self._last < LINE_EVERY_S:
            return
        self._key, self._last = key, now
        print(f"{_title(key):<24} {event['done']} of {event['of']}", file=sys.stderr, flush=True)


def _key(event: dict) -> tuple[str, str]:
    return (event["phase"], event["text"] if event["phase"] == "sampling" else "")


def _title(key: tuple[str, str]) -> str:
    return " ".join((NAMES.get(key[0], key[0]), key[1])).strip()
