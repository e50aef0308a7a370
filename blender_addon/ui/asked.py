"""What the artist asks for: the shot on screen, how the clip lies on it, settings for a run."""

import math
import secrets
import tempfile
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import bpy

from ..errors import AnimaticError
from ..link.catalogue import Checkpoint, find_checkpoint
from ..link.generate import GenerateSettings
from ..link.install_places import data_folder
from ..link.quality import Level, level_for, needs_guidance
from ..scene.find_keyframes import check_cameras
from ..scene.shots import Shot, find_shots
from ..shot.long_clip import LongClip
from ..shot.own_pictures import OwnPictures
from ..shot.passes import USUAL_SHARE, Passes
from ..shot.request import Steering
from ..shot.timing import ClipTiming, plan_clip, scene_rate
from .keyframe_list import keyed_prompts, keyframes_text
from .output_folder import is_one_files, numbered_folder, run_folders
from .preferences import model_folders, path_of, preferences
from .presets import QUALITIES, with_look
from .remote_models import remote_models

_PATIENCE_S = 30.0
_unsaved: dict[int, Path] = {}  # by the session_uid of each scene of a file that was not saved


def shots_of(scene: bpy.types.Scene) -> list[Shot]:
    """The shots of ``scene``; AnimaticError when it has no camera."""
    shots = find_shots(scene)
    if not shots:
        raise AnimaticError(
            "The scene has no camera: add one and make it the active camera (Ctrl Numpad 0)."
        )
    return shots


@dataclass(frozen=True)
class Target:
    """A shot to make: its ``number`` in the scene from 1, and whether only a part is asked for."""

    shot: Shot
    number: int
    cut: bool = False


def all_targets(scene: bpy.types.Scene) -> list[Target]:
    """Every shot of the scene, whole. Raises AnimaticError with a sentence."""
    targets = _targets(scene)
    for target in targets:
        check_cameras(scene, target.shot)
    return targets


def _targets(scene: bpy.types.Scene) -> list[Target]:
    return [Target(shot, number) for number, shot in enumerate(shots_of(scene), start=1)]


def current_target(scene: bpy.types.Scene) -> Target:
    """The shot on screen (with camera markers there are several), cut to the Range if it is used.

    Raises AnimaticError with a sentence.
    """
    targets = _targets(scene)
    frame, settings = scene.frame_current, scene.animatic
    on_screen = (each for each in targets if each.shot.start <= frame <= each.shot.end)
    target = next(on_screen, targets[0])
    if settings.use_range:
        start, end = settings.range_start, settings.range_end
        if end < start:
            raise AnimaticError(
                f"The Range under Expert ends at frame {end}, before its start at {start}: "
                "swap the two numbers."
            )
        target = Target(replace(target.shot, start=start, end=end), target.number, cut=True)
    check_cameras(scene, target.shot)
    return target


def current_shot(scene: bpy.types.Scene) -> Shot:
    """The shot of ``current_target``."""
    return current_target(scene).shot


def is_guided(settings: bpy.types.PropertyGroup) -> bool:
    """Whether something that the artist asks for needs guidance."""
    _, negative_prompt = with_look(settings.look, "", settings.negative_prompt)
    return needs_guidance(negative_prompt, settings.temporal, reference=bool(settings.reference))


def asked_level(settings: bpy.types.PropertyGroup, checkpoint: Checkpoint, but: str = "") -> Level:
    """Steps, guidance and schedule that a run would take; ``but`` names a number by hand that does
    not count."""
    names = ("steps", "guidance", "schedule", "guidance_end")
    by_hand = {
        name: getattr(settings, name)
        for name in names
        if getattr(settings, f"use_{name}") and name != but
    }
    quality = QUALITIES[settings.quality]
    return level_for(quality, checkpoint, **by_hand, guided=is_guided(settings))


