"""What earlier takes took, by model and engine, and so what the next ones will take. No bpy."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_SCHEMA = 1


@dataclass(frozen=True)
class Work:
    """What is asked for, as far as its time depends on it."""

    steps: int
    frames: int
    takes: int
    guidance: float
    temporal: float = 1.0
    upscale: tuple[float, float] | None = None
    guidance_end: float = 1.0

    @classmethod
    def of(cls, request: dict[str, Any], takes: int) -> Work:
        """The work of a request."""
        sampling = request["sampling"]
        larger = sampling.get("upscale")
        return cls(
            sampling["steps"],
            request["clip"]["frames"],
            takes,
            sampling["guidance"],
            sampling.get("temporal", 1.0),
            (larger["scale"], larger["share"]) if larger else None,
            sampling.get("guidance_end", 1.0),
        )

    @property
    def passes(self) -> float:
        """How often the model is run over a frame of the usual size for a take.

        Guidance runs it a second time at each step that is guided, the weight of the image model a
        third time.
        """
        scale, share = self.upscale or (0.0, 0.0)
        each = 1 + self.guidance_end * (self.guidance > 1) + (self.temporal != 1)
        return self.steps * self.frames * each * (1 + share * scale**2)

    @property
    def pictures(self) -> float:
        """How many frames of the usual size are decoded for a take."""
        return self.frames * (self.upscale[0] ** 2 if self.upscale else 1.0)


@dataclass(frozen=True)
class Speed:
    """Seconds: ``once`` for a run (guides, starting, loading), then each pass and each frame."""

    device: str
    once: float
    each_pass: float
    each_frame: float

    def seconds(self, work: Work) -> float:
        """How long ``work`` will take."""
        each = self.each_pass * work.passes + self.each_frame * work.pictures
        return self.once + each * work.takes


def measured(
    request: dict[str, Any], takes: list[dict[str, Any]], whole: float, known: Speed | None
) -> Speed:
    """The speed that a run shows, which took ``whole`` seconds and made ``takes`` of ``request``.

    A redone take (``whole`` 0) renders no guides: its ``once`` is that of ``known``.
    """
    work = Work.of(request, len(takes))
    sampled = sum(take["seconds"]["sampling"] for take in takes)
    decoded = sum(take["seconds"]["decode"] for take in takes)
    once = max(0.0, whole - sampled - decoded) if whole else (known.once if known else 0.0)
    return Speed(
        device=str(takes[-1]["plan"]["device"]),
        once=once,
        each_pass=sampled / (work.passes * work.takes),
        each_frame=decoded / (work.pictures * work.takes),
    )


class Speeds:
    """The speeds known on this machine, in a file; read once, written with each that is new."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Speed] | None = None

    def of(self, model: str, engine: str) -> Speed | None:
        """The speed of a model with an engine, None before its first take."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(f"{engine} {model}")

    def learn(self, model: str, engine: str, speed: Speed) -> None:
        """Note the newest speed; a disk that is full only forgets it with Blender."""
        self.of(model, engine)
        assert self._known is not None
        self._known[f"{engine} {model}"] = speed
        content = {name: asdict(speed) for name, speed in self._known.items()}
        part = self._file.with_name(f"{self._file.name}.part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"schema": _SCHEMA, "speeds": content}), encoding="utf-8")
            os.replace(part, self._file)
        except OSError as error:
            print(f"Animatic: the speed of {model} could not be written down: {error}")

    def _read(self) -> dict[str, Speed]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return {name: Speed(**speed) for name, speed in content["speeds"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # none yet, or of a later version: learnt again


def in_words(seconds: float) -> str:
    """A time as a person would say it."""
    if seconds < 55:
        return f"About {5 * max(1, round(seconds / 5))} s"
    if seconds < 3300:
        return f"About {round(seconds / 60)} min"
    return f"About {seconds / 3600:.1f} h"
