"""What ``--keyframes`` means, and the scene frames it comes to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from .errors import ShotError
from .timing import ClipTiming

# The kinds whose frames are found in the scene; the others follow from the text and the timing.
SCENE_KINDS = ("camera", "objects", "markers")
FORMS = "camera, objects, markers, every:N, all, or a list of frames such as 1,12,24"
_LISTED = re.compile(r"([+-]?\d{1,9}(?:\.\d{1,9})?)(?:@(\d{1,3}(?:\.\d{1,9})?))?", re.ASCII)
MAX_STRENGTH = 2.0

_WHERE = {
    "camera": "The camera has no keys",
    "objects": "No object has a key",
    "markers": "There is no timeline marker",
}


@dataclass(frozen=True)
class KeyframeSpec:
    """A choice of keyframes.

    ``kind`` is camera, objects, markers, every, all or list; ``every`` is the N of every:N in scene
    frames, 0 otherwise; ``listed`` holds the scene frames of a list, ascending, each once, and
    ``strengths`` (0 to 2) those of them that are held more or less than the others.
    """

    kind: str
    every: int = 0
    listed: tuple[Fraction, ...] = ()
    strengths: tuple[tuple[Fraction, float], ...] = ()


def parse_keyframes(spec: str) -> KeyframeSpec:
    """Read ``camera|objects|markers|every:N|all|1,12@0.5,24`` (N is >= 1).

    A frame may have decimals, and after @ the strength at which its guide holds, 0 to 2 (else 1).
    Raises ShotError that names what cannot be read.
    """
    text = spec.strip().lower()
    if text in SCENE_KINDS or text == "all":
        return KeyframeSpec(text)
    if text.startswith("every"):
        match = re.fullmatch(r"every:\s*(\d{1,9})", text, re.ASCII)
        if not match or int(match[1]) < 1:
            raise ShotError(
                f"{spec!r} is not every:N: give a whole number of frames from 1 on, e.g. every:8."
            )
        return KeyframeSpec("every", every=int(match[1]))
    if not text:
        raise ShotError(f"No keyframes were named. Use {FORMS}.")
    strengths: dict[Fraction, float] = {}
    for part in text.split(","):
        listed = part.strip()
        match = _LISTED.fullmatch(listed)
        if not match:
            wrong = f"{listed!r} in the keyframes {spec!r}" if "," in text else repr(spec)
            raise ShotError(f"{wrong} is not a frame number. Use {FORMS}.")
        strength = float(match[2] or 1)
        if strength > MAX_STRENGTH:
            raise ShotError(f"The strength of keyframe {listed!r} is over {MAX_STRENGTH:g}.")
        strengths[Fraction(match[1])] = strength
    unlike = tuple((frame, value) for frame, value in sorted(strengths.items()) if value != 1)
    return KeyframeSpec("list", listed=tuple(sorted(strengths)), strengths=unlike)


def choose_frames(
    spec: KeyframeSpec, timing: ClipTiming, found: Iterable[Fraction] = ()
) -> list[Fraction]:
    """Return the scene frames that ``spec`` means, ascending; at least one.

    ``found`` are the frames keyed in the scene, for camera, objects and markers: those outside the
    shot are passed over, and ShotError is raised when none is left. A list is returned as it is, so
    that a frame outside the shot is refused when it is snapped. ``all`` is every clip frame's own
    time, ``every`` counts scene frames from the shot's start.
    """
    if spec.kind == "list":
        return list(spec.listed)
    if spec.kind == "all":
        return [timing.scene_time(k) for k in range(timing.frames)]
    if spec.kind == "every":
        return [Fraction(frame) for frame in range(timing.start, timing.end + 1, spec.every)]
    every = sorted(set(found))
    inside = [frame for frame in every if timing.start <= frame < timing.end + 1]
    if not inside:
        where = _WHERE[spec.kind]
        if every:
            where += f" inside the shot (there are {len(every)} outside)"
        raise ShotError(
            f"{where}, frames {timing.start} to {timing.end}: set some, or name frames with "
            f"--keyframes every:8 or --keyframes {timing.start},{timing.end}."
        )
    return inside
