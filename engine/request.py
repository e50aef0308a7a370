"""What the engine refuses before it computes anything.

The service has held the request against its schema; what is left is what only the loaded
checkpoint can tell.
"""

from collections.abc import Mapping
from typing import Any

from .errors import EngineError
from .parts import Parts

FRAMES_CAP = 32


def check_request(request: Mapping[str, Any], parts: Parts) -> None:
    """Raise EngineError, one sentence, where ``parts`` cannot do what ``request`` asks."""
    clip = request["clip"]
    width, height, frames = clip["width"], clip["height"], clip["frames"]
    name = parts.info.name
    longest = min(FRAMES_CAP, parts.max_frames)
    if not 1 <= frames <= longest:
        raise EngineError(
            f"The clip has {frames} frames; {name} makes 1 to {longest} at once. Lower the number "
            "of frames, or split the shot."
        )
    multiple = max(8, parts.latent_scale)
    if width < multiple or height < multiple or width % multiple or height % multiple:
        raise EngineError(
            f"{name} cannot make pictures of {width}x{height} pixels: both sides must be multiples "
            f"of {multiple}. Change the size."
        )
    wanted = request["checkpoint"]["sha256"]
    if wanted is not None and wanted != parts.sha256:
        raise EngineError(
            f"The request was made for another version of {name} ({wanted[:12]}; here it is "
            f"{parts.sha256[:12]}). Install that version, or generate anew with this one."
        )
    if request["sampling"]["guidance"] < 1 or request["sampling"]["steps"] < 1:
        raise EngineError("Guidance and the number of steps start at 1. Raise them.")
    for control in request["controls"]:
        _check_control(control, frames, parts)


def _check_control(control: Mapping[str, Any], frames: int, parts: Parts) -> None:
    guide = control["guide"]
    keyed = [keyframe["clip_frame"] for keyframe in control["keyframes"]]
    if not keyed:
        raise EngineError(
            f"The {guide} guide has no keyframes. Set at least one, or take the guide away."
        )
    if len(set(keyed)) < len(keyed):
        raise EngineError(
            f"Two {guide} guides are set on one clip frame. Keep one guide for each frame."
        )
    outside = [k for k in keyed if not 0 <= k < frames]
    if outside:
        raise EngineError(
            f"The {guide} guide has a keyframe at clip frame {outside[0]}; the clip's frames are 0 "
            f"to {frames - 1}. Move the keyframe or lengthen the clip."
        )
    if min(control["strength"], *(k["strength"] for k in control["keyframes"])) < 0:
        raise EngineError(f"The {guide} guide has a strength below 0. Use 0 to switch it off.")
    longest = parts.control(guide).config.motion_max_seq_length
    if frames > longest:
        raise EngineError(
            f"The control encoder for {guide} guides holds at most {longest} frames and the clip "
            f"has {frames}. Lower the number of frames."
        )
