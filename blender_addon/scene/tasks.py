"""The tasks of a background Blender: guides, strips, videos, blockouts."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import bpy
import numpy as np

from ..shot.contact_sheet import contact_sheet
from ..shot.framing import guide_size
from ..shot.keyframes import SCENE_KINDS, choose_frames, parse_keyframes
from ..shot.motion_files import STEADY, Wanted, wanted_beside, wanted_between
from ..shot.png import write_png
from ..shot.timing import (
    ClipTiming,
    SnappedKeyframe,
    decimal,
    plan_clip,
    scene_rate,
    snap_keyframes,
)
from .blend_file import file_sha256, open_blend
from .blockout import write_blockouts
from .depth_guide import render_depth
from .errors import SceneError
from .film import Film, read_film
from .find_keyframes import find_keyframes
from .lineart_guide import render_lineart
from .motion_vectors import MOST_TRIANGLES, QUICK_TRIANGLES, render_motion
from .movie import write_video
from .render_guide import render_colour
from .shots import Shot, choose_scene, choose_shot, find_shots
from .simulations import leave_out_smoke, play_simulations
from .stage import OnStep, Stage
from .strip import write_strips
from .visibility import warn_of_displacement

_GUIDE_SETTINGS = ("near", "far", "crease", "lines_of", "line_thickness")
"""What the artist may set of the guides; the shot keeps what was set."""
_THINNEST, _THICKEST = 0.25, 4.0

Emit = Callable[[dict], None]
"""Receives progress events: ``{"phase", "done", "of", "text"}``."""


def run_task(task: dict, emit: Emit) -> dict:
    """Run ``task`` (its form: the key ``task`` and what that function reads); return its result.

    Raises AnimaticError with a sentence when it cannot be done.
    """
    kinds = {
        "guides": make_guides,
        "strip": make_strips,
        "videos": make_videos,
        "blockouts": make_blockouts,
    }
    if task.get("task") not in kinds:
        raise SceneError(f"There is no task {task.get('task')!r}, only {', '.join(kinds)}.")
    return kinds[task["task"]](task, emit)


def make_strips(task: dict, emit: Emit) -> dict:
    """Write ``out_blend``: the artist's file with the takes as strips in an edit scene."""
    emit({"phase": "write", "done": 0, "of": 1, "text": "opening the file"})
    open_blend(Path(task["blend"]))
    takes = [[Path(frame) for frame in take] for take in task["takes"]]
    result = write_strips(task["shot"], takes, Path(task["out_blend"]))
    emit({"phase": "write", "done": 1, "of": 1, "text": "strips placed"})
    return result


def make_videos(task: dict, emit: Emit) -> dict:
    """Write the pictures ``frames`` of each of ``videos`` as its ``file``, at ``fps``."""
    videos = task["videos"]
    for done, video in enumerate(videos):
        emit({"phase": "write", "done": done, "of": len(videos), "text": "writing the video"})
        frames = [Path(frame) for frame in video["frames"]]
        write_video(frames, Fraction(task["fps"]), Path(video["file"]))
    return {"videos": [video["file"] for video in videos]}


def make_blockouts(task: dict, emit: Emit) -> dict:
    """Write a .blend into the folder ``out`` for each clip of the file ``description``."""

    def on_step(done: int, of: int) -> None:
        emit({"phase": "blockouts", "done": done, "of": of, "text": f"scene {done} of {of}"})

    paths = write_blockouts(Path(task["description"]), Path(task["out"]), on_step)
    return {"blends": [str(path) for path in paths]}


