"""Builds a request, the one object that says everything about what is to be made.

Its format is presets/schema/request.schema.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from .errors import ShotError

SCHEMA = 1
MAX_SEED = 2**32 - 1
MAX_TAKES = 64
MAX_PROMPT = 4000


def seeds_for(seed: int, takes: int) -> list[int]:
    """Return one seed for each take: ``seed``, ``seed + 1``, ... modulo 2^32.

    Take n of a run can so be asked for by itself later. Raises ShotError unless ``seed`` is 0 to
    2^32 - 1 and ``takes`` 1 to 64.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ShotError(
            f"The seed {seed} is out of range: use a whole number from 0 to {MAX_SEED}."
        )
    if not 1 <= takes <= MAX_TAKES:
        raise ShotError(f"{takes} takes were asked for: ask for 1 to {MAX_TAKES} at once.")
    return [(seed + index) % (MAX_SEED + 1) for index in range(takes)]


def check_asked(
    prompt: str, negative_prompt: str, steps: int, guidance: float, strength: float
) -> None:
    """Raise ShotError where an artist's number or text is out of the request's limits.

    ``steps`` 1 to 150, ``guidance`` 1 to 30, ``strength`` 0 to 2, texts up to 4000 characters.
    """
    for name, text in (("prompt", prompt), ("negative prompt", negative_prompt)):
        if len(text) > MAX_PROMPT:
            raise ShotError(
                f"The {name} has {len(text)} characters: shorten it to {MAX_PROMPT} or fewer."
            )
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ShotError(f"The {name} holds bytes that are not UTF-8 text: type it anew.")
    for name, value, least, most in (
        ("number of steps", steps, 1, 150),
        ("guidance", guidance, 1, 30),
        ("strength", strength, 0, 2),
    ):
        # Written so that NaN is refused too.
        if not least <= value <= most:
            raise ShotError(f"The {name} is {value}: set it from {least} to {most}.")


def build_request(
    shot: dict[str, Any],
    prompt: str,
    negative_prompt: str,
    checkpoint: dict[str, Any],
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    strength: float,
) -> dict[str, Any]:
    """Return the request for ``shot``, the result of the guides task.

    ``checkpoint`` holds ``name`` and ``sha256`` (or None); ``strength`` (0 to 2) holds for all
    guides, each keyframe's own is 1. Raises ShotError as ``check_asked``, and when the shot has no
    guides.
    """
    check_asked(prompt, negative_prompt, steps, guidance, strength)
    if not shot["guides"]:
        raise ShotError("The shot has no guides: choose keyframes inside its range.")
    keyframes: dict[str, list[dict[str, Any]]] = {}
    for guide in sorted(shot["guides"], key=lambda guide: guide["clip_frame"]):
        keyframes.setdefault(guide["guide"], []).append(
            {"clip_frame": guide["clip_frame"], "sha256": guide["sha256"], "strength": 1.0}
        )
    clip = shot["shot"]["clip"]
    return {
        "schema": SCHEMA,
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "checkpoint": {"name": checkpoint["name"], "sha256": checkpoint["sha256"]},
        "loras": [],
        "clip": {name: clip[name] for name in ("frames", "fps", "width", "height")},
        "controls": [
            {"guide": guide, "strength": float(strength), "keyframes": keyed}
            for guide, keyed in keyframes.items()
        ],
        "sampling": {"steps": steps, "guidance": float(guidance)},
        "seeds": list(seeds),
        "shot": {**shot["shot"], "depth": shot["depth"]},
    }


def canonical_json(obj: Any) -> bytes:
    """Return the one JSON text of ``obj`` that is hashed: sorted keys, no spaces, UTF-8.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    text = json.dumps(
        obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def request_hash(request: dict[str, Any]) -> str:
    """Return the SHA-256 of a request's canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(canonical_json(request)).hexdigest()
