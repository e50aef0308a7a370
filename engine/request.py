"""What the engine refuses before it computes anything.

The service has held the request against its schema; what is left is what only the loaded
checkpoint can tell.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .attention import TemporalAttention
from .checkpoint import SPARSE
from .errors import EngineError
from .parts import Parts
from .schedules import LCM_PLACES
from .structure import BLUR_LEVELS
from .windows import Context

# What a model may be given at once, and what it may make by windows or causal attention.
FRAMES_CAP = 32
LONG_CAP = 128


def check_request(request: Mapping[str, Any], parts: Parts) -> None:
    """Raise EngineError, one sentence, where ``parts`` cannot do what ``request`` asks."""
    clip = request["clip"]
    width, height, frames = clip["width"], clip["height"], clip["frames"]
    name = parts.info.name
    longest = min(FRAMES_CAP, parts.max_frames)
    at_once = _frames_at_once(request["sampling"], frames)
    if frames > LONG_CAP:
        raise EngineError(
            f"The clip has {frames} frames; at most {LONG_CAP} can be made. Lower the number of "
            "frames, or split the shot."
        )
    if at_once != frames and at_once > longest:
        raise EngineError(
            f"The context or span has {at_once} frames; {name} holds at most {longest} at once. "
            "Lower it."
        )
    if not 1 <= at_once <= longest:
        raise EngineError(
            f"The clip has {frames} frames; {name} makes 1 to {longest} at once. Lower the number "
            "of frames, split the shot, or set a context."
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
    if not 0 < request["sampling"].get("guidance_end", 1) <= 1:
        raise EngineError(
            "Guidance ends after a share of the steps, above 0 and at most 1. Change it, or set "
            "the guidance itself to 1."
        )
    if request["sampling"].get("temporal", 1) < 0:
        raise EngineError("Temporal guidance starts at 0, where the frames are loosest. Raise it.")
    if request["sampling"].get("schedule") == "lcm" and request["sampling"]["steps"] > LCM_PLACES:
        raise EngineError(
            f"The lcm schedule makes at most {LCM_PLACES} steps, and 4 to 8 are enough for models "
            "made for it. Lower the number of steps."
        )
    keyed = [entry["clip_frame"] for entry in request.get("prompts", [])]
    _check_keyed(keyed, frames, "prompt")
    kinds = []
    for control in request["controls"]:
        _check_control(control, frames, at_once, parts)
        kinds.append((control["guide"], _encoder_for(control, parts)))
        if kinds.count(kinds[-1]) > 1:
            raise EngineError(
                f"Two controls give {kinds[-1][0]} guides to the {kinds[-1][1]} encoder. Put all "
                "their keyframes into one, or name another encoder for one of them."
            )
    if "image_prompt" in request:
        if not 0 <= request["image_prompt"]["scale"] <= 2:
            raise EngineError("The scale of the reference picture is 0 to 2. Change it.")
        if request["image_prompt"]["scale"] > 0:
            parts.image_prompt()


def check_optional_parts(
    request: Mapping[str, Any], parts: Parts, plan: Mapping[str, Any] | None
) -> dict[str, str]:
    """The hashes of the parts that ``request`` uses beside the checkpoint's own, by their paths.

    Raises EngineError where a take with this ``plan`` was made with others: it would be another
    picture.
    """
    here = parts.optional_parts(request)
    then = (plan or {}).get("parts", here)
    changed = next((part for part in here if then.get(part) != here[part]), None)
    if changed is not None:
        raise EngineError(
            f"The take was made with another {changed} ({str(then.get(changed))[:12]}; here it is "
            f"{here[changed][:12]}). Install that one, or generate anew with this one."
        )
    return here


def _encoder_for(control: Mapping[str, Any], parts: Parts) -> str:
    return parts.info.encoder_for(control["guide"], control.get("encoder"))


def _frames_at_once(sampling: Mapping[str, Any], frames: int) -> int:
    """How many frames see each other at once in a clip of ``frames`` frames."""
    try:
        context = Context.asked(sampling)
    except ValueError as error:
        raise EngineError(f"The context cannot be used: {error} Change it.") from error
    attention = TemporalAttention.asked(sampling)
    held = "first_frame" in sampling
    if context is not None and context.schedule == "looped" and (attention or held):
        raise EngineError(
            "A loop has no first frame: causal and window attention and a chosen first picture "
            "cannot go with it. Leave one of them out."
        )
    if sampling.get("noise") == "free" and context is None:
        raise EngineError("Free noise repeats the noise of a window. Set a context with it.")
    at_once = frames if context is None else min(frames, context.length)
    if (held or attention == TemporalAttention("window")) and at_once < frames:
        raise EngineError(
            f"A chosen first picture and window attention need the whole clip at once, and its "
            f"{frames} frames are more than a context of {at_once}. Lower the number of frames."
        )
    if attention is not None and attention.kind == "causal":
        if attention.span < 1:
            raise EngineError("The span of causal attention starts at 1 frame. Raise it.")
        at_once = min(at_once, attention.span)
    return at_once


def _check_control(control: Mapping[str, Any], frames: int, at_once: int, parts: Parts) -> None:
    guide = control["guide"]
    keyed = [keyframe["clip_frame"] for keyframe in control["keyframes"]]
    if not keyed:
        raise EngineError(
            f"The {guide} guide has no keyframes. Set at least one, or take the guide away."
        )
    _check_keyed(keyed, frames, f"{guide} guide")
    if min(control["strength"], *(k["strength"] for k in control["keyframes"])) < 0:
        raise EngineError(f"The {guide} guide has a strength below 0. Use 0 to switch it off.")
    blur = control.get("blur", 0)
    if blur != 0 and guide != "depth":
        raise EngineError(
            f"Blur takes details off depth guides; {guide} guides cannot be blurred. Set it to 0, "
            "or lower their strength instead."
        )
    if not 0 <= blur < BLUR_LEVELS:
        raise EngineError(
            f"The {guide} guide's blur is {blur}; it goes from 0 to {BLUR_LEVELS - 1}. Change it."
        )
    start, end = control.get("start", 0), control.get("end", 1)
    if not 0 <= start < end <= 1:
        raise EngineError(
            f"The {guide} guide acts from {start} to {end} of the steps: both are shares from 0 to "
            "1, and the start comes before the end. Change them, or take the guide away."
        )
    shares = [each["at"] for each in control.get("over_steps", [])]
    if shares != sorted(set(shares)):
        raise EngineError(
            f"The {guide} guide's strengths over the steps are not in order, or two are at one "
            "step. Name each share of the steps once, from the first on."
        )
    encoder = parts.control(guide, control.get("encoder"))
    if _encoder_for(control, parts) != SPARSE:
        return  # it makes frame after frame, and knows of no clip
    longest = encoder.config.motion_max_seq_length
    if at_once > longest:
        raise EngineError(
            f"The control encoder for {guide} guides holds at most {longest} frames at once and "
            f"the clip has {at_once}. Lower the number of frames."
        )


def _check_keyed(keyed: Sequence[int], frames: int, what: str) -> None:
    if len(set(keyed)) < len(keyed):
        raise EngineError(f"Two {what}s are set on one clip frame. Keep one {what} for each frame.")
    outside = [k for k in keyed if not 0 <= k < frames]
    if outside:
        raise EngineError(
            f"The {what} has a keyframe at clip frame {outside[0]}; the clip's frames are 0 to "
            f"{frames - 1}. Move the keyframe or lengthen the clip."
        )
