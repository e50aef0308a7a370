"""Takes alone, side by side, as movies, over the render and behind the camera: frame for frame."""

from fractions import Fraction

import bpy
import harness
import numpy as np
import written_runs

START, END = 3, 33  # the clip's frames lie unevenly on them

with harness.extension():
    png, timing, compat = (
        harness.module(name) for name in ("shot.png", "shot.timing", "scene.compat")
    )
    ops, windows = bpy.ops.animatic, bpy.context.window_manager.windows
    harness.save_scene("shot.blend")
    scene, lists = bpy.context.scene, harness.lists()
    scene.render.fps, scene.render.fps_base = 24, 1.001
    scene.render.resolution_x = scene.render.resolution_y = 64
    scene.frame_start, scene.frame_end = START, END
    rate = Fraction(24000, 1001)
    clip = timing.plan_clip(START, END, rate, 16, Fraction(8), frames=9)
    shot = {
        "name": "Scene", "scene": "Scene", "camera": scene.camera.name, "start": START, "end": END,
        "scene_fps": str(rate), "film": {"width": 64, "height": 64}, "note": "",
        "clip": {"frames": 9, "fps": str(clip.clip_fps), "width": 64, "height": 64},
        "frame_map": clip.frame_map(),
    }  # fmt: skip
    written_runs.write_run("shot_001", [1], shot, first=0)
    written_runs.write_run("shot_002", [2], shot, first=100)
    ops.takes_refresh()

    def shown(edit: bpy.types.Scene, frame: int) -> np.ndarray:
        windows[0].scene = edit
        compat.set_still_format(edit.render.image_settings, "PNG", "RGB", "8")
        edit.frame_set(frame)
        edit.render.filepath = str(harness.SCRATCH / "shown.png")
        bpy.ops.render.render(write_still=True, scene=edit.name)
        windows[0].scene = scene
        return png.read_png(edit.render.filepath)

    def strips(edit: bpy.types.Scene) -> list[tuple]:
        return [
            (strip.name, strip.channel, strip.mute, compat.strip_range(strip), strip.blend_alpha)
            for strip in edit.sequence_editor.strips
        ]

    def numbers(edit: bpy.types.Scene) -> list[int]:
        return [written_runs.number_in(shown(edit, frame)) for frame in range(START, END + 1)]

    # the newer of two runs is seen alone
    for row in (1, 0):
        ops.take_pick(folder=lists.takes[row].folder)
    edit = bpy.data.scenes["Scene Edit"]
    own = compat.new_text_strip(edit, "Own", 7, (START, END))
    own.mute = True
    before = strips(edit)
    assert {each[0]: each[2] for each in before} == {
        "Scene 001": True, "Scene 002": False, "Own": True,
    }  # fmt: skip

    # the other beside it, and alone; the edit stays, and comes back
    assert "open eye" in harness.refusal("take_compare")
    lists.takes_index = 1
    assert ops.take_compare() == {"FINISHED"}
    room = bpy.data.scenes["Scene Review"]
    assert lists.review == "002 | 001"
    turned = [space for space in bpy.data.workspaces if hasattr(space, "sequencer_scene")]
    assert not turned or room in [space.sequencer_scene for space in turned]
    for frame in (START, 6, 7, 20, END):
        sides = np.split(shown(room, frame), 2, axis=1)
        k = clip.clip_frame_at(frame)
        assert [written_runs.number_in(side) for side in sides] == [100 + k, k]
    assert ops.take_solo() == {"FINISHED"}
    assert shown(room, 20).shape[1] == 64
    assert written_runs.number_in(shown(room, 20)) == clip.clip_frame_at(20)
    assert strips(edit) == before
    windows[0].scene = room  # as before 5.0, to see it
    assert ops.review_end.poll()
    windows[0].scene = scene
    assert ops.review_end() == {"FINISHED"}
    assert "Scene Review" not in bpy.data.scenes
    assert all(space.sequencer_scene == edit for space in turned)
    ops.take_compare()
    bpy.data.scenes.remove(bpy.data.scenes["Scene Review"])  # as undo does
    ops.takes_refresh()
    assert all(space.sequencer_scene == edit for space in turned)

    # as a movie, cut and set as it was: the same picture at each frame, at 23.976 a second
    images = numbers(edit)
    assert images == [100 + clip.clip_frame_at(frame) for frame in range(START, END + 1)]
    strip = edit.sequence_editor.strips["Scene 002"]
    compat.set_strip_range(strip, START + 4, END)
    strip.blend_alpha = 0.9
    cut = strips(edit)
    lists.takes_index = 0
    assert ops.take_kind(kind="movie") == {"FINISHED"}
    strip = edit.sequence_editor.strips["Scene 002"]
    assert strip.type == "MOVIE"
    assert strip.filepath == "//animatic/shot_002/video-23.976.mp4"
    assert sorted(strips(edit)) == sorted(cut)
    assert lists.takes[0].is_movie
    assert lists.takes[0].shown
    strip.blend_alpha = 1.0
    compat.set_strip_range(strip, START, END + 1)
    assert numbers(edit) == images
    assert ops.take_kind(kind="images") == {"FINISHED"}
    assert edit.sequence_editor.strips["Scene 002"].type == "IMAGE"
    assert numbers(edit) == images

    # over the artist's render, as much as is wanted, and off again
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    before = strips(edit)
    settings = scene.animatic
    settings.use_over, settings.over_opacity = True, 0.25
    beneath = edit.sequence_editor.strips["Scene Render"]
    assert (beneath.channel, beneath.scene_camera) == (1, scene.camera)
    assert abs(edit.sequence_editor.strips["Scene 002"].blend_alpha - 0.25) < 1e-6
    take, plain = written_runs.picture(100 + clip.clip_frame_at(9)), shown(edit, 9)
    settings.over_opacity = 0.0
    render = shown(edit, 9)
    assert np.abs(0.25 * take + 0.75 * render - plain).max() <= 2
    assert ops.take_beside() == {"FINISHED"}
    left, right = np.split(shown(bpy.data.scenes["Scene Review"], 9), 2, axis=1)
    assert written_runs.number_in(left) == 100 + clip.clip_frame_at(9)
    assert np.abs(right[4:50].astype(int) - render[4:50]).max() <= 2
    ops.take_pick(folder=lists.takes[0].folder)  # ends it
    assert "Scene Review" not in bpy.data.scenes
    settings.use_over = False
    assert sorted(strips(edit)) == sorted(before)

    # through the camera, with its own background image left alone, and off again
    camera = scene.camera.data
    camera.background_images.new().image = bpy.data.images.new("Own", 8, 8)
    assert not ops.background_remove.poll()
    for row in (1, 0):
        lists.takes_index = row
        assert ops.take_background() == {"FINISHED"}
    behind = camera.background_images[1]
    user, image = behind.image_user, behind.image
    assert len(camera.background_images) == 2
    assert image.filepath == "//animatic/shot_002/held-23.976/0001.png"
    assert (image.source, user.frame_duration, user.frame_offset) == ("SEQUENCE", 31, 0)
    held = harness.SCRATCH / "animatic" / "shot_002"
    for frame in range(START, END + 1):  # as BKE_image_user_frame_get counts
        name = f"{frame - user.frame_start + 1:04d}.png"
        wanted = held / "frames" / f"{clip.clip_frame_at(frame) + 1:04d}.png"
        assert (held / "held-23.976" / name).read_bytes() == wanted.read_bytes()
    assert lists.behind_camera
    assert ops.background_remove() == {"FINISHED"}
    assert [each.image.name for each in camera.background_images] == ["Own"]
    assert not camera.show_background_images
    assert not lists.behind_camera

    # a new take is a movie from the start where that is asked for, over the render where that is
    class FakeGeneration(harness.FakeGeneration):
        def run(self, on_event):
            run = written_runs.write_run("shot_003", [3], shot, first=200)
            told = {**harness.SHOT, "shot": shot}
            return harness.module("link.generate").Outcome(run, shot=told, takes=[{}])

    harness.module("ui.runs").Generation = FakeGeneration
    settings.strip_kind, settings.use_over, settings.over_opacity = "movie", True, 0.75
    assert ops.generate() == {"FINISHED"}
    newest = edit.sequence_editor.strips["Scene 003"]
    assert (newest.type, newest.mute, newest.blend_alpha) == ("MOVIE", False, 0.75)
    newest.blend_alpha = 1.0
    assert [written_runs.number_in(shown(edit, frame)) for frame in (START, 19, END)] == [
        200 + clip.clip_frame_at(frame) for frame in (START, 19, END)
    ]
    seen = {strip.name for strip in edit.sequence_editor.strips if not strip.mute}
    assert seen == {"Scene 003", "Scene Render"}, seen
print("DONE")
