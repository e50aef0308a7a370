"""Clips longer than the model's own, and how their frames see each other: what may be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import ShotError

MAX_FRAMES = 128
MAX_AT_ONCE = 32
SCHEDULES = ("static", "uniform", "looped")


@dataclass(frozen=True)
class LongClip:
    """By itself it asks for nothing.

    ``context`` is (length, overlap, schedule): windows of ``length`` frames (1 to 32), neighbours
    sharing ``overlap`` frames, by "static", "uniform" or "looped"; ``loop`` makes the clip run
    into its own beginning; ``free_noise`` repeats a window's noise; with ``span`` (1 to 32) a frame
    sees only itself and the frames before it, that many at most; with ``window_attention`` the
    frames before it, and the first in place of those that are missing.
    """

    context: tuple[int, int, str] | None = None
    loop: bool = False
    free_noise: bool = False
    span: int | None = None
    window_attention: bool = False

    def check(self) -> None:
        """Raise ShotError where this contradicts itself or the request's limits."""
        if self.context is not None:
            length, overlap, schedule = self.context
            if not 1 <= length <= MAX_AT_ONCE or not 0 <= overlap < length:
                raise ShotError(
                    f"A context of {length} frames sharing {overlap} cannot be: use 1 to "
                    f"{MAX_AT_ONCE} frames, of which fewer are shared."
                )
            if schedule not in SCHEDULES:
                raise ShotError(f"{schedule!r} is no schedule: use {', '.join(SCHEDULES)}.")
        if self.span is not None and not 1 <= self.span <= MAX_AT_ONCE:
            raise ShotError(f"The span is {self.span} frames: use 1 to {MAX_AT_ONCE}.")
        looped = self.loop or (self.context is not None and self.context[2] == "looped")
        if looped and (self.span is not None or self.window_attention):
            raise ShotError(
                "A loop has no first frame, which causal and window attention start from: leave "
                "one of them out."
            )
        if self.span is not None and self.window_attention:
            raise ShotError("Attention is causal or by window: leave one of them out.")
        if self.free_noise and self.context is None:
            raise ShotError("Free noise repeats a window's noise: set a context with it.")

    def most_frames(self, model_frames: int) -> int:
        """The longest clip that a model of ``model_frames`` frames makes so."""
        longer = self.context is not None or self.span is not None
        return MAX_FRAMES if longer else model_frames

    def sampling(self, model_frames: int) -> dict[str, Any]:
        """What a request's sampling holds of this, for a model of ``model_frames`` frames."""
        asked: dict[str, Any] = {}
        context = self.context
        if self.loop:
            length, overlap, _ = context or (model_frames, model_frames // 4, "")
            context = (length, overlap, "looped")
        if context is not None:
            asked["context"] = dict(zip(("length", "overlap", "schedule"), context, strict=True))
        if self.free_noise:
            asked["noise"] = "free"
        if self.span is not None:
            asked["attention"] = {"kind": "causal", "span": self.span}
        if self.window_attention:
            asked["attention"] = {"kind": "window"}
        return asked