def find_model(model: str) -> Checkpoint:
    """The model of this name, or folder: on this machine, else as a remote engine told it.

    Nothing is asked over the network here, but in a background Blender, which may wait. Raises
    AnimaticError where there is none.
    """
    chosen = preferences(bpy.context)
    try:
        return find_checkpoint(model, model_folders(chosen))
    except AnimaticError:
        if chosen.engine_where != "remote":
            raise
    remote_models.ask(chosen.remote_address, chosen.remote_token)
    if bpy.app.background:
        remote_models.wait(_PATIENCE_S)
    return remote_models.find(model)


def suited_keyframes(settings: bpy.types.PropertyGroup) -> str | None:
    """The keyframes that the model is best held at; None where its card says nothing of them."""
    try:
        return find_model(settings.model).keyframes.get(settings.guide)
    except AnimaticError:
        return None  # Generate says what is wrong


def shot_timing(scene: bpy.types.Scene, shot: Shot) -> ClipTiming:
    """How the model's clip lies on ``shot``. Raises AnimaticError for an unknown model."""
    settings = scene.animatic
    checkpoint = find_model(settings.model)
    return plan_clip(
        shot.start,
        shot.end,
        scene_rate(scene.render.fps, scene.render.fps_base),
        long_clip(settings).most_frames(checkpoint.frames),
        checkpoint.fps,
        settings.frames if settings.use_frames else None,
    )


def long_clip(asked: bpy.types.PropertyGroup) -> LongClip:
    """What the panel says of clips that are longer than the model's, and of loops."""
    length = asked.context_length
    context = (length, min(asked.context_overlap, length - 1), "uniform")
    return LongClip(
        context=context if asked.use_context else None,
        loop=asked.loop,
        free_noise=asked.free_noise and asked.use_context,
    )


def generate_settings(
    context: bpy.types.Context, targets: list[Target], copy: Path
) -> list[GenerateSettings]:
    """The settings of a run of each of ``targets`` from the saved ``copy``.

    Raises AnimaticError with a sentence.
    """
    asked = context.scene.animatic
    if not asked.prompt.strip():
        raise AnimaticError("The prompt is empty: say what the picture shows.")
    out, scripts = output_folder(context), _runs_scripts()
    return [_settings(context.scene, target, copy, out, scripts) for target in targets]


def guides_settings(context: bpy.types.Context, target: Target, copy: Path) -> GenerateSettings:
    """The settings of a run that only makes guides, in a folder that ends with this Blender."""
    out = Path(tempfile.mkdtemp(prefix="guides-", dir=bpy.app.tempdir)) / "shot"
    asked = _settings(context.scene, target, copy, out, _runs_scripts())
    return replace(asked, guides_only=True)


def _settings(
    scene: bpy.types.Scene, target: Target, copy: Path, out: Path, scripts: bool
) -> GenerateSettings:
    asked = scene.animatic
    prompt, negative_prompt = with_look(asked.look, asked.prompt, asked.negative_prompt)
    shot = target.shot
    names = [each.name for each in shots_of(scene)]
    return GenerateSettings(
        blend=copy,
        out=out,
        prompt=prompt,
        negative_prompt=negative_prompt,
        guide=asked.guide,
        keyframes=keyframes_text(scene, shot, suited_keyframes(asked)),
        model=asked.model,
        seed=asked.seed,
        takes=asked.takes,
        frames=asked.frames if asked.use_frames else None,
        steps=asked.steps if asked.use_steps else None,
        guidance=asked.guidance if asked.use_guidance else None,
        guidance_end=asked.guidance_end if asked.use_guidance_end else None,
        quality=QUALITIES[asked.quality],
        strength=asked.strength,
        near=asked.near if asked.use_near else None,
        far=asked.far if asked.use_far else None,
        crease=math.degrees(asked.crease) if asked.use_crease else None,
        lines_of=asked.lines_of.name if asked.lines_of is not None else None,
        in_between=asked.in_between,
        deflicker={"ON": True, "OFF": False}.get(asked.deflicker),
        steering=_steering(scene, shot),
        long_clip=long_clip(asked),
        line_thickness=asked.thickness,
        passes=_passes(asked),
        pictures=OwnPictures(path_of(asked.reference), asked.reference_scale, path_of(asked.first)),
        range=(shot.start, shot.end) if target.cut else None,
        scene=scene.name,
        shot=shot.name if names.count(shot.name) == 1 else str(target.number),
        # Drivers in Python do in the guides what they do in this window, and no more.
        enable_autoexec=scripts,
        write_blend=False,  # the strip goes into the file that is open
    )


