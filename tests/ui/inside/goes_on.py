"""What an artist may do beside a run, and odd words in fields: the panel stays true and alive."""

import time

import bpy
import harness
import written_runs
from harness import FakeGeneration
from written_runs import SHOT


def rows() -> tuple[list[str], list[str], str]:
    lists = harness.lists()
    return [row.name for row in lists.takes], [row.name for row in lists.shots], lists.span


def finish(session) -> None:
    ends = time.monotonic() + 20
    while session._tick() is not None:
        assert time.monotonic() < ends
        time.sleep(0.01)


with harness.extension() as session:
    asked, pending, watch = (harness.module(f"ui.{name}") for name in ("asked", "pending", "watch"))
    chosen = harness.module("ui.preferences").preferences(bpy.context)
    other = harness.save_scene("other.blend")
    path = harness.save_scene("shot.blend")

    # File > Revert empties the lists, which go with the window manager
    written_runs.write_run("shot_001", [7], SHOT)
    bpy.ops.wm.open_mainfile(filepath=str(path))
    before = rows()
    assert before == (["001"], ["Scene"], "1 to 24"), before
    bpy.ops.wm.revert_mainfile()
    assert rows() == before, rows()

    # a take that is finished after that has no strip, but is listed, and the eye brings the strip
    class Slow(FakeGeneration):
        def run(self, on_event):
            assert self.let_go.wait(30)
            made = written_runs.write_run("shot_002", [8], SHOT)
            told = {**harness.SHOT, "shot": SHOT}
            return harness.module("link.generate").Outcome(made, shot=told, takes=[{}])

    runs = harness.module("ui.runs")
    generation, runs.Generation = runs.Generation, Slow
    bpy.context.scene.animatic.prompt = "a red cube on sand"
    made = harness.begin()
    bpy.ops.wm.revert_mainfile()
    made.let_go.set()
    finish(session)
    runs.Generation = generation
    assert "click on its eye" in session.status().notes[0], session.status().notes
    assert rows()[0] == ["002", "001"], rows()
    assert "Scene Edit" not in bpy.data.scenes
    bpy.ops.animatic.take_pick(folder=harness.lists().takes[0].folder)
    assert [strip.name for strip in bpy.data.scenes["Scene Edit"].sequence_editor.strips] == [
        "Scene 002"
    ]

    # words that are no path and no model are refused in a sentence, and the watch goes on
    settings = bpy.context.scene.animatic
    settings.prompt = "a red cube on sand"
    for words in ("~nobody-here/model", "a street of red towers at sunset, " * 9):
        settings.model = words
        watch._watch()
        assert "There is no model" in harness.refusal()
    settings.model, chosen.output = "blockout-mini", "~nobody-here/takes"
    watch._watch()
    harness.module("ui.take_index").read_disk()
    chosen.output = "//animatic/{file}"

    # a failure speaks of the preferences, not of the command line
    chosen.blender = str(harness.SCRATCH / "no-blender")
    harness.begin()
    finish(session)
    assert "no Blender at" in session.status().message
    assert "--" not in session.status().message, session.status().message
    chosen.blender = ""

    # what is left of a queue is offered in its own file, also when that is opened during a run
    harness.fake_generation()
    FakeGeneration.fails_with = harness.module("errors").AnimaticError("No memory.")
    plan = harness.module("ui.runs").plan_queue
    session.start(plan(bpy.context, asked.all_targets(bpy.context.scene)))
    FakeGeneration.made[-1].let_go.set()
    finish(session)
    FakeGeneration.fails_with = None
    left = pending.offered()
    assert left.blend == str(path)
    made = harness.begin()
    bpy.ops.wm.open_mainfile(filepath=str(other))
    made.let_go.set()
    finish(session)
    assert pending.offered() is None
    bpy.ops.wm.open_mainfile(filepath=str(path))
    find = harness.module("ui.kept_queue").find_kept
    again = find(pending.queues_folder(), str(path))
    again.hold()  # as another Blender does that resumes it
    bpy.ops.animatic.queue_discard()
    assert again.copy.is_file(), "another Blender renders from it"
    again.close()
    pending.look()
    bpy.ops.animatic.queue_discard()
    assert not again.folder.exists()

    # guides run a file's drivers where the window does: by the preferences, or allowed once
    text = bpy.data.texts.new("rig.py")
    text.write("import bpy\nbpy.app.driver_namespace['lift'] = lambda frame: frame * 0.1\n")
    text.use_module = True
    driver = bpy.data.objects["Cube"].driver_add("location", 2).driver
    driver.type, driver.expression = "SCRIPTED", "lift(frame)"
    bpy.ops.wm.save_mainfile()
    for by_preferences, allowed in ((False, False), (False, True), (True, True)):
        bpy.context.preferences.filepaths.use_scripts_auto_execute = by_preferences
        bpy.app.driver_namespace.pop("lift", None)
        bpy.ops.wm.open_mainfile(filepath=str(path), use_scripts=allowed)
        bpy.context.scene.frame_set(20)
        graph = bpy.context.evaluated_depsgraph_get()
        lifted = abs(bpy.data.objects["Cube"].evaluated_get(graph).location.z - 2.0) < 1e-6
        assert lifted == allowed == asked._runs_scripts(), (by_preferences, allowed, lifted)
    # Blender 4.5 hangs at its end where a driver in Python is still there
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)

print("DONE")
