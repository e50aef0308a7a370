"""Generate from a script: what goes in, what the artist's file looks like after, what it says."""

from pathlib import Path

import bpy
import harness
from harness import FakeGeneration, refusal

with harness.extension() as session:
    placed = harness.fake_generation()
    FakeGeneration.run_now = FakeGeneration.run

    def run_at_once(self, on_event):
        self.let_go.set()
        self.dirty = bpy.data.is_dirty  # allowed: this runs on the main thread
        return FakeGeneration.run_now(self, on_event)

    FakeGeneration.run = run_at_once

    # nothing to go by: a sentence, and no generation at all
    harness.save_scene("shot.blend")
    bpy.context.scene.animatic.prompt = " "
    assert "prompt is empty" in refusal()
    bpy.context.scene.animatic.prompt = "a cube"
    bpy.context.scene.camera = None
    assert "no camera" in refusal()
    assert not FakeGeneration.made

    path = harness.save_scene("shot.blend")
    on_disk = path.read_bytes()
    bpy.context.scene.camera.location.x = 3.0  # not saved by the artist
    scene = bpy.context.scene
    bpy.ops.animatic.guide_frames_fill(source="every", step=10)
    scene.animatic.guide_frames[0].strength = 0.5
    scene.animatic.guide_frames[2].enabled = False
    bpy.ops.ed.undo_push(message="something of the artist's")
    dirty = bpy.data.is_dirty
    assert bpy.ops.animatic.generate() == {"FINISHED"}
    (made,) = FakeGeneration.made
    asked = made.settings
    assert made.saw_copy
    assert not asked.blend.parent.exists(), "the saved copy was left behind"
    assert asked.blend != path
    assert asked.out == harness.SCRATCH / "animatic" / "shot_###"  # the run is given its number
    assert (asked.prompt, asked.keyframes, asked.guide) == (
        "a red cube on sand",
        "1@0.5,11@1",
        "depth",
    )
    assert (asked.scene, asked.shot) == ("Scene", "Scene")
    assert path.read_bytes() == on_disk
    assert bpy.data.filepath == str(path)
    assert made.dirty == dirty
    assert placed == [("Scene", [[]])]  # one take, which has no frames here
    assert session.status().state.value == "done"
    assert session.status().message == "1 take in 0 s."

    # what the look, the quality and the numbers under Expert come to
    scene = bpy.context.scene
    scene.animatic.look, scene.animatic.quality = "golden_hour", "draft"
    scene.animatic.use_guidance, scene.animatic.guidance = True, 4.0
    scene.animatic.use_range, scene.animatic.range_start, scene.animatic.range_end = True, 3, 12
    bpy.ops.animatic.generate()
    asked = FakeGeneration.made[-1].settings
    assert asked.prompt.startswith("a red cube on sand, at sunset"), asked.prompt
    assert (asked.steps, asked.quality.id, asked.guidance) == (None, "draft", 4.0)
    assert (asked.range, asked.keyframes) == ((3, 12), "11@1")
    scene.animatic.range_end = 2
    assert "swap the two numbers" in refusal()
    scene.animatic.use_range = False

    # guides alone: no prompt is needed, and nothing is left beside the file
    scene.animatic.prompt = ""
    before = sorted(harness.SCRATCH.iterdir())
    bpy.ops.animatic.preview_guides()
    asked = FakeGeneration.made[-1].settings
    assert asked.guides_only
    assert asked.out.is_relative_to(bpy.app.tempdir)
    assert sorted(harness.SCRATCH.iterdir()) == before
    assert session.status().message == "0 guides in 0 s."
    scene.animatic.prompt = "a red cube on sand"

    # the shot under the playhead is the one that is made
    scene = bpy.context.scene
    for name, frame in (("Wide", 1), ("Close", 13)):
        scene.timeline_markers.new(name, frame=frame).camera = scene.camera
    scene.frame_set(15)
    bpy.ops.animatic.generate()
    assert FakeGeneration.made[-1].settings.shot == "Close"

    # all shots, one after another, from one saved copy
    before = len(FakeGeneration.made)
    bpy.ops.animatic.generate_all()
    made = [each.settings for each in FakeGeneration.made[before:]]
    assert [each.shot for each in made] == ["Wide", "Close"]
    assert [each.keyframes for each in made] == ["1@0.5,11@1", "all"]
    assert len({each.blend for each in made}) == 1
    assert not made[0].blend.parent.exists(), "the saved copy was left behind"

    # an error of the engine's is the operator's error, in its own words
    errors = harness.module("errors")
    FakeGeneration.fails_with = errors.AnimaticError("The engine has ended.")
    assert "The engine has ended." in refusal()
    assert session.status().message == "The engine has ended."
    FakeGeneration.fails_with = None

    # files that were never saved: takes go where they outlive the session and the extension, each
    # file's by themselves; scenes come and go in it, and undo makes them anew
    def unsaved() -> Path:
        bpy.context.scene.animatic.prompt = "a cube"
        bpy.ops.animatic.generate()
        assert bpy.data.filepath == ""
        return FakeGeneration.made[-1].settings.out

    bpy.ops.wm.read_homefile(use_factory_startup=True)
    out = unsaved()
    assert out.is_relative_to(harness.SCRATCH / "data" / "takes"), out
    assert out.parts[-2:] == ("animatic", "untitled_###"), out
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        bpy.ops.ed.undo_push(message="before")
        bpy.ops.scene.new(type="LINK_COPY")
        bpy.ops.ed.undo_push(message="another scene")
        assert unsaved() == out
        bpy.ops.ed.undo()
        assert unsaved() == out
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert unsaved() != out

    # a pattern that cannot be filled in
    bpy.context.preferences.addons[harness.MODULE].preferences.output = "//{shot}"
    assert "Takes Folder" in refusal()
print("DONE")
