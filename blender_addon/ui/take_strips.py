"""The strips of takes: placed, turned into another kind, laid over the artist's render."""

from __future__ import annotations

import bpy

from ..errors import AnimaticError
from ..scene.render_beneath import ShotInEdit, lay_bare, lay_over
from ..scene.strip import edit_scene, place_takes, scene_video
from ..scene.strip_kind import replace_strip
from ..shot.held_frames import per_scene_frame
from ..shot.takes import TakeOnDisk
from . import take_index
from .take_homes import Home

KINDS = {"images": "IMAGE", "movie": "MOVIE"}
"""Blender's types of strip by the panel's names of them."""


def place(take: TakeOnDisk, scene: bpy.types.Scene) -> None:
    """Give ``take`` a strip in the edit scene of ``scene``. Raises AnimaticError."""
    shot, as_movies = take.request["shot"], scene.animatic.strip_kind == "movie"
    _, strips = place_takes(scene, shot, [take.frames()], as_movies)
    name_strips(shot["name"], [take.label], strips)


def name_strips(shot: str, labels: list[str], strips: list[bpy.types.Strip]) -> None:
    """Name strips as the list of takes does."""
    for label, strip in zip(labels, strips, strict=True):
        strip.name = f"{shot} {label}"


def turn_into(take: TakeOnDisk, kind: str) -> None:
    """Turn all strips of ``take`` into "images" or "movie". Raises AnimaticError."""
    shot = take.request["shot"]
    files = per_scene_frame(take.frames(), shot)
    movie = scene_video(files, shot) if kind == "movie" else None
    if kind == "movie" and movie is None:
        raise AnimaticError(f"{take.folder} has no video at the scene's rate: press As Movie.")
    for scene in bpy.data.scenes:
        for strip in take_index.strips_in(scene).get(take.folder, ()):
            if strip.type != KINDS[kind]:
                replace_strip(scene, strip, files, shot, movie)


def apply_over(scene: bpy.types.Scene) -> None:
    """Lay the takes of ``scene`` over its render, or not any more, as the panel says.

    Raises AnimaticError where there is no room for the render's strip.
    """
    edit, settings = edit_scene(scene), scene.animatic
    if edit is None or edit.sequence_editor is None:
        return
    there = take_index.strips_in(edit)
    homes = take_index.take_homes()
    shots: dict[Home, ShotInEdit] = {}  # by more than names: two shots may share one
    for take in take_index.all_takes():
        for strip in there.get(take.folder, ()):
            shot = shots.setdefault(homes[take.folder], ShotInEdit([], []))
            shot.shots.append(take.request["shot"])
            shot.strips.append(strip)
    if settings.use_over:
        lay_over(edit, scene, list(shots.values()), settings.over_opacity)
    else:
        lay_bare(edit, list(shots.values()))
