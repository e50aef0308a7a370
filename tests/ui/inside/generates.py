"""Generate from a script: what goes in, what the artist's file looks like after, what it says."""

import bpy
import harness
from harness import FakeGeneration, refusal

with harness.extension() as session:
    placed = []
    session.Generation = FakeGeneration

    def place_takes(scene, shot, takes):
        placed.append((scene.name, takes))
        return scene, []

    session.place_takes = place_takes
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
    scene.animatic.keyframes = "every"
    scene.animatic.keyframes_step = 5
    bpy.ops.ed.undo_push(message="something of the artist's")
    dirty = bpy.data.is_dirty
    assert bpy.ops.animatic.generate() == {"FINISHED"}
    (made,) = FakeGeneration.made
    asked = made.settings
    assert made.saw_copy
    assert not asked.blend.parent.exists(), "the saved copy was left behind"
    assert asked.blend != path
    assert asked.out == harness.SCRATCH / "animatic" / "shot_001"
    assert (asked.prompt, asked.keyframes, asked.guide) == (
        "a red cube on sand",
        "every:5",
        "depth",
    )
    assert (asked.scene, asked.shot) == ("Scene", "Scene")
    assert path.read_bytes() == on_disk
    assert bpy.data.filepath == str(path)
    assert made.dirty == dirty
    assert placed == [("Scene", [[]])]  # one take, which has no frames here
    assert session.status().state.value == "done"
    assert session.status().message == "1 take in 0 s."

    # the next take gets the next number; an earlier folder is never touched
    asked.out.mkdir(parents=True)
    bpy.ops.animatic.generate()
    assert FakeGeneration.made[-1].settings.out.name == "shot_002"

    # the shot under the playhead is the one that is made
    scene = bpy.context.scene
    for name, frame in (("Wide", 1), ("Close", 13)):
        scene.timeline_markers.new(name, frame=frame).camera = scene.camera
    scene.frame_set(15)
    bpy.ops.animatic.generate()
    assert FakeGeneration.made[-1].settings.shot == "Close"

    # an error of the engine's is the operator's error, in its own words
    errors = __import__(f"{harness.MODULE}.blender_addon.errors", fromlist=["AnimaticError"])
    FakeGeneration.fails_with = errors.AnimaticError("The engine has ended.")
    assert "The engine has ended." in refusal()
    assert session.status().message == "The engine has ended."
    FakeGeneration.fails_with = None

    # a file that was never saved: takes go where they outlive the session
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    bpy.context.scene.animatic.prompt = "a cube"
    bpy.ops.animatic.generate()
    out = FakeGeneration.made[-1].settings.out
    assert out.is_relative_to(harness.SCRATCH / "profile"), out
    assert out.parts[-2:] == ("animatic", "untitled_001"), out
    assert bpy.data.filepath == ""

    # a pattern that cannot be filled in
    bpy.context.preferences.addons[harness.MODULE].preferences.output = "//{shot}"
    assert "Takes Folder" in refusal()
print("DONE")
