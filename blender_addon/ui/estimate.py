"""Time and memory of what Generate would do now, worked out before the panel draws it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import bpy

from ..errors import AnimaticError
from ..link.catalogue import Checkpoint, find_checkpoint
from ..link.generate import Host
from ..link.install_places import data_folder
from ..link.remote import RemoteEngine, parse_address
from ..shot.passes import USUAL_SHARE
from ..shot.timing import plan_clip, scene_rate
from .asked import asked_level, current_shot, is_guided, long_clip, prompts_written
from .job import Job
from .memory import LIBRARIES, free_memory, model_memory, sampling_memory
from .preferences import AnimaticPreferences, model_folders, preferences
from .redraw import open_scenes, redraw
from .remote_models import remote_models
from .speeds import Speeds, Work, in_words, measured

_MEMORY_S = 5.0
_LOCAL = "local"


@dataclass(frozen=True)
class Estimate:
    """Words for the panel; ``short`` where it takes more memory than is free.

    ``pictures`` says whether the model takes a reference picture, ``encoders`` whether there is a
    choice of what reads the guides, ``keyframes`` what holds a shot without guide frames where that
    is not the camera's keys; ``remark`` is about words that the model does not know, ``example`` a
    prompt that it does.
    """

    time: str = ""
    memory: str = ""
    short: bool = False
    pictures: bool = True
    encoders: bool = False
    keyframes: str | None = None
    remark: str = ""
    example: str = ""


_NONE = Estimate()
# By the session_uid of their scene.
_estimates: dict[int, Estimate] = {}
_seen: dict[int, tuple] = {}
_speeds: Speeds | None = None
_free = 0
_free_at = -math.inf


def current(scene: bpy.types.Scene) -> Estimate:
    """What Generate would take in ``scene``."""
    return _estimates.get(scene.session_uid, _NONE)


def speeds() -> Speeds:
    """What is known of earlier takes."""
    global _speeds
    if _speeds is None:
        _speeds = Speeds(data_folder() / "speeds.json")
    return _speeds


def learn(host: Host, job: Job) -> None:
    """Note how long a finished run took."""
    outcome = job.outcome
    if outcome is None or outcome.request is None or not outcome.takes:
        return
    model, engine = outcome.request["checkpoint"]["name"], _engine_of(host)
    whole = job.seconds if outcome.shot is not None and "keyframes" in outcome.shot else 0.0
    known = speeds().of(model, engine)
    speeds().learn(model, engine, measured(outcome.request, outcome.takes, whole, known))
    refresh(anew=True)


def refresh(anew: bool = False) -> None:
    """Work it out again where something it depends on has changed. Not for drawing."""
    global _free, _free_at
    chosen = preferences(bpy.context)
    if chosen.engine_where == "remote":
        remote_models.ask(chosen.remote_address, chosen.remote_token)
    if time.monotonic() - _free_at > _MEMORY_S:
        _free, _free_at = free_memory(), time.monotonic()
    changed = [_refresh(scene, chosen, anew) for scene in open_scenes()]
    if any(changed):
        redraw(status_bar=False)


def _refresh(scene: bpy.types.Scene, chosen: AnimaticPreferences, anew: bool) -> bool:
    """Work it out for one scene; return whether it has changed."""
    asked, uid = scene.animatic, scene.session_uid
    try:
        shot = current_shot(scene)
    except AnimaticError:
        shot = None
    seen = (
        *(getattr(asked, name) for name in ("model", "quality", "guide", "takes")),
        asked.steps if asked.use_steps else None,
        asked.guidance if asked.use_guidance else None,
        asked.guidance_end if asked.use_guidance_end else None,
        asked.frames if asked.use_frames else None,
        long_clip(asked),
        asked.schedule if asked.use_schedule else None,
        asked.upscale if asked.use_upscale else None,
        *(asked.temporal, is_guided(asked)),
        *(chosen.engine_where, chosen.remote_address, remote_models.changes),
        *(shot, scene.render.fps, scene.render.fps_base),
        round(_free / 1e9, 1),
        prompts_written(scene, shot) if shot is not None else (),
    )
    if seen == _seen.get(uid) and not anew:
        return False
    _seen[uid] = seen
    try:
        made = _work_out(scene, chosen) if shot is not None else _NONE
    except AnimaticError:
        made = _NONE  # Generate says what is wrong
    if made == current(scene):
        return False
    _estimates[uid] = made
    return True


def _work_out(scene: bpy.types.Scene, chosen: AnimaticPreferences) -> Estimate:
    asked, shot = scene.animatic, current_shot(scene)
    remote = chosen.engine_where == "remote"
    checkpoint = (
        remote_models.find(asked.model)
        if remote
        else find_checkpoint(asked.model, model_folders(chosen))
    )
    engine = _remote_name(chosen.remote_address) if remote else _LOCAL
    speed = speeds().of(checkpoint.name, engine)
    clip = plan_clip(
        shot.start,
        shot.end,
        scene_rate(scene.render.fps, scene.render.fps_base),
        long_clip(asked).most_frames(checkpoint.frames),
        checkpoint.fps,
        asked.frames if asked.use_frames else None,
    )
    if speed is None:
        told = "Time unknown"
    else:
        told = in_words(speed.seconds(_work(asked, checkpoint, clip.frames)))
    choice = len(checkpoint.encoders.get(asked.guide, ())) > 1
    made = Estimate(
        told,
        pictures=checkpoint.image_prompt,
        encoders=choice,
        keyframes=checkpoint.keyframes.get(asked.guide),
    )
    if known := checkpoint.vocabulary:
        remark = known.remark(prompts_written(scene, shot)) or ""
        made = replace(made, remark=remark, example=known.example)
    if remote:
        return made
    device = speed.device if speed is not None else ""
    on_card = bool(device) and not device.startswith("cpu")
    needed = _memory(asked, checkpoint, clip.frames, on_card)
    if not needed:
        return made
    if not _free or not device.startswith("cpu"):
        return replace(made, memory=f"About {_size(needed)}")
    words = f"{_size(needed).removesuffix(' GB')} of {_size(_free)}"
    return replace(made, memory=words, short=needed > _free)


def _memory(
    asked: bpy.types.PropertyGroup, checkpoint: Checkpoint, frames: int, on_card: bool
) -> int:
    """Bytes of the card's memory, or of main memory without one; 0 where it is not known."""
    size = 2 if on_card else 4
    weights = _model_memory(checkpoint.folder, asked.guide, size)
    if not weights:
        return 0
    work, context = _work(asked, checkpoint, frames), long_clip(asked).context
    at_once = min(frames, context[0]) if context is not None else frames
    pixels = checkpoint.native**2 * (work.upscale[0] ** 2 if work.upscale else 1)
    halves = 2 if work.guidance > 1 else 1
    sampling = sampling_memory(checkpoint.folder, at_once, pixels, halves, size)
    return weights + sampling + (0 if on_card else LIBRARIES)


@lru_cache(maxsize=64)
def _model_memory(folder: Path, guide: str, bytes_per_number: int) -> int:
    return model_memory(folder, guide, bytes_per_number)


def _work(asked: bpy.types.PropertyGroup, checkpoint: Checkpoint, frames: int) -> Work:
    level = asked_level(asked, checkpoint)
    larger = (asked.upscale, USUAL_SHARE) if asked.use_upscale else None
    return Work(
        level.steps,
        frames,
        asked.takes,
        level.guidance,
        asked.temporal,
        larger,
        level.guidance_end,
    )


def _engine_of(host: Host) -> str:
    return host.engine.address.host if isinstance(host.engine, RemoteEngine) else _LOCAL


def _remote_name(address: str) -> str:
    return parse_address(address).host


def _size(size: int) -> str:
    return f"{max(0.1, size / 1e9):.1f} GB" if size < 10e9 else f"{size / 1e9:.0f} GB"
