"""Brings the settings of a take back into the panel."""

from __future__ import annotations

from fractions import Fraction

import bpy

from ..errors import AnimaticError
from ..link.catalogue import Checkpoint
from ..link.generate import quality_guidance, quality_steps
from ..shot.takes import TakeOnDisk
from ..shot.timing import plan_clip
from .asked import find_model, shots_of
from .keyframe_list import rewrite
from .presets import NO_LOOK, QUALITIES

_LARGEST_SEED = 2**31 - 1


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
    settings.model = model
    # The request holds the style's words in its prompt already.
    settings.look = NO_LOOK
    settings.prompt, settings.negative_prompt = request["prompt"], request["negative_prompt"]
    settings.seed, settings.takes = take.seed, 1
    control = request["controls"][0]
    settings.guide, settings.strength = control["guide"], control["strength"]
    _restore_sampling(settings, checkpoint, request["sampling"])
    _restore_clip(scene, checkpoint, request["shot"])
    _restore_guide_frames(scene, request["shot"], control["keyframes"])


def _name(model: str) -> str:
    try:
        return find_model(model).name
    except AnimaticError:
        return ""


def _restore_sampling(
    settings: bpy.types.PropertyGroup, checkpoint: Checkpoint, sampling: dict
) -> None:
    steps, guidance = sampling["steps"], sampling["guidance"]
    for quality in QUALITIES.values():
        if quality_steps(checkpoint, quality.steps) == steps:
            settings.quality, settings.use_steps = quality.id, False
            break
    else:
        settings.steps, settings.use_steps = steps, True
    usual = quality_guidance(checkpoint, QUALITIES[settings.quality].guidance)
    settings.use_guidance = abs(usual - guidance) > 1e-3
    if settings.use_guidance:
        settings.guidance = guidance


def _restore_clip(scene: bpy.types.Scene, checkpoint: Checkpoint, shot: dict) -> None:
    settings = scene.animatic
    frames = (shot["start"], shot["end"])
    whole = [(each.start, each.end) for each in shots_of(scene) if each.name == shot["name"]]
    settings.use_range = frames not in whole
    if settings.use_range:
        settings.range_start, settings.range_end = frames
    usual = plan_clip(*frames, Fraction(shot["scene_fps"]), checkpoint.frames, checkpoint.fps)
    settings.use_frames = usual.frames != shot["clip"]["frames"]
    if settings.use_frames:
        settings.frames = shot["clip"]["frames"]


def _restore_guide_frames(scene: bpy.types.Scene, shot: dict, keyframes: list[dict]) -> None:
    stride = Fraction(shot["scene_fps"]) / Fraction(shot["clip"]["fps"])
    rows = {
        item.frame: (item.strength, item.enabled)
        for item in scene.animatic.guide_frames
        if not shot["start"] <= item.frame <= shot["end"]
    }
    for keyframe in keyframes:
        frame = round(shot["start"] + keyframe["clip_frame"] * stride)
        rows[min(frame, shot["end"])] = (keyframe["strength"], True)
    rewrite(scene.animatic, rows)