def _runs_scripts() -> bool:
    """Whether this window runs the file's scripts: by the preferences, or allowed for this file.

    What is allowed for one file stands nowhere, but a driver in Python that was held back would
    have set ``autoexec_fail``.
    """
    if bpy.app.autoexec_fail:
        return False
    chosen = bpy.context.preferences.filepaths.use_scripts_auto_execute
    return bool(chosen) or any(
        curve.driver.type == "SCRIPTED" and not curve.driver.is_simple_expression
        for each in bpy.data.user_map()
        if (animation := getattr(each, "animation_data", None)) is not None
        for curve in animation.drivers
    )


def _passes(asked: bpy.types.PropertyGroup) -> Passes:
    return Passes(
        asked.schedule if asked.use_schedule else None,
        (asked.upscale, USUAL_SHARE) if asked.use_upscale else None,
    )


def prompts_written(scene: bpy.types.Scene, shot: Shot) -> tuple[str, ...]:
    """The prompt and those of the guide frames, without the style's words."""
    return (scene.animatic.prompt, *(text for _, text in keyed_prompts(scene, shot)))


def _encoder(asked: bpy.types.PropertyGroup) -> str | None:
    """The one that was chosen, where the model has a choice; the panel shows none elsewhere."""
    if asked.encoder == "usual" or len(find_model(asked.model).encoders.get(asked.guide, ())) < 2:
        return None
    return asked.encoder


def _steering(scene: bpy.types.Scene, shot: Shot) -> Steering:
    asked = scene.animatic
    return Steering(
        temporal=asked.temporal,
        blur=asked.blur if asked.guide == "depth" else 0,
        start=asked.guide_start,
        end=asked.guide_end,
        encoder=_encoder(asked),
        loras=tuple((item.name, item.scale) for item in asked.loras if item.enabled and item.name),
        prompts=tuple(
            (Fraction(frame), with_look(asked.look, text, "")[0])
            for frame, text in keyed_prompts(scene, shot)
        ),
    )


def output_folder(context: bpy.types.Context) -> Path:
    """Where takes of the open file go: each run gets the next free number when it begins."""
    return numbered_folder(_pattern(context), _base(), **_names(context.scene))


def finished_runs(context: bpy.types.Context) -> list[Path]:
    """The output folders of the open file that hold takes, of any of its scenes."""
    pattern = _pattern(context)
    scenes = bpy.data.scenes if "{scene" in pattern else [context.scene]
    found = [run_folders(pattern, _base(), **_names(scene)) for scene in scenes]
    return list(dict.fromkeys(run for runs in found for run in runs))


def takes_are_own(context: bpy.types.Context) -> bool:
    """Whether no other file's takes can be among ``finished_runs``."""
    return is_one_files(_pattern(context))


def _pattern(context: bpy.types.Context) -> str:
    return preferences(context).output


def _base() -> Path:
    return Path(bpy.data.filepath).parent if bpy.data.filepath else _unsaved_base()


def _unsaved_base() -> Path:
    """A folder for the open file alone, which was never saved and so has none.

    A temporary one would lose the takes with the session, the extension's own with the extension.
    """
    # Undo keeps these numbers, and no scene of another file has one of them.
    numbers = [scene.session_uid for scene in bpy.data.scenes]
    known = next((_unsaved[number] for number in numbers if number in _unsaved), None)
    folder = known or data_folder() / "takes" / f"{date.today()}-{secrets.token_hex(4)}"
    _unsaved.update(dict.fromkeys(numbers, folder))
    return folder


def _names(scene: bpy.types.Scene) -> dict[str, str]:
    saved = bpy.data.filepath
    return {"file": Path(saved).stem if saved else "untitled", "scene": scene.name}
