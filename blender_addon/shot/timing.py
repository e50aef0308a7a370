"""Which clip frame is on screen at which scene frame, in exact fractions.

Clip frame k is on screen from k/clip_fps to (k+1)/clip_fps seconds after the shot's start; scene
frame f is on screen from (f-start)/scene_fps seconds for one scene frame. Floats would put a frame
on the wrong side of such a border at 23.976 frames per second, so there are none in here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .errors import ShotError


def scene_rate(fps: int, fps_base: float) -> Fraction:
    """Return a scene's frames per second, ``fps / fps_base``: 24 and 1.001 give 24000/1001.

    Blender keeps the base in single precision (1.001 is 1.0010000467), off by 6e-8 of it at most;
    fractions of denominators up to 1000 lie at least 1e-6 apart, so the meant one is found again.
    """
    return fps / Fraction(fps_base).limit_denominator(1000)


@dataclass(frozen=True)
class ClipTiming:
    """How a clip lies on a shot.

    ``start`` and ``end`` are scene frames, both inclusive; ``frames`` is the number of clip frames,
    counted from 0; ``note`` is a sentence for the artist where clip and shot differ in length.
    """

    start: int
    end: int
    scene_fps: Fraction
    frames: int
    clip_fps: Fraction
    note: str = ""

    def scene_time(self, k: int) -> Fraction:
        """Return the time of clip frame ``k`` in scene frames (a subframe where it is no integer).

        It lies before ``end + 1``.
        """
        return self.start + k * self.scene_fps / self.clip_fps

    def clip_frame_at(self, scene_frame: int) -> int:
        """Return the clip frame that is on screen when scene frame ``scene_frame`` begins."""
        at = (scene_frame - self.start) * self.clip_fps / self.scene_fps
        return min(self.frames - 1, math.floor(at))

    def frame_map(self) -> list[int]:
        """Return the clip frame for each scene frame from start to end."""
        return [self.clip_frame_at(frame) for frame in range(self.start, self.end + 1)]

    def position(self, scene_frame: int) -> tuple[int, Fraction]:
        """Return the clip frame at or before ``scene_frame``, and how far it is to the next one.

        The second is a share, 0 exactly at the clip frame, and 1 or more where the last clip frame
        is that long ago.
        """
        at = (scene_frame - self.start) * self.clip_fps / self.scene_fps
        before = min(self.frames - 1, math.floor(at))
        return before, at - before

    def between(self) -> list[tuple[int, int, Fraction]]:
        """Return (scene frame, clip frame before it, share) for those that lie on no clip frame."""
        frames = range(self.start, self.end + 1)
        return [(frame, *at) for frame in frames if (at := self.position(frame))[1]]

    @classmethod
    def of_shot(cls, shot: Mapping[str, Any]) -> ClipTiming:
        """Return the timing that a shot object (of the guides task, or a request's) describes."""
        clip = shot["clip"]
        rates = Fraction(shot["scene_fps"]), Fraction(clip["fps"])
        return cls(shot["start"], shot["end"], rates[0], clip["frames"], rates[1])


def plan_clip(
    start: int,
    end: int,
    scene_fps: Fraction,
    model_frames: int,
    model_fps: Fraction,
    frames: int | None = None,
) -> ClipTiming:
    """Lay a model's clip on the scene frames ``start`` to ``end`` (both inclusive).

    A shot that needs as many frames at ``model_fps`` as the clip has keeps that rate. In a longer
    one the frames are spread evenly over the whole shot, in a shorter one only those are made that
    it shows; ``note`` then says so. ``frames`` (1 to ``model_frames``) asks for a shorter clip.
    Raises ShotError for a range that ends before it starts, or too many frames.
    """
    if end < start:
        raise ShotError(
            f"The range ends at frame {end}, before its start at {start}: swap the two numbers."
        )
    if frames is not None and not 1 <= frames <= model_frames:
        raise ShotError(
            f"{frames} frames were asked for; this model makes 1 to {model_frames} at once. "
            "Ask for fewer, or split the shot with --range."
        )
    limit = model_frames if frames is None else frames
    length = end - start + 1
    # The last clip frame that the shot shows is the one on screen at its last scene frame.
    needed = math.floor((length - 1) * model_fps / scene_fps) + 1
    if needed > limit:
        clip_fps = limit * scene_fps / length
        note = _spread_note(start, length, scene_fps, limit, model_fps, clip_fps)
        return ClipTiming(start, end, scene_fps, limit, clip_fps, note)
    note = ""
    if needed < limit:
        note = (
            f"The shot is short: {_count(length, 'scene frame')} ({_seconds(length / scene_fps)}) "
            f"need {needed} of the {limit} frames that could be made at {decimal(model_fps)} per "
            f"second, so the clip has {_count(needed, 'frame')}."
        )
    return ClipTiming(start, end, scene_fps, needed, model_fps, note)


@dataclass(frozen=True)
class SnappedKeyframe:
    """A keyframe and the clip frame that holds it.

    ``asked`` and ``scene_time`` are scene frames, ``shift`` is the second less the first. Where
    ``kept`` is False another keyframe took the clip frame, and ``reason`` is a sentence about it.
    """

    asked: Fraction
    clip_frame: int
    scene_time: Fraction
    shift: Fraction
    kept: bool
    reason: str = ""


def snap_keyframes(asked: Sequence[Fraction], timing: ClipTiming) -> list[SnappedKeyframe]:
    """Put each asked scene frame on the nearest clip frame in time (the earlier of two as near).

    Of several on one clip frame the nearest is kept, of two as near the earlier. The result is in
    the order of ``asked``. Raises ShotError for a frame outside the shot.
    """
    outside = [frame for frame in asked if not timing.start <= frame < timing.end + 1]
    if outside:
        names = ", ".join(decimal(frame) for frame in sorted(set(outside)))
        raise ShotError(
            f"Outside the shot's frames {timing.start} to {timing.end}: {names}. Ask for keyframes "
            "inside, or change the range with --range."
        )
    nearest = [nearest_clip_frame(frame, timing) for frame in asked]
    times = [timing.scene_time(k) for k in nearest]
    winners: dict[int, int] = {}
    for index in sorted(range(len(asked)), key=lambda i: (abs(times[i] - asked[i]), asked[i])):
        winners.setdefault(nearest[index], index)
    snapped = []
    for index, (frame, k, time) in enumerate(zip(asked, nearest, times, strict=True)):
        kept = winners[k] == index
        reason = ""
        if not kept:
            winner = asked[winners[k]]
            reason = (
                f"Keyframe {decimal(frame)} is left out: its nearest clip frame, {k + 1} (at scene "
                f"frame {decimal(time)}), already holds keyframe {decimal(winner)}."
            )
        snapped.append(SnappedKeyframe(frame, k, time, time - frame, kept, reason))
    return snapped


def nearest_clip_frame(frame: Fraction, timing: ClipTiming) -> int:
    """Return the clip frame, from 0, that is nearest to a scene frame of the shot."""
    at = (frame - timing.start) * timing.clip_fps / timing.scene_fps
    return min(timing.frames - 1, math.ceil(at - Fraction(1, 2)))


def _spread_note(
    start: int,
    length: int,
    scene_fps: Fraction,
    frames: int,
    model_fps: Fraction,
    clip_fps: Fraction,
) -> str:
    whole = math.ceil(frames * scene_fps / model_fps)
    return (
        f"The shot is longer than the clip: {_count(length, 'scene frame')} "
        f"({_seconds(length / scene_fps)}) for {_count(frames, 'clip frame')} "
        f"({_seconds(frames / model_fps)} at {decimal(model_fps)} per second). They are spread "
        f"over the whole shot, {decimal(clip_fps)} per second; for the full rate choose "
        f"{_count(whole, 'frame')}, e.g. --range {start}:{start + whole - 1}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _seconds(value: Fraction) -> str:
    return f"{decimal(value)} s"


def decimal(value: Fraction) -> str:
    """Return ``value`` as a person reads it, with up to three decimals."""
    return f"{float(value):.3f}".rstrip("0").rstrip(".")
