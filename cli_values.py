"""Values on the command line that are more than a word or a number."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Any

from .blender_addon.shot.also_guides import AlsoGuide, parse_also
from .blender_addon.shot.errors import ShotError
from .blender_addon.shot.passes import USUAL_SHARE


def also(text: str) -> AlsoGuide:
    try:
        return parse_also(text)
    except ShotError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def upscale(text: str) -> tuple[float, float]:
    scale, _, share = text.partition(":")
    try:
        return float(scale), float(share) if share else USUAL_SHARE
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not SCALE[:SHARE], e.g. 1.5") from None


def context(text: str) -> tuple[int, int, str]:
    length, _, rest = text.partition(":")
    overlap, _, schedule = rest.partition(":")
    try:
        return int(length), int(overlap), schedule or "uniform"
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not LENGTH:OVERLAP[:SCHEDULE], e.g. 16:4"
        ) from None


def first_picture(text: str) -> dict[str, Any]:
    """What ``OwnPictures`` is told of the first picture."""
    word, colon, seed = text.partition(":")
    if word != "generate" or (colon and not seed.isdecimal()):
        return {"first": Path(text)}
    return {"generate": True, "first_seed": int(seed) if colon else None}


def scaled(text: str) -> tuple[str, float]:
    name, at, scale = text.rpartition("@")
    try:
        if at and name:
            return name, float(scale)
    except ValueError:
        pass  # an @ in the name
    if not text:
        raise argparse.ArgumentTypeError("the name is missing")
    return text, 1.0


def scene_range(text: str) -> tuple[int, int]:
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not A:B, e.g. 1:48") from None
    if last < first:
        raise argparse.ArgumentTypeError(f"{text!r} ends before it starts")
    return first, last


def rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 240:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate of 1 to 240 frames per second")
    return rate


def prompt_at(text: str) -> tuple[Fraction, str]:
    frame, colon, prompt = text.partition(":")
    try:
        if colon and prompt.strip():
            return Fraction(frame), prompt.strip()
    except (ValueError, ZeroDivisionError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not FRAME:TEXT, e.g. 24:a street at night")


def strength_at(text: str) -> tuple[float, float]:
    share, _, factor = text.partition(":")
    try:
        return float(share), float(factor)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not SHARE:FACTOR, e.g. 0.5:0.2") from None
