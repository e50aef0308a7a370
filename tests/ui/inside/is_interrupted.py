"""A job in its thread: pumped, cancelled, and alive through undo, File > Open and disabling."""

import time

import bpy
import harness
import numpy
from harness import FakeGeneration


def pump_until_over(session) -> None:
    """Do what the timer does: timers do not fire in a background Blender."""
    ends = time.monotonic() + 20
    while session._tick() is not None:
        assert time.monotonic() < ends
        time.sleep(0.01)


def begin(session) -> FakeGeneration:
    made = harness.begin()
    assert bpy.app.timers.is_registered(session._tick)
    assert session.busy()
    assert not bpy.ops.animatic.generate.poll(), "a second job at the same time"
    return made


with harness.extension() as session:
    placed = harness.fake_generation()
    path = harness.save_scene("shot.blend")

    # progress reaches the status, the strip is placed at the end
    made = begin(session)
    while session.status().phase != "Sampling 3 of 20":
        session._tick()
    assert session.status().fraction == 3 / 20
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        bpy.ops.ed.undo_push(message="before")
        bpy.context.scene.frame_end = 99
        bpy.ops.ed.undo_push(message="something of the artist's")
        assert bpy.ops.ed.undo() == {"FINISHED"}
    assert bpy.context.scene.frame_end == 24
    made.let_go.set()
    pump_until_over(session)
    assert [scene for scene, _ in placed] == ["Scene"]
    assert session.status().state.value == "done"

    # Undo takes the picture of a preview that is on its way
    previews, picture = harness.module("ui.previews"), harness.SCRATCH / "preview.png"
    harness.module("shot.png").write_png(picture, numpy.zeros((8, 8, 3), numpy.uint8))
    previews.begin(harness.module("ui.job").Preview(picture, 1))
    assert previews.go_on()
    bpy.data.images.remove(bpy.data.images[previews.CLIP])
    assert not previews.go_on()
    assert not previews.has_clip()

    # cancelled by the artist
    made = begin(session)
    assert bpy.ops.animatic.cancel() == {"FINISHED"}
    assert made.cancelled.is_set()
    assert not bpy.ops.animatic.cancel.poll()
    pump_until_over(session)
    assert session.status().state.value == "cancelled"
    assert not made.settings.blend.parent.exists()

    # another file is opened: the take is kept, no strip lands in a file it was not made for
    made = begin(session)
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert session.busy()
    made.let_go.set()
    pump_until_over(session)
    assert [scene for scene, _ in placed] == ["Scene"]
    assert "no longer open" in session.status().notes[0]

    # a fault of ours must not leave the panel busy for ever
    bpy.context.scene.animatic.prompt = "a cube"
    FakeGeneration.fails_with = ZeroDivisionError("a fault")
    made = begin(session)
    made.let_go.set()
    pump_until_over(session)
    assert session.status().state.value == "failed"
    assert "report it" in session.status().message
    FakeGeneration.fails_with = None

    # nor may one while its strip is placed cost the other shots their turn
    def faulty(*_arguments):
        raise ZeroDivisionError("a fault")

    conclude, runs, scene = (
        harness.module("ui.conclude"),
        harness.module("ui.runs"),
        bpy.context.scene,
    )
    places, conclude.place_takes = conclude.place_takes, faulty
    for name, frame in (("Wide", 1), ("Close", 13)):
        scene.timeline_markers.new(name, frame=frame).camera = scene.camera
    targets = harness.module("ui.asked").all_targets(scene)
    session.start(runs.plan_queue(bpy.context, targets))
    for made in FakeGeneration.made[-2:]:
        made.let_go.set()
    pump_until_over(session)
    assert not session.busy()
    assert session.position()[1:] == (2, 2)
    assert session.status().message == "1 take in 0 s."
    notes = session.status().notes
    assert "report it" in notes[0], notes
    assert notes[-1] == "Wide: 1 take in 0 s.", notes
    pending = harness.module("ui.pending")
    assert not list(pending.queues_folder().iterdir()), "the queue is held on to"
    conclude.place_takes = places

    # disabled in the middle: cancelled, joined, no timer left
    made = begin(session)
    thread = session._session.job._thread
    harness.disable()
    assert made.cancelled.is_set()
    assert not thread.is_alive()
    assert not bpy.app.timers.is_registered(session._tick)
    assert not made.settings.blend.parent.exists()
    harness.enable()
    assert not session.busy()
print("DONE")