def make_guides(task: dict, emit: Emit) -> dict:
    """Open the file, find the keyframes of the shot, and render their guides into ``out``."""
    blend, out = Path(task["blend"]), Path(task["out"])
    started = time.monotonic()
    spec = parse_keyframes(task["keyframes"])
    warnings = open_blend(blend, task.get("enable_autoexec", False))
    opened = time.monotonic()
    scene = choose_scene(task.get("scene"))
    shots = find_shots(scene)
    asked_range = task.get("range")
    shot, note = choose_shot(shots, task.get("shot"), tuple(asked_range) if asked_range else None)
    warnings += [note] if note else []
    film = read_film(scene)
    native, multiple = task["size"]["native"], task["size"]["multiple"]
    size = guide_size(film.width, film.height * film.pixel_aspect, native, multiple)
    timing = plan_clip(
        shot.start,
        shot.end,
        scene_rate(scene.render.fps, scene.render.fps_base),
        task["model"]["frames"],
        Fraction(task["model"]["fps"]),
        task.get("frames"),
    )
    found = find_keyframes(scene, shot, spec.kind) if spec.kind in SCENE_KINDS else []
    snapped = snap_keyframes(choose_frames(spec, timing, found), timing)
    between = wanted_between(timing, out) if task.get("in_between") else {}
    beside = wanted_beside(timing, out) if task.get("deflicker") else {}
    last = timing.scene_time(timing.frames - 1)
    last = max(last, Fraction(shot.end)) if between else last
    missed = leave_out_smoke(scene)
    if missed and task["guide"] == "render":  # in the others no volume counts
        warnings.append(missed)
    displaced = warn_of_displacement(scene)
    if displaced and task["guide"] != "render":
        warnings.append(displaced)
    played = play_simulations(
        scene, last, lambda done, of: _report(emit, done, of, f"playing frame {done} of {of}")
    )
    warnings += [played] if played else []
    description = _describe(scene, shot, film, timing, size)
    asked = {name: task[name] for name in _GUIDE_SETTINGS if task.get(name) is not None}
    if asked:
        description["guide_settings"] = asked

    def on_step(done: int, of: int, text: str) -> None:
        _report(emit, done, of, text)

    with tempfile.TemporaryDirectory(prefix="animatic-") as scratch:
        stage = Stage(scene, film, *size, Path(scratch))
        pictures, depth, more = _render(task, stage, timing, snapped, on_step)
        # Of the scene, as asked for: what the artist counts in.
        frames = {each.clip_frame: f"frame {decimal(each.asked)}" for each in snapped if each.kept}
        names = _write(out, task["guide"], pictures, frames)
        rendered = time.monotonic()
        if between or beside:
            # What nobody asked for is not to take long.
            quick = task.get("deflicker") == "auto" and not between
            most = QUICK_TRIANGLES if quick else MOST_TRIANGLES
            try:
                remade = render_motion(
                    stage, timing, between | beside, Path(scratch), on_step, most
                )
            except SceneError as error:
                if between:
                    raise
                wait = " Set Deflicker to On to wait for it." if quick else ""
                more.append(f"The frames are not steadied (Deflicker): {error}{wait}")
                remade, beside = [], {}
                shutil.rmtree(out / STEADY, ignore_errors=True)
            more += _tell_remade(remade, bool(between), bool(beside))
            if remade and between:
                description["optical_flow"] = True
        if task.get("deflicker"):
            description["deflicker"] = task["deflicker"]
        if between:
            description["in_between"] = True
        elif task.get("in_between"):
            more.append("The clip has a picture for every scene frame: there are none in between.")
    return {
        "shot": description,
        "shots": [each.as_json() for each in shots],
        "keyframes": [_keyframe_json(keyframe) for keyframe in snapped],
        "guides": [
            {
                "guide": task["guide"],
                "clip_frame": k,
                "scene_time": str(timing.scene_time(k)),
                "file": name,
                "sha256": hashlib.sha256((out / name).read_bytes()).hexdigest(),
            }
            for k, name in names.items()
        ],
        "motions": _motions(beside, timing, out),
        "depth": depth,
        "warnings": warnings + more,
        "seconds": {
            "open": round(opened - started, 3),
            "guides": round(rendered - opened, 3),
            **({"motion": round(time.monotonic() - rendered, 3)} if between or beside else {}),
        },
        "blender": bpy.app.version_string,
        "source_sha256": file_sha256(blend),
    }


def _tell_remade(remade: list[str], between: bool, beside: bool) -> list[str]:
    """Sentences about objects whose mesh is made anew at each frame."""
    if not remade:
        return []
    told = []
    if between:
        told.append("between two frames of the clip its motion is measured in the pictures")
    if beside:
        told.append("Deflicker leaves it as the model makes it")
    return [f"The mesh of {', '.join(remade[:5])} is another one at each frame: {'; '.join(told)}."]


