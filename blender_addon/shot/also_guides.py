"""Guides of further kinds beside a shot's own, each with keyframes, strength and encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .errors import ShotError
from .keyframes import parse_keyframes
from .request import ENCODERS, Steering, keyed_guides

GUIDES = ("depth", "lineart", "render")
FORM = "GUIDE[/ENCODER][@STRENGTH]:KEYFRAMES, e.g. lineart@0.5:every:8"


@dataclass(frozen=True)
class AlsoGuide:
    """One more kind of guide: ``keyframes`` as the command line spells them, ``strength`` 0 to 2,
    ``encoder`` "sparse" or "image", or None for the model's usual one.
    """

    guide: str
    keyframes: str
    strength: float = 1.0
    encoder: str | None = None


def parse_also(text: str) -> AlsoGuide:
    """Read GUIDE[/ENCODER][@STRENGTH]:KEYFRAMES. Raises ShotError for what cannot be meant."""
    head, colon, keyframes = text.partition(":")
    head, _, strength = head.partition("@")
    guide, slash, encoder = head.partition("/")
    try:
        held = float(strength or 1)
    except ValueError:
        held = -1.0
    known = guide in GUIDES and (not slash or encoder in ENCODERS)
    if not known or not colon or not keyframes or not 0 <= held <= 2:
        raise ShotError(f"{text!r} is not {FORM}; guides are {', '.join(GUIDES)}.")
    return AlsoGuide(guide, keyframes, held, encoder or None)


def check_also(
    guides: Sequence[AlsoGuide], encoders: Mapping[str, Sequence[str]], model: str
) -> None:
    """Raise ShotError where ``model``, with these ``encoders`` for each kind of guide, cannot take
    all ``guides`` at once, or their keyframes cannot be read.
    """
    taken = set()
    for each in guides:
        parse_keyframes(each.keyframes)
        has = encoders.get(each.guide, ())
        if not has or (each.encoder is not None and each.encoder not in has):
            raise ShotError(
                f"{model} has no {each.encoder or 'control'} encoder for the guide "
                f"{each.guide!r}; it takes: {', '.join(encoders)}."
            )
        kind = each.guide, each.encoder or has[0]
        if kind in taken:
            raise ShotError(
                f"{each.guide} guides are asked for twice with one encoder: name all their "
                "keyframes at once, or another encoder for one of them."
            )
        taken.add(kind)


def merged(shot: dict[str, Any], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The result of the guides task with those of further kinds: their guides say which they are
    ("also": from 0), and so does a list of their keyframes.
    """
    whole = {**shot, "also": []}
    for index, other in enumerate(others):
        kind = other["guides"][0]["guide"]
        whole["also"].append({"guide": kind, "keyframes": other["keyframes"]})
        whole["guides"] = [*whole["guides"], *({**g, "also": index} for g in other["guides"])]
        new = [warning for warning in other["warnings"] if warning not in whole["warnings"]]
        whole["warnings"] = [*whole["warnings"], *new]
        whole["depth"] = whole["depth"] or other["depth"]
    return whole


def also_controls(
    shot: dict[str, Any], also: Sequence[AlsoGuide], steering: Steering
) -> list[dict[str, Any]]:
    """The request's controls of the guides in ``shot``, a merged result. They act in the steps of
    the ``steering``; its blur is for depth alone.
    """
    controls = []
    for index, (each, found) in enumerate(zip(also, shot["also"], strict=True)):
        guides = [guide for guide in shot["guides"] if guide.get("also") == index]
        strengths: dict[Fraction, float] = dict(parse_keyframes(each.keyframes).strengths)
        common = steering.control()
        common.pop("encoder", None)
        if each.guide != "depth":
            common.pop("blur", None)
        named = {} if each.encoder is None else {"encoder": each.encoder}
        controls.append(
            {
                "guide": each.guide,
                "strength": float(each.strength),
                "keyframes": keyed_guides(guides, found["keyframes"], strengths),
                **named,
                **common,
            }
        )
    return controls
