"""Quality levels: data of presets/, for the panel and the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .catalogue import PRESETS, Checkpoint


@dataclass(frozen=True)
class Quality:
    """A quality level: factors on the steps and on the guidance that the model's card names, and a
    noise schedule (of the request's sampling) where the card names none. A model whose card has
    weights for few steps at this level uses these in place of all three. ``deflicker`` says whether
    frames are steadied along the scene's motion where the model's card asks for it.
    """

    id: str
    name: str
    description: str
    steps: float
    guidance: float
    schedule: str | None = None
    deflicker: bool = True


@dataclass(frozen=True)
class Level:
    """What a quality level comes to with a model: entries of the request's sampling, and the LoRAs
    that it brings.
    """

    steps: int
    guidance: float
    schedule: str | None
    loras: tuple[tuple[str, float], ...] = ()
    guidance_end: float = 1.0


STANDARD = Quality("standard", "Standard", "", 1.0, 1.0)


def needs_guidance(
    negative_prompt: str, temporal: float, guess: bool = False, reference: bool = False
) -> bool:
    """Whether a request does what it asks for with guidance only, or, as with a ``reference``
    picture, does much less of it without.
    """
    return bool(negative_prompt.strip()) or temporal != 1.0 or guess or reference


def level_for(
    quality: Quality,
    checkpoint: Checkpoint,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    schedule: str | None = None,
    guidance_end: float | None = None,
    guided: bool = False,
) -> Level:
    """What ``quality`` comes to with ``checkpoint``.

    What is said by hand (``steps``, ``guidance``, ``schedule``, ``guidance_end``) goes before it.
    Weights for few steps leave guidance out and have a schedule of their own, so they are not used
    where one of these is said by hand, or where something needs guidance (``guided``, see
    ``needs_guidance``).
    """
    few = checkpoint.few_steps
    own_way = guided or (guidance, guidance_end, schedule) != (None, None, None)
    if few and quality.id in few.steps and not own_way:
        taken = few.steps[quality.id] if steps is None else steps
        return Level(taken, 1.0, "lcm", ((few.lora, 1.0),))
    usual = max(1, round(checkpoint.steps * quality.steps))
    if guidance is None:
        guidance = max(1.0, checkpoint.guidance * quality.guidance)
    end = checkpoint.guidance_end if guidance_end is None else guidance_end
    return Level(
        usual if steps is None else steps,
        guidance,
        schedule or checkpoint.schedule or quality.schedule,
        # Without guidance there is nothing to end.
        guidance_end=end if guidance > 1 else 1.0,
    )


def read_qualities() -> dict[str, Quality]:
    """The quality levels by id, the quickest first."""
    levels = json.loads((PRESETS / "quality.json").read_text(encoding="utf-8"))
    return {level["id"]: Quality(**level) for level in levels}
