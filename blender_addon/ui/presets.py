"""Looks and quality levels: data of presets/, as the choices of the panel. No bpy."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..link.catalogue import PRESETS
from ..link.quality import read_qualities

NO_LOOK = "none"


@dataclass(frozen=True)
class Look:
    """A style: words that are added to the prompt and to what the picture must not show."""

    id: str
    name: str
    description: str
    prompt: str
    negative_prompt: str


def read_looks() -> dict[str, Look]:
    """The looks by id (the name of their file), in order of their names."""
    files = (PRESETS / "looks").glob("*.json")
    looks = [Look(file.stem, **json.loads(file.read_text(encoding="utf-8"))) for file in files]
    return {look.id: look for look in sorted(looks, key=lambda look: look.name)}


LOOKS = read_looks()
QUALITIES = read_qualities()


def look_items() -> list[tuple[str, str, str, int]]:
    """The looks as items of an EnumProperty."""
    nothing = (NO_LOOK, "None", "Your prompt alone says how it looks", 0)
    # A .blend keeps the number: it must not depend on which other looks there are.
    numbered = [
        (look.id, look.name, f"{look.description}.\nAdds: {look.prompt}", _number(look.id))
        for look in LOOKS.values()
    ]
    return [nothing, *numbered]


def look_thumbnail(look: str) -> Path:
    """The picture that suggests a look; ``make looks`` draws them."""
    return PRESETS / "looks" / f"{look}.png"


def quality_items() -> list[tuple[str, str, str, int]]:
    """The quality levels as items of an EnumProperty."""
    return [(q.id, q.name, q.description, _number(q.id)) for q in QUALITIES.values()]


def with_look(look: str, prompt: str, negative_prompt: str) -> tuple[str, str]:
    """Return prompt and negative prompt with the words of ``look``."""
    if look == NO_LOOK:
        return prompt, negative_prompt
    chosen = LOOKS[look]
    return _joined(prompt, chosen.prompt), _joined(negative_prompt, chosen.negative_prompt)


def _joined(*texts: str) -> str:
    return ", ".join(text.strip().rstrip(",") for text in texts if text.strip())


def _number(name: str) -> int:
    return zlib.crc32(name.encode()) >> 1
