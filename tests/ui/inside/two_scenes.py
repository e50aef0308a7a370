"""Two windows on two scenes: each panel shows its own lists, guides, estimate and results."""

import bpy
import harness
import written_runs
from drawing import context_of, draw
from harness import FakeGeneration
from written_runs import SHOT

with harness.extension() as session:
    index, estimate, report, timeline, watch, panel = (
        harness.module(f"ui.{name}")
        for name in ("take_index", "estimate", "guides_report", "timeline", "watch", "panel")
    )
    harness.fake_generation()
    harness.save_scene("shot.blend")
    first, window = bpy.context.scene, bpy.context.window_manager.windows[0]
    other = bpy.data.scenes.new("Other")
    other.camera = bpy.data.objects.new("Second", bpy.data.cameras.new("Second"))
    other.collection.objects.link(other.camera)
    other.frame_end = 48
    other.timeline_markers.new("Late", frame=1).camera = other.camera
    written_runs.write_run("shot_001", [7], SHOT)
    late = {**SHOT, "name": "Late", "scene": "Other"}
    written_runs.write_run("shot_002", [8], late, **written_runs.as_draft())
    written_runs.write_run("shot_003", [9], late)
    first.animatic.prompt, other.animatic.prompt = "a red robot", "a red box"
    first.animatic.model, other.animatic.guide = "nowhere", "lineart"
    for scene, frames in ((first, (5,)), (other, (9, 17))):
        for frame in frames:
            scene.animatic.guide_frames.add().frame = frame

    def look() -> None:
        """What the watch does, where one window shows the first scene and a second the other."""
        assert window.scene == first
        with bpy.context.temp_override(scene=other):
            watch._watch()

    def rows(scene) -> tuple:
        lists = harness.lists(scene)
        return [row.name for row in lists.takes], [row.name for row in lists.shots], lists.span

    with bpy.context.temp_override(scene=other):
        index.read_disk()
    look()
    assert rows(first) == (["001"], ["Scene"], "1 to 24"), rows(first)
    assert rows(other) == (["003", "002"], ["Late"], "1 to 48"), rows(other)
    assert timeline.shown_in(first) == ((5, True),)
    assert timeline.shown_in(other) == ((9, True), (17, True))
    # the model of the first is not here; that of the other is
    assert estimate.current(first).time == ""
    assert estimate.current(other).time == "Time unknown"
    first.animatic.model = "blockout-mini"
    look()
    seen = {scene: " ".join(draw(panel.CLASSES[0], context_of(scene))) for scene in (first, other)}
    assert ["robot" in seen[first], "robot" in seen[other]] == [True, False], seen
    assert ["1 to 24" in seen[first], "1 to 24" in seen[other]] == [True, False], seen

    # a take chosen in one list is chosen there alone, and the buttons are for it
    harness.lists(other).takes_index = 1
    other.frame_set(20)
    look()
    assert (harness.lists(first).takes_index, harness.lists(other).takes_index) == (0, 1)
    with bpy.context.temp_override(scene=other):
        assert bpy.ops.animatic.take_settings() == {"FINISHED"}
    assert (first.animatic.prompt, other.animatic.prompt) == ("a red robot", "shot_002")

    # depth that was found in one is not the other's near
    found = {"depth": {"near": 2.5, "far": 40.0}, "guides": [], "keyframes": []}
    report.remember(first, found, harness.SCRATCH)
    assert report.last(other) is None
    other.animatic.guide = "depth"
    near = other.animatic.near
    other.animatic.use_near = first.animatic.use_near = True
    assert (first.animatic.near, other.animatic.near) == (2.5, near)

    # a job is told in both, and in the other one for which scene; its result where it belongs
    def main(scene) -> list[str]:
        return draw(panel.CLASSES[0], context_of(scene))

    def finish() -> None:
        FakeGeneration.made[-1].let_go.set()
        session._session.job.wait(20)
        while session._tick() is not None:
            pass

    made = harness.begin()
    assert made.settings.scene == "Scene"
    assert "For Scene" in main(other), main(other)
    assert "For Scene" not in main(first)
    assert all("animatic.cancel" in main(scene) for scene in (first, other))
    first.name = "City"
    assert "For City" in main(other), main(other)
    first.name = "Scene"
    finish()
    assert "1 take in 0 s." in main(first), main(first)
    assert "1 take in 0 s." not in main(other)
    with bpy.context.temp_override(scene=other):
        other.animatic.prompt = " "
        assert "prompt is empty" in harness.refusal()
        assert not bpy.ops.animatic.open_folder.poll()
    assert "prompt is empty" in " ".join(main(other))
    assert "prompt is empty" not in " ".join(main(first))
    assert "1 take in 0 s." in main(first), main(first)

    # a scene that a window shows for the first time has no lists yet: it draws without them
    third = bpy.data.scenes.new("Third")
    assert harness.lists(third) is None
    for cls in panel.CLASSES:
        draw(cls, context_of(third))
    # a result whose scene has gone meanwhile is not lost
    made = harness.begin()
    window.scene = other
    bpy.data.scenes.remove(first)
    finish()
    assert "no longer open" in " ".join(main(other)), main(other)
print("DONE")
