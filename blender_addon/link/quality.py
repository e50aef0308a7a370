"""Quality levels: data of presets/, for the panel and the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .catalogue import PRESETS


@dataclass(frozen=True)
class Quality:
    """A quality level: factors on the steps and on the guidance that the model's card names, and a
    noise schedule (of the request's sampling) where it is not to be the model's own.
    """

    id: str
    name: str
    description: str
    steps: float
    guidance: float
    schedule: str | None = None


def read_qualities() -> dict[str, Quality]:
    """The quality levels by id, the quickest first."""
    levels = json.loads((PRESETS / "quality.json").read_text(encoding="utf-8"))
    return {level["id"]: Quality(**level) for level in levels}
