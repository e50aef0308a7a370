"""Brings the settings of a take back into the panel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import bpy

from ..errors import AnimaticError
from ..link.catalogue import Checkpoint
from ..link.quality import Level, level_for, needs_guidance
from ..shot.long_clip import LongClip
from ..shot.passes import USUAL_SHARE
from ..shot.request import UNSTEERED
from ..shot.takes import TakeOnDisk
from ..shot.timing import plan_clip
from .asked import find_model, long_clip, shots_of
from .keyframe_list import Row, rewrite, rows_of
from .presets import NO_LOOK, QUALITIES
from .take_index import shot_name

_LARGEST_SEED = 2**31 - 1
# What of a request the panel has fields for.
_CONTROL = {"guide", "strength", "keyframes", "blur", "start", "end", "encoder"}
_SAMPLING = {
    *("steps", "guidance", "guidance_end", "temporal", "schedule"),
    *("upscale", "first_frame", "context", "noise"),
}


def restore(scene: bpy.types.Scene, take: TakeOnDisk) -> None:
    """Set the panel so that Generate asks for ``take`` again; its guides are made from the scene.

    Raises AnimaticError when its model is not here or its seed does not fit the field; nothing is
    then changed.
    """
    settings, request = scene.animatic, take.request
    model = request["checkpoint"]["name"]
    if _name(settings.model) == model:
        model = settings.model
    checkpoint = find_model(model)
    if take.seed > _LARGEST_SEED:
        raise AnimaticError(
            f"The seed {take.seed} of this take is larger than Blender's fields hold: "
            "press Redo, which uses it as it is."
        )
    level = _level(request, checkpoint)
    _check_fields(request)
    settings.model = model
    # The request holds the style's words in its prompt already.
    settings.look = NO_LOOK
    settings.prompt, settings.negative_prompt = request["prompt"], request["negative_prompt"]
    settings.seed, settings.takes = take.seed, 1
    control = request["controls"][0]
    settings.guide, settings.strength = control["guide"], control["strength"]
    settings.blur = control.get("blur", UNSTEERED.blur)
    settings.guide_start = control.get("start", UNSTEERED.start)
    settings.guide_end = control.get("end", UNSTEERED.end)
    settings.encoder = control.get("encoder", "usual")
    _restore_pictures(settings, take)
    brought = {name for name, _ in level.loras}
    _restore_loras(settings, [lora for lora in request["loras"] if lora["name"] not in brought])
    _restore_sampling(settings, checkpoint, level, request["sampling"])
    usual = checkpoint.deflicker and QUALITIES[settings.quality].deflicker
    asked = request["shot"].get("deflicker")
    settings.deflicker = {"on": "ON", "auto": "AUTO"}.get(asked, "OFF" if usual else "AUTO")
    _restore_guide(settings, request["shot"])
    _restore_clip(scene, checkpoint, take)
    _restore_guide_frames(scene, request)


def _name(model: str) -> str:
    try:
        return find_model(model).name
    except AnimaticError:
        return ""


def _restore_sampling(
    settings: bpy.types.PropertyGroup, checkpoint: Checkpoint, level: _Fitting, sampling: dict
) -> None:
    settings.quality = level.quality
    settings.use_steps = level.steps != sampling["steps"]
    if settings.use_steps:
        settings.steps = sampling["steps"]
    settings.use_guidance = level.by_hand or abs(level.guidance - sampling["guidance"]) > 1e-3
    if settings.use_guidance:
        settings.guidance = sampling["guidance"]
    end = sampling.get("guidance_end", UNSTEERED.guidance_end)
    # Without guidance a request does not say when it ends.
    settings.use_guidance_end = sampling["guidance"] > 1 and abs(level.guidance_end - end) > 1e-3
    if settings.use_guidance_end:
        settings.guidance_end = end
    settings.temporal = sampling.get("temporal", UNSTEERED.temporal)
    settings.use_schedule = level.schedule_by_hand and "schedule" in sampling
    if settings.use_schedule:
        settings.schedule = sampling["schedule"]
    _restore_windows(settings, checkpoint, sampling)
    settings.use_upscale = "upscale" in sampling
    if settings.use_upscale:
        settings.upscale = sampling["upscale"]["scale"]


def _restore_windows(
    settings: bpy.types.PropertyGroup, checkpoint: Checkpoint, sampling: dict
) -> None:
    context = sampling.get("context", {})
    settings.loop = context.get("schedule") == "looped"
    usual = LongClip(loop=settings.loop).sampling(checkpoint.frames).get("context", {})
    settings.use_context = context != usual
    if settings.use_context:
        settings.context_length, settings.context_overlap = context["length"], context["overlap"]
    settings.free_noise = sampling.get("noise") == "free"


@dataclass(frozen=True)
class _Fitting(Level):
    """A quality level with which Generate goes from noise to the clip as a request does; with
    ``by_hand`` only where the guidance is set by hand, and ``schedule_by_hand`` the schedule.
    """

    quality: str = ""
    by_hand: bool = False
    schedule_by_hand: bool = False


def _level(request: dict, checkpoint: Checkpoint) -> _Fitting:
    """The quality level for a request, of the same steps where there is one."""
    sampling, asked = request["sampling"], {lora["name"] for lora in request["loras"]}
    guess = any(control.get("guess") for control in request["controls"])
    guided = needs_guidance(
        request["negative_prompt"], sampling.get("temporal", 1.0), guess, "image_prompt" in request
    )
    fitting = []
    for by_hand in (False, True):
        guidance = sampling["guidance"] if by_hand else None
        for each in QUALITIES.values():
            level = level_for(each, checkpoint, guidance=guidance, guided=guided)
            same = level.schedule == sampling.get("schedule")
            if same and {name for name, _ in level.loras} <= asked:
                fitting.append(_Fitting(**vars(level), quality=each.id, by_hand=by_hand))
    if not fitting:  # the schedule was said by hand
        for each in QUALITIES.values():
            level = level_for(each, checkpoint, schedule=sampling.get("schedule"))
            fitting.append(_Fitting(**vars(level), quality=each.id, schedule_by_hand=True))
    return next((each for each in fitting if each.steps == sampling["steps"]), fitting[0])


def _restore_pictures(settings: bpy.types.PropertyGroup, take: TakeOnDisk) -> None:
    """Its own copies of them lie with its guides."""
    prompt = take.request.get("image_prompt")
    kept = sorted(take.guides.glob("reference.*")) if prompt else []
    settings.reference = str(kept[0]) if kept else ""
    if prompt:
        settings.reference_scale = prompt["scale"]
    first = "sha256" in take.request["sampling"].get("first_frame", {})
    kept = sorted(take.guides.glob("first.*")) if first else []
    settings.first = str(kept[0]) if kept else ""


def _restore_loras(settings: bpy.types.PropertyGroup, loras: list[dict]) -> None:
    settings.loras.clear()
    for lora in loras:
        item = settings.loras.add()
        item.name, item.scale = lora["name"], lora["scale"]
    settings.loras_index = 0


def _restore_guide(settings: bpy.types.PropertyGroup, shot: dict) -> None:
    """What was set of the guides by hand."""
    asked = shot.get("guide_settings", {})
    for name in ("near", "far"):
        setattr(settings, f"use_{name}", name in asked)
        if name in asked:
            setattr(settings, name, asked[name])
    settings.use_crease = "crease" in asked
    if settings.use_crease:
        settings.crease = math.radians(asked["crease"])
    settings.lines_of = bpy.data.collections.get(asked.get("lines_of", ""))
    settings.thickness = asked.get("line_thickness", 1.0)


def _restore_clip(scene: bpy.types.Scene, checkpoint: Checkpoint, take: TakeOnDisk) -> None:
    settings, shot = scene.animatic, take.request["shot"]
    frames = (shot["start"], shot["end"])
    name = shot_name(take)
    whole = [(each.start, each.end) for each in shots_of(scene) if each.name == name]
    settings.in_between = bool(shot.get("in_between"))
    settings.use_range = frames not in whole
    if settings.use_range:
        settings.range_start, settings.range_end = frames
    most = long_clip(settings).most_frames(checkpoint.frames)
    usual = plan_clip(*frames, Fraction(shot["scene_fps"]), most, checkpoint.fps)
    settings.use_frames = usual.frames != shot["clip"]["frames"]
    if settings.use_frames:
        settings.frames = shot["clip"]["frames"]


def _restore_guide_frames(scene: bpy.types.Scene, request: dict) -> None:
    shot = request["shot"]
    settings, prompts = scene.animatic, _prompts(request)
    rows = {
        frame: row
        for frame, row in rows_of(settings).items()
        if not shot["start"] <= frame <= shot["end"]
    }
    stride = Fraction(shot["scene_fps"]) / Fraction(shot["clip"]["fps"])
    for keyframe in request["controls"][0]["keyframes"]:
        place = keyframe["clip_frame"]
        frame = min(round(shot["start"] + place * stride), shot["end"])
        rows[frame] = Row(keyframe["strength"], prompt=prompts.get(place, ""))
    rewrite(settings, rows)


def _prompts(request: dict) -> dict[int, str]:
    return {entry["clip_frame"]: entry["prompt"] for entry in request.get("prompts", [])}


def _check_fields(request: dict) -> None:
    """Raise AnimaticError for what the panel has no field for."""
    control, sampling = request["controls"][0], request["sampling"]
    more = [*set(control) - _CONTROL, *set(sampling) - _SAMPLING]
    if sampling.get("context", {}).get("schedule") == "static":
        more.append("context")
    if sampling.get("upscale", {}).get("share", USUAL_SHARE) != USUAL_SHARE:
        more.append("upscale")
    more += [each["guide"] for each in request["controls"][1:]]
    if more:
        raise AnimaticError(
            f"This take uses what the panel has no field for ({', '.join(sorted(more))}): press "
            "Redo, which uses it as it is."
        )
    held = {keyframe["clip_frame"] for keyframe in request["controls"][0]["keyframes"]}
    if not set(_prompts(request)) <= held:
        raise AnimaticError(
            "This take changes its prompt where it has no guide frame, for which the panel has no "
            "field: press Redo, which uses it as it is."
        )