def _motions(beside: Wanted, timing: ClipTiming, out: Path) -> list[dict]:
    """The motion from clip frame to clip frame, with its files below ``out``."""
    return [
        {
            "clip_frame": k,
            "to": other,
            "file": path.relative_to(out).as_posix(),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for k in range(timing.frames)
        for other, path in beside.get(timing.scene_time(k), {}).items()
    ]


def _render(
    task: dict,
    stage: Stage,
    timing: ClipTiming,
    snapped: list[SnappedKeyframe],
    on_step: OnStep,
) -> tuple[dict[int, np.ndarray], dict | None, list[str]]:
    """Return the guides by clip frame, what depth was made of, and warnings."""
    kept = sorted(keyframe.clip_frame for keyframe in snapped if keyframe.kept)
    times = [timing.scene_time(k) for k in kept]
    if task["guide"] == "depth":
        every = [timing.scene_time(k) for k in range(timing.frames)]
        method = task.get("depth_method", "auto")
        asked = task.get("near"), task.get("far")
        guides = render_depth(stage, every, kept, method, on_step, *asked)
        depth = {
            "near": guides.near,
            "far": guides.far,
            "method": guides.method,
            "encoding": "disparity16",
        }
        return dict(zip(kept, guides.codes, strict=True)), depth, guides.warnings
    if task["guide"] == "lineart":
        asked = task.get("crease"), task.get("lines_of")
        factor = task.get("line_thickness") or 1.0
        if not _THINNEST <= factor <= _THICKEST:
            raise SceneError(
                f"The thickness of the lines is {factor:g}: set it from {_THINNEST:g} to "
                f"{_THICKEST:g}."
            )
        width = task["lineart_width"] * factor
        lines, warnings = render_lineart(stage, times, width, on_step, *asked)
        return dict(zip(kept, lines, strict=True)), None, warnings
    if task["guide"] == "render":
        pictures, warnings = render_colour(stage, times, on_step)
        return dict(zip(kept, pictures, strict=True)), None, warnings
    raise SceneError(f"There is no guide {task['guide']!r}: choose depth, lineart or render.")


def _write(
    out: Path, guide: str, pictures: dict[int, np.ndarray], labels: dict[int, str]
) -> dict[int, str]:
    """Write the guides and their contact sheet; return the file names by clip frame."""
    out.mkdir(parents=True, exist_ok=True)
    names = {k: f"{guide}_{k + 1:04d}.png" for k in pictures}
    for k, picture in pictures.items():
        write_png(out / names[k], picture)
    labelled = [(labels[k], picture) for k, picture in pictures.items()]
    write_png(out / "contact_sheet.png", contact_sheet(labelled, min(4, len(labelled))))
    return names


def _describe(
    scene: bpy.types.Scene, shot: Shot, film: Film, timing: ClipTiming, size: tuple[int, int]
) -> dict:
    """Return the shot as the request carries it."""
    return {
        "name": shot.name,
        "scene": scene.name,
        "camera": shot.camera,
        "start": shot.start,
        "end": shot.end,
        "scene_fps": str(timing.scene_fps),
        "film": {"width": film.width, "height": film.height},
        "clip": {
            "frames": timing.frames,
            "fps": str(timing.clip_fps),
            "width": size[0],
            "height": size[1],
        },
        "frame_map": timing.frame_map(),
        "note": timing.note,
    }


def _keyframe_json(keyframe: SnappedKeyframe) -> dict:
    return {
        "asked": str(keyframe.asked),
        "clip_frame": keyframe.clip_frame,
        "scene_time": str(keyframe.scene_time),
        "shift": str(keyframe.shift),
        "kept": keyframe.kept,
        "reason": keyframe.reason,
    }


def _report(emit: Emit, done: int, of: int, text: str) -> None:
    emit({"phase": "guides", "done": done, "of": of, "text": text})


def read_task(path: Path) -> dict:
    """Read a task from its JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
