"""The scene that takes are edited in: whole or not there, in the film's format, and beside what the
artist lays into it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import bpy
import numpy as np
import pytest
from animatic.blender_addon.scene import compat, render_beneath
from animatic.blender_addon.scene import strip as strip_module
from animatic.blender_addon.scene.errors import SceneError
from animatic.blender_addon.scene.strip import place_takes
from animatic.blender_addon.shot.png import read_png
from animatic.blender_addon.shot.timing import plan_clip

from .conftest import run_child, save
from .strips_made import FILM, clip_colour, make_takes, render, shot_of

# A studio's colours, which are part of every OpenColorIO: none of Blender's own names is in them.
ACES = {"OCIO": "ocio://studio-config-latest"}


def test_takes_are_placed_and_look_the_same_in_a_studio_s_colours(scene, tmp_path):
    scene.render.resolution_x, scene.render.resolution_y = FILM
    timing = plan_clip(1, 12, Fraction(24), 4, Fraction(8))
    made = run_child(
        tmp_path,
        env=ACES,
        task="strip",
        blend=save(tmp_path / "source.blend"),
        out_blend=tmp_path / "shot.blend",
        shot=shot_of(scene, timing),
        takes=make_takes(tmp_path, 4, 1),
    )
    assert made.code == 0, made.output
    script = (
        "import bpy, sys; bpy.ops.wm.open_mainfile(filepath=sys.argv[1]);"
        "edit = bpy.data.scenes['Scene Edit']; bpy.context.window.scene = edit;"
        "edit.frame_set(1); edit.render.filepath = sys.argv[2];"
        "bpy.ops.render.render(write_still=True)"
    )
    seen = tmp_path / "seen.png"
    command = [sys.executable, "-c", script, str(tmp_path / "shot.blend"), str(seen)]
    subprocess.run(command, env={**os.environ, **ACES}, check=True, timeout=60)
    assert np.abs(read_png(seen)[36, 64, :3].astype(int) - clip_colour(0)).max() <= 1


def test_a_fault_leaves_no_edit_scene_behind(scene, tmp_path, monkeypatch):
    def faulty(*_arguments):
        raise RuntimeError("a fault")

    monkeypatch.setattr(strip_module, "take_strip", faulty)
    timing = plan_clip(1, 12, Fraction(24), 4, Fraction(8))
    files = [Path(file) for file in make_takes(tmp_path, 4, 1)[0]]
    with pytest.raises(RuntimeError, match="a fault"):
        place_takes(scene, shot_of(scene, timing), [files])
    assert bpy.data.scenes[:] == [scene]


def corners(picture):
    """The first and last row and column of a take's white corners."""
    rows, columns = np.nonzero((picture >= 250).all(axis=2))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_the_edit_follows_the_scene_s_format_until_the_artist_has_edited(scene, tmp_path):
    timing = plan_clip(1, 12, Fraction(24), 4, Fraction(8))
    files = [Path(file) for file in make_takes(tmp_path, 4, 1)[0]]

    def place_in(width, height):
        scene.render.resolution_x, scene.render.resolution_y = width, height
        edit, (strip,) = place_takes(scene, shot_of(scene, timing, (width, height)), [files])
        return edit, strip, render(edit.name, 1, tmp_path / "seen.png")

    edit, old, seen = place_in(*FILM)
    assert corners(seen) == (0, 71, 0, 127)
    scene.render.fps, scene.render.fps_base = 30, 1.001
    scene.render.pixel_aspect_y = 2.0  # 64 x 128 pixels that are twice as high as wide
    _, new, seen = place_in(64, 128)
    assert (edit.render.fps, edit.render.fps_base) == (30, pytest.approx(1.001))
    assert seen.shape == (128, 64, 3)
    assert corners(seen) == (0, 127, 0, 63)
    old.mute, new.mute = False, True
    # as wide as the frame, 64, and so 36 of the old pixels high, which are 18 of the new ones
    seen = render(edit.name, 1, tmp_path / "seen.png")
    assert np.abs(np.subtract(corners(seen), (55, 72, 0, 63))).max() <= 1

    # the artist's own format, and then an edit of their own: kept, with bars instead
    edit.render.resolution_x, edit.render.resolution_y = 128, 128
    edit.render.pixel_aspect_y = scene.render.pixel_aspect_y = 1.0
    for _ in range(2):
        _, _, seen = place_in(*FILM)
        assert seen.shape == (128, 128, 3)
        assert np.abs(np.subtract(corners(seen), (28, 99, 0, 127))).max() <= 1
        compat.new_text_strip(edit, "Title", 50, (1, 12))
        # as if the format were ours
        edit["animatic_format"] = strip_module._format(edit)


