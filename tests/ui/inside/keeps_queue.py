"""A queue of shots outlives its Blender: offered again, resumed or discarded, never by itself."""

import os
import shutil
import time
from pathlib import Path

import bpy
import harness
from harness import FakeGeneration


def pump_until(session, over) -> None:
    """Do what the timer does: timers do not fire in a background Blender."""
    ends = time.monotonic() + 20
    while not over():
        session._tick()
        assert time.monotonic() < ends
        time.sleep(0.01)


def states() -> list[tuple[str, str]]:
    harness.module("ui.take_index").refresh()
    return [(row.name, row.state) for row in harness.lists().shots]


def queue_folders() -> list:
    return list(pending.queues_folder().iterdir())


def begin_all() -> None:
    targets = harness.module("ui.asked").all_targets(bpy.context.scene)
    session.start(harness.module("ui.runs").plan_queue(bpy.context, targets))


with harness.extension() as session:
    harness.fake_generation()
    pending, kept_queue = harness.module("ui.pending"), harness.module("ui.kept_queue")
    path = harness.save_scene("shot.blend")
    scene = bpy.context.scene
    for name, frame in (("Wide", 1), ("Close", 9), ("Last", 17)):
        scene.timeline_markers.new(name, frame=frame).camera = scene.camera
    bpy.ops.wm.save_mainfile()
    scene.animatic.prompt = "not saved"

    # two of three: one is made, one fails; then Blender is gone while the third is made
    begin_all()
    assert states() == [("Wide", "RUNNING"), ("Close", "QUEUED"), ("Last", "QUEUED")], states()
    FakeGeneration.made[-3].let_go.set()
    pump_until(session, lambda: session.position()[1] == 2)
    FakeGeneration.made[-2].fails_with = harness.module("errors").AnimaticError("No memory.")
    FakeGeneration.made[-2].let_go.set()
    pump_until(session, lambda: session.position()[1] == 3)
    assert [state for _, state in states()] == ["NOT_YET", "FAILED", "RUNNING"], states()
    assert pending.offered() is None
    assert kept_queue.find_kept(pending.queues_folder(), str(path)) is None, "it is held"
    (folder,) = queue_folders()
    killed = shutil.copytree(folder, folder.with_name("killed"))  # as a crash leaves it
    minute_ago = time.time() - 60
    os.utime(killed, (minute_ago, minute_ago))  # the newest is offered: let no tie decide
    bpy.ops.animatic.cancel()
    pump_until(session, lambda: not session.busy())
    bpy.ops.animatic.queue_discard()
    assert [each.name for each in queue_folders()] == ["killed"]
    assert killed.parent == harness.SCRATCH / "data" / "queues"  # the extension's own goes with it

    # one that lies where they were kept before is offered, too
    former = Path(bpy.utils.extension_path_user(harness.MODULE, path="queues", create=True))
    shutil.move(killed, former)
    pending.look()
    assert pending.offered().folder == former / "killed"
    shutil.move(former / "killed", killed)

    # the file is opened again: offered, not started, and not in another file
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert pending.offered() is None
    made = len(FakeGeneration.made)
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert len(FakeGeneration.made) == made
    assert not session.busy()
    assert [entry.title for entry in pending.offered().left] == ["Close", "Last"]
    assert [state for _, state in states()] == ["NOT_YET", "FAILED", "QUEUED"], states()

    # resumed: from the scene as it was, into folders of now
    FakeGeneration.run_now = FakeGeneration.run

    def run_at_once(self, on_event):
        self.let_go.set()
        return FakeGeneration.run_now(self, on_event)

    FakeGeneration.run = run_at_once
    assert bpy.ops.animatic.queue_resume() == {"FINISHED"}
    asked = [each.settings for each in FakeGeneration.made[made:]]
    assert all(each.saw_copy for each in FakeGeneration.made[made:])
    assert [(each.prompt, each.shot, each.out.name) for each in asked] == [
        ("not saved", "Close", "shot_###"),
        ("not saved", "Last", "shot_###"),
    ]
    assert asked[0].blend == pending.queues_folder() / "killed" / "shot.blend"
    assert not queue_folders()
    assert pending.offered() is None
    assert [state for _, state in states()] == ["NOT_YET"] * 3  # no take of the fake's is on disk

    # a failure leaves the rest to be tried again
    bpy.context.scene.animatic.prompt = "a cube"
    FakeGeneration.fails_with = harness.module("errors").AnimaticError("The engine has ended.")
    assert "The engine has ended." in harness.refusal("generate_all")
    FakeGeneration.fails_with = None
    assert len(pending.offered().left) == 3
    assert bpy.ops.animatic.generate_all() == {"FINISHED"}
    assert not queue_folders()

    # settings of all kinds come back as they were
    settings_json, generate = harness.module("ui.settings_json"), harness.module("link.generate")
    request = harness.module("shot.request")
    from fractions import Fraction

    full = generate.GenerateSettings(
        blend=Path("/a b/c.blend"), out=Path("d"), range=(1, 5), frames=3,
        steering=request.Steering(prompts=((Fraction(3, 2), "a"),)),
        long_clip=generate.LongClip(context=(16, 4, "uniform")),
    )  # fmt: skip
    again = settings_json.from_json(generate.GenerateSettings, settings_json.to_json(full))
    assert again == full
print("DONE")
