"""Which words of a prompt a small model has never read. No bpy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NAMED = 3  # words that a remark names; of more it gives the number


@dataclass(frozen=True)
class Vocabulary:
    """The ``words`` that a model has learned, in lower case, and no others; ``colours`` are those
    of them that it needs one of, to paint anything but dull ones; ``example`` is a prompt."""

    words: tuple[str, ...]
    colours: tuple[str, ...]
    example: str

    @classmethod
    def read(cls, card: dict) -> Vocabulary | None:
        """What a card, or an engine's description of it, says of words; KeyError or TypeError for
        one that is not complete."""
        told = card.get("vocabulary")
        if not told:
            return None
        return cls(tuple(told["words"]), tuple(told["colours"]), str(told["example"]))

    def remark(self, prompts: Iterable[str]) -> str | None:
        """A sentence about what the model will make nothing of, or None where it knows all."""
        used = dict.fromkeys(
            word for text in prompts for word in re.findall(r"[^\W_]+", text.lower())
        )
        known = set(self.words)
        strange = [word for word in used if word not in known]
        if strange:
            more = len(strange) - _NAMED
            named = ", ".join(f'"{word}"' for word in strange[:_NAMED])
            what = f"{named} and {more} more" if more > 0 else named
            told = f"This model has never read {what}."
        elif used and not set(self.colours) & set(used):
            told = "The prompt names no colour, and this model paints dull ones then."
        else:
            return None
        return f"{told} It knows, for example: {self.example}."