def test_takes_stay_beneath_what_the_artist_laid_over_them(scene, tmp_path):
    timing = plan_clip(1, 12, Fraction(24), 4, Fraction(8))
    shot, files = shot_of(scene, timing), [Path(file) for file in make_takes(tmp_path, 4, 1)[0]]
    edit, (first,) = place_takes(scene, shot, [files])
    strips = edit.sequence_editor.strips
    compat.new_text_strip(edit, "Title", 4, (1, 12))
    placed = place_takes(scene, shot, [files, files])[1]
    assert [strip.channel for strip in (first, *placed)] == [2, 3, 5]
    # an effect of a take shows that take: the next one goes above it
    strips.remove(placed[1])
    names = strips.bl_rna.functions["new_effect"].parameters  # 4.5 has others
    until = {"length": 12} if "length" in names else {"frame_end": 13}
    source = {"input1" if "input1" in names else "seq1": placed[0]}
    strips.new_effect("Blur", "GAUSSIAN_BLUR", 20, 1, **until, **source)
    assert place_takes(scene, shot, [files])[1][0].channel == 21
    # and Blender's limit is said before anything is changed
    compat.new_text_strip(edit, "On top", 128, (1, 12))
    strips["Blur"].channel = 127
    before = [(strip.name, strip.channel, strip.mute) for strip in strips]
    with pytest.raises(SceneError, match="no free channel above the takes of Shot"):
        place_takes(scene, shot, [files])
    assert [(strip.name, strip.channel, strip.mute) for strip in strips] == before


def test_the_render_lies_beneath_all_frames_of_its_takes(scene, tmp_path):
    files = [Path(file) for file in make_takes(tmp_path, 4, 1)[0]]
    shots, strips = [], []
    for start, end in ((10, 20), (1, 24), (25, 36)):
        timing = plan_clip(start, end, Fraction(24), 4, Fraction(8))
        shots.append(shot_of(scene, timing))
        edit, (strip,) = place_takes(scene, shots[-1], [files])
        strips.append(strip)
        if start == 10:
            render_beneath.lay_over(edit, scene, [render_beneath.ShotInEdit(shots, strips)], 0.5)
            own = compat.new_text_strip(edit, "Own", 1, (1, 5))  # in its way
            strip.channel = 3
    # two shots of one name
    laid = [
        render_beneath.ShotInEdit(shots[:2], strips[:2]),
        render_beneath.ShotInEdit(shots[2:], strips[2:]),
    ]

    def renders():
        there = edit.sequence_editor.strips
        found = [
            (*compat.strip_range(each), each.channel) for each in there if each.type == "SCENE"
        ]
        return sorted(found)

    assert renders() == [(10, 21, 1)]
    for _ in range(2):
        render_beneath.lay_over(edit, scene, laid, 0.5)
        assert renders() == [(1, 25, 2), (25, 37, 1)]
    assert (own.channel, *compat.strip_range(own)) == (1, 1, 6)
    assert {strip.blend_alpha for strip in strips} == {0.5}
    # what the artist has cut in two stays so, and goes as one
    next(s for s in edit.sequence_editor.strips if s.channel == 2).split(15, "SOFT")
    render_beneath.lay_over(edit, scene, laid, 0.5)
    assert renders() == [(1, 15, 2), (15, 25, 2), (25, 37, 1)]
    render_beneath.lay_bare(edit, laid)
    assert renders() == []
    assert {strip.blend_alpha for strip in strips} == {1.0}
