"""Builds a request, the one object that says everything about what is to be made.

Its format is presets/schema/request.schema.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from .errors import ShotError
from .timing import ClipTiming, decimal, snap_keyframes

SCHEMA = 1
MAX_SEED = 2**32 - 1
MAX_TAKES = 64
MAX_PROMPT = 4000
MAX_BLUR = 4
MAX_TEMPORAL = 4
MAX_LORAS = 8
MAX_LORA_SCALE = 2
ENCODERS = ("sparse", "image")


@dataclass(frozen=True)
class Steering:
    """What may be asked for beyond prompt, guidance and strength; by itself it asks for nothing.

    ``temporal`` 0 to 4 ties the frames together (Gen-1; 1 is plain guidance); the guidance ends
    after a share of ``guidance_end`` of the steps; ``blur`` 0 to 4 takes details off depth guides;
    the guides act from ``start`` to ``end``, shares of the steps;
    ``encoder`` is "sparse" or "image" where it is not to be the model's usual one; with ``guess``
    they lead without the prompt (ControlNet's guess mode); ``over_steps`` are (share of the steps,
    factor on the strength); ``loras`` are (name, scale from -2 to 2);
    ``prompts`` are (scene frame, prompt): the text changes from one to the next.
    """

    temporal: float = 1.0
    guidance_end: float = 1.0
    blur: int = 0
    start: float = 0.0
    end: float = 1.0
    encoder: str | None = None
    guess: bool = False
    over_steps: tuple[tuple[float, float], ...] = ()
    loras: tuple[tuple[str, float], ...] = ()
    prompts: tuple[tuple[Fraction, str], ...] = ()

    def check(self, guide: str) -> None:
        """Raise ShotError where this is out of the request's limits or not for ``guide``."""
        for frame, text in self.prompts:
            _check_text(f"prompt at frame {decimal(frame)}", text)
        _check_number("temporal guidance", self.temporal, 0, MAX_TEMPORAL)
        if not 0 < self.guidance_end <= 1:
            raise ShotError(
                f"The guidance would end after {self.guidance_end:g} of the steps: set a share "
                "above 0 and at most 1, or the guidance itself to 1."
            )
        _check_number("blur", self.blur, 0, MAX_BLUR)
        if self.blur and guide != "depth":
            raise ShotError(
                f"Blur takes details off depth guides; the guide here is {guide}. Leave it out, or "
                "lower the strength instead."
            )
        _check_number("start of the guides", self.start, 0, 1)
        _check_number("end of the guides", self.end, 0, 1)
        if self.start >= self.end:
            raise ShotError(
                f"The guides would act from {self.start:g} to {self.end:g} of the steps, which is "
                "never: set the start before the end."
            )
        for at, strength in self.over_steps:
            _check_number("share of the steps", at, 0, 1)
            _check_number("strength over the steps", strength, 0, 2)
        if len({at for at, _ in self.over_steps}) < len(self.over_steps):
            raise ShotError("Two strengths are set at one share of the steps: keep one of them.")
        if self.encoder not in (None, *ENCODERS):
            raise ShotError(f"{self.encoder!r} is no encoder: use {' or '.join(ENCODERS)}.")
        if len(self.loras) > MAX_LORAS:
            raise ShotError(
                f"{len(self.loras)} LoRAs were asked for: use {MAX_LORAS} at most at once."
            )
        for name, scale in self.loras:
            _check_number(f"scale of the LoRA {name}", scale, -MAX_LORA_SCALE, MAX_LORA_SCALE)

    def control(self) -> dict[str, Any]:
        """What a request's controls hold of this."""
        named: dict[str, Any] = {} if self.encoder is None else {"encoder": self.encoder}
        if self.over_steps:
            named["over_steps"] = [{"at": a, "strength": s} for a, s in sorted(self.over_steps)]
        return named | self._asked("blur", "start", "end", "guess")

    def sampling(self) -> dict[str, Any]:
        """What a request's sampling holds of this."""
        return self._asked("temporal", "guidance_end")

    def _asked(self, *names: str) -> dict[str, Any]:
        # What is as usual stays out: the request is then the one of a time before it could be
        # asked. An int and a float of one value make one request.
        usual = {name: getattr(Steering(), name) for name in names}
        asked = {name: type(value)(getattr(self, name)) for name, value in usual.items()}
        return {name: value for name, value in asked.items() if value != usual[name]}


