"""Takes become strips in the file that is open: where, on which frames, above which others."""

import importlib
from fractions import Fraction

import bpy
import harness
import numpy as np

FROM_5_0 = bpy.app.version >= (5, 0, 0)
LENGTH = {"length": 8} if FROM_5_0 else {"frame_end": 9}

with harness.extension():
    strips, png, timing = (
        importlib.import_module(f"{harness.MODULE}.blender_addon.{name}")
        for name in ("scene.strip", "shot.png", "shot.timing")
    )

    def made(name: str, takes: int, clip: object):
        out = harness.SCRATCH / name
        folders = [out, *(out / f"take-{index:02d}" for index in range(2, takes + 1))]
        for folder in folders:
            (folder / "frames").mkdir(parents=True)
            for k in range(clip.frames):
                gray = np.full((8, 8, 3), 10 + 40 * k, np.uint8)
                png.write_png(folder / "frames" / f"{k + 1:04d}.png", gray)
        shot = {
            "name": "Scene",
            "scene": "Scene",
            "start": clip.start,
            "end": clip.end,
            "film": {"width": 16, "height": 16},
            "frame_map": clip.frame_map(),
        }
        frames = [sorted(folder.glob("frames/*.png")) for folder in folders]
        return shot, frames

    harness.save_scene("shot.blend")
    scene = bpy.context.scene
    clip = timing.plan_clip(1, 8, Fraction(24), 4, Fraction(8), frames=3)
    edit, _ = strips.place_takes(scene, *made("a", 2, clip))
    assert edit.name == "Scene Edit"
    assert bpy.context.scene == scene
    own = scene.sequence_editor.strips if scene.sequence_editor else ()
    assert len(own) == 0, "its F12 would render the strip"
    first, second = sorted(edit.sequence_editor.strips, key=lambda strip: strip.channel)
    assert (first.channel, second.channel) == (2, 3)
    assert (first.mute, second.mute) == (False, True)
    assert first.directory == "//a/frames/"
    assert second.directory == "//a/take-02/frames/"
    wanted = [f"{k + 1:04d}.png" for k in clip.frame_map()]
    assert [element.filename for element in first.elements] == wanted
    assert (first.frame_final_start, first.frame_final_end) == (1, 9)

    # the same shot again, after the scene was renamed: above, in the same edit scene, and alone;
    # a strip of the artist's stays as it is
    own = edit.sequence_editor.strips.new_effect("Own", "COLOR", 4, 1, **LENGTH)
    scene.name = "Street"
    again, _ = strips.place_takes(scene, *made("b", 1, clip))
    assert again == edit
    newest = max(edit.sequence_editor.strips, key=lambda strip: strip.channel)
    assert (newest.channel, newest.mute, newest.directory) == (5, False, "//b/frames/")
    assert newest.name == "Scene Take 3"
    assert (first.mute, second.mute, own.mute, own.channel) == (True, True, False, 4)
    # a part of the shot: what it does not cover goes on being seen beneath it
    part = timing.plan_clip(3, 5, Fraction(24), 4, Fraction(8), frames=1)
    _, (short,) = strips.place_takes(scene, *made("part", 1, part))
    assert (newest.mute, short.mute, short.channel) == (False, False, 6)
    edit.sequence_editor.strips.remove(short)
    edit.sequence_editor.strips.remove(own)

    # a later shot of the scene: beside it, and the edit scene grows
    later = timing.plan_clip(9, 16, Fraction(24), 4, Fraction(8), frames=3)
    strips.place_takes(scene, *made("c", 1, later))
    assert (edit.frame_start, edit.frame_end) == (1, 16)
    beside = [strip for strip in edit.sequence_editor.strips if strip.frame_final_start == 9]
    assert [strip.channel for strip in beside] == [2]

    # what is on screen at a scene frame is the clip frame that timing says
    edit.render.resolution_x = edit.render.resolution_y = 16
    for strip in edit.sequence_editor.strips:
        strip.mute = strip.channel != 2
    bpy.context.window_manager.windows[0].scene = edit  # else the other scene's frame is rendered
    shown = []
    for frame in (1, 3, 4, 8):
        edit.frame_set(frame)
        edit.render.filepath = str(harness.SCRATCH / f"shown{frame}.png")
        edit.render.image_settings.file_format = "PNG"
        bpy.ops.render.render(write_still=True)
        shown.append(int(png.read_png(edit.render.filepath)[8, 8, 0]))
    expected = [10 + 40 * clip.clip_frame_at(frame) for frame in (1, 3, 4, 8)]
    assert shown == expected, (shown, expected)

    # a file without a folder of its own
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    edit, _ = strips.place_takes(bpy.context.scene, *made("d", 1, clip))
    assert edit.sequence_editor.strips[0].directory == f"{harness.SCRATCH / 'd'}/frames/"
print("DONE")
