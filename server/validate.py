"""Requests checked against the JSON Schema, with faults told as sentences for an artist."""

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

SCHEMA_FILE = Path(__file__).parents[1] / "presets" / "schema" / "request.schema.json"
MIN_FPS, MAX_FPS = Fraction(1, 1000), 240
"""Of a clip. Far below, no video can be written, which would show only after all sampling."""


class RequestError(ValueError):
    """The request cannot be used; the text is a sentence that says what to change."""


def parse_json(body: bytes) -> Any:
    """Parse strict JSON (no NaN, no Infinity).

    Raises:
        RequestError: if ``body`` is not JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The request is not valid JSON: {error}.") from error


def canonical_sha256(request: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the request's canonical JSON: sorted keys, no spaces, UTF-8.

    Raises:
        RequestError: for what JSON in UTF-8 cannot hold (an infinite number, half a character).
    """
    try:
        text = json.dumps(
            request, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return hashlib.sha256(text.encode()).hexdigest()
    except ValueError as error:
        raise RequestError(f"The request cannot be written as JSON: {error}.") from error


def check_request(request: Any) -> None:
    """Check a request (parsed JSON) against the schema and the rules a schema cannot state.

    Raises:
        RequestError: with one sentence that names the field, its value and what it must be.
    """
    fault = best_match(_validator().iter_errors(request))
    if fault is not None:
        raise RequestError(_sentence(fault))
    fps = Fraction(request["clip"]["fps"])
    if not MIN_FPS <= fps <= MAX_FPS:
        raise RequestError(
            f'clip.fps is "{request["clip"]["fps"]}": it must be from {MIN_FPS} to {MAX_FPS}.'
        )
    frames = request["clip"]["frames"]
    _check_frames("prompts", "prompt", request.get("prompts", []), frames)
    _check_motions(request.get("deflicker", []), frames)
    seen: set[tuple[str, str | None]] = set()
    for number, control in enumerate(request["controls"]):
        # Without an encoder named it is one of the two; which, the checkpoint says to the engine.
        kind = control["guide"], control.get("encoder")
        if kind in seen:
            raise RequestError(
                f"controls[{number}].guide is {control['guide']} a second time: "
                "put all keyframes of one kind of guide into one control."
            )
        seen.add(kind)
        _check_steps(f"controls[{number}]", control)
        where = f"controls[{number}].keyframes"
        _check_frames(where, "guide of a kind", control["keyframes"], frames)


def guide_hashes(request: Mapping[str, Any]) -> set[str]:
    """The content hashes of all pictures that a checked request names: guides, motion, a first
    picture unless it is to be generated, and a reference picture.
    """
    named = [keyframe for control in request["controls"] for keyframe in control["keyframes"]]
    named += request.get("deflicker", [])
    if "sha256" in request["sampling"].get("first_frame", {}):
        named.append(request["sampling"]["first_frame"])
    if "image_prompt" in request:
        named.append(request["image_prompt"])
    return {picture["sha256"] for picture in named}


def _check_steps(where: str, control: dict[str, Any]) -> None:
    start, end = control.get("start", 0), control.get("end", 1)
    if start >= end:
        raise RequestError(
            f"{where} acts from {start} to {end} of the steps, which is never: its start must be "
            "below its end."
        )
    if control.get("blur", 0) and control["guide"] != "depth":
        raise RequestError(
            f"{where}.blur is {control['blur']}: only depth guides can be blurred, and this is "
            f"{control['guide']}."
        )


def _check_motions(motions: list[dict[str, Any]], frames: int) -> None:
    seen: set[tuple[int, int]] = set()
    for number, motion in enumerate(motions):
        ends = motion["clip_frame"], motion["to"]
        if max(ends) >= frames or abs(ends[0] - ends[1]) != 1 or ends in seen:
            raise RequestError(
                f"deflicker[{number}] is from clip frame {ends[0]} to {ends[1]}: it must be from a "
                f"frame to one beside it, both below {frames}, and named once."
            )
        seen.add(ends)


def _check_frames(where: str, what: str, entries: list[dict[str, Any]], frames: int) -> None:
    seen: set[int] = set()
    for number, entry in enumerate(entries):
        clip_frame = entry["clip_frame"]
        field = f"{where}[{number}].clip_frame"
        if clip_frame >= frames:
            raise RequestError(
                f"{field} is {clip_frame}: it must be below {frames}, the clip's number of frames."
            )
        if clip_frame in seen:
            raise RequestError(
                f"{field} is {clip_frame} a second time: a clip frame can hold one {what}."
            )
        seen.add(clip_frame)


@cache
def _validator() -> Draft202012Validator:
    # The standard lets 20.0 pass as an integer; the engine counts with these numbers, and the
    # request's hash would differ for the same request.
    integers = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return extend(Draft202012Validator, type_checker=integers)(schema)


def _sentence(fault: ValidationError) -> str:
    path = _path(list(fault.absolute_path))
    wanted = fault.schema.get("description", "as the request schema says")
    if fault.validator == "required":
        missing = next(name for name in fault.validator_value if name not in fault.instance)
        field = f"{path}.{missing}" if path else missing
        return f"{field} is missing: {path or 'the request'} must be {wanted}."
    if fault.validator == "additionalProperties":
        known = fault.schema["properties"]
        extra = next(name for name in fault.instance if name not in known)
        field = f"{path}.{extra}" if path else extra
        return f"{field[:80]} is not part of a request: {', '.join(known)} are."
    return f"{path or 'The request'} is {_short(fault.instance)}: it must be {wanted}."


def _path(parts: list[Any]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) > 200:
        return f"text of {len(value)} characters"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    return json.dumps(value, ensure_ascii=False)