UNSTEERED = Steering()


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
    _check_text("prompt", prompt)
    _check_text("negative prompt", negative_prompt)
    _check_number("number of steps", steps, 1, 150)
    _check_number("guidance", guidance, 1, 30)
    _check_number("strength", strength, 0, 2)


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_PROMPT:
        raise ShotError(
            f"The {name} has {len(text)} characters: shorten it to {MAX_PROMPT} or fewer."
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ShotError(f"The {name} holds bytes that are not UTF-8 text: type it anew.")


def _check_number(name: str, value: float, least: float, most: float) -> None:
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
    strengths: Mapping[Fraction, float] = MappingProxyType({}),
    steering: Steering = UNSTEERED,
    lora_hashes: Mapping[str, str | None] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the request for ``shot``, the result of the guides task.

    ``checkpoint`` holds ``name`` and ``sha256`` (or None); ``strength`` (0 to 2) holds for all
    guides; a keyframe's own is that of its asked scene frame in ``strengths`` (0 to 2), else 1.
    ``lora_hashes`` are the SHA-256 of the steering's LoRAs by name, where they are known.
    Raises ShotError as ``check_asked`` and ``Steering.check``, when the shot has no guides, and
    for prompts outside the shot or on one clip frame.
    """
    check_asked(prompt, negative_prompt, steps, guidance, strength)
    guides = [guide for guide in shot["guides"] if "also" not in guide]
    for guide in guides:
        steering.check(guide["guide"])
    if not guides:
        raise ShotError("The shot has no guides: choose keyframes inside its range.")
    keyframes = keyed_guides(guides, shot.get("keyframes", []), strengths)
    clip = shot["shot"]["clip"]
    prompts = _snapped_prompts(shot["shot"], steering) if steering.prompts else []
    named = ("clip_frame", "to", "sha256")
    motions = [{name: each[name] for name in named} for each in shot.get("motions", [])]
    return {
        "schema": SCHEMA,
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        **({"prompts": prompts} if prompts else {}),
        "checkpoint": {"name": checkpoint["name"], "sha256": checkpoint["sha256"]},
        "loras": [
            {"name": name, "sha256": lora_hashes.get(name), "scale": float(scale)}
            for name, scale in steering.loras
        ],
        "clip": {name: clip[name] for name in ("frames", "fps", "width", "height")},
        "controls": [
            {
                "guide": guides[0]["guide"],
                "strength": float(strength),
                "keyframes": keyframes,
                **steering.control(),
            }
        ],
        "sampling": {"steps": steps, "guidance": float(guidance), **steering.sampling()},
        **({"deflicker": motions} if motions else {}),
        "seeds": list(seeds),
        "shot": {**shot["shot"], "depth": shot["depth"]},
    }


def keyed_guides(
    guides: Sequence[Mapping[str, Any]],
    keyframes: list[dict[str, Any]],
    strengths: Mapping[Fraction, float],
) -> list[dict[str, Any]]:
    """A control's keyframes: its ``guides`` in order, each at its own strength, or 1."""
    own = _own_strengths(keyframes, strengths) if strengths else {}
    return [
        {
            "clip_frame": guide["clip_frame"],
            "sha256": guide["sha256"],
            "strength": own.get(guide["clip_frame"], 1.0),
        }
        for guide in sorted(guides, key=lambda guide: guide["clip_frame"])
    ]


def _own_strengths(
    keyframes: list[dict[str, Any]], strengths: Mapping[Fraction, float]
) -> dict[int, float]:
    return {
        keyframe["clip_frame"]: strengths.get(Fraction(keyframe["asked"]), 1.0)
        for keyframe in keyframes
        if keyframe["kept"]
    }


def _snapped_prompts(shot: dict[str, Any], steering: Steering) -> list[dict[str, Any]]:
    clip = shot["clip"]
    timing = ClipTiming(
        shot["start"],
        shot["end"],
        Fraction(shot["scene_fps"]),
        clip["frames"],
        Fraction(clip["fps"]),
    )
    texts = dict(steering.prompts)
    snapped = snap_keyframes(list(texts), timing)
    for one in snapped:
        if not one.kept:
            raise ShotError(
                f"The prompt at frame {decimal(one.asked)} shares its clip frame with another one "
                "that is nearer: move it, or leave it out."
            )
    return [
        {"clip_frame": one.clip_frame, "prompt": texts[one.asked]}
        for one in sorted(snapped, key=lambda one: one.clip_frame)
    ]


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
