"""What was decided about a shot, in sentences for the terminal and the panel."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .timing import decimal


def shot_sentences(result: dict[str, Any]) -> list[str]:
    """Return sentences about ``result``, the result of the guides task (without its warnings).

    Clip frames are counted from 1, as their files are.
    """
    shot, clip = result["shot"], result["shot"]["clip"]
    scene_fps, clip_fps = (decimal(Fraction(fps)) for fps in (shot["scene_fps"], clip["fps"]))
    lines = [
        f"Shot {shot['name']}: scene frames {shot['start']} to {shot['end']} at {scene_fps} per "
        f"second; the clip has {clip['frames']} frames of {clip['width']}x{clip['height']} pixels "
        f"at {clip_fps} per second."
    ]
    if shot["note"]:
        lines.append(shot["note"])
    keyframes = result["keyframes"]
    kept = [_placed(keyframe) for keyframe in keyframes if keyframe["kept"]]
    lines.append(f"Keyframes: {'; '.join(kept)}.")
    lines += [keyframe["reason"] for keyframe in keyframes if not keyframe["kept"]]
    for also in result.get("also", []):
        placed = [_placed(keyframe) for keyframe in also["keyframes"] if keyframe["kept"]]
        lines.append(f"Also {also['guide']} guides: {'; '.join(placed)}.")
        lines += [keyframe["reason"] for keyframe in also["keyframes"] if not keyframe["kept"]]
    if result["depth"]:
        depth = result["depth"]
        lines.append(
            f"Depth from {depth['near']:.4g} to {depth['far']:.4g} units, by {depth['method']}."
        )
    return lines


def _placed(keyframe: dict[str, Any]) -> str:
    shift = Fraction(keyframe["shift"])
    moved = ""
    if shift:
        direction = "later" if shift > 0 else "earlier"
        frames = "frame" if abs(shift) == 1 else "frames"
        moved = f" ({decimal(abs(shift))} {frames} {direction})"
    return (
        f"{decimal(Fraction(keyframe['asked']))} on clip frame {keyframe['clip_frame'] + 1}{moved}"
    )
