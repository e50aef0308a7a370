"""The list of takes: found on disk, picked, brought back into the panel, made again."""

import shutil

import bpy
import harness
import written_runs
from written_runs import SHOT

with harness.extension() as session:
    index = harness.module("ui.take_index")

    def write_run(number: int, seeds: list[int], **asked: object) -> None:
        usual = {**written_runs.as_draft(), "prompt": f"run {number}"}
        written_runs.write_run(f"shot_{number:03}", seeds, SHOT, **(usual | asked))

    def rows() -> list[tuple[str, str, bool]]:
        return [(row.name, row.seed, row.shown) for row in lists.takes]

    harness.save_scene("shot.blend")
    scene, lists = bpy.context.scene, harness.lists()
    write_run(1, [7, 8])
    write_run(2, [4_000_000_000], steps=33)
    (harness.SCRATCH / "animatic" / "shot_003").mkdir()
    (harness.SCRATCH / "animatic" / "shot_003" / "request.json").write_text("{")  # damaged
    bpy.ops.animatic.takes_refresh()
    assert rows() == [
        ("002", "4000000000", False),
        ("001.2", "8", False),
        ("001.1", "7", False),
    ], rows()
    assert [(row.name, row.takes) for row in lists.shots] == [("Scene", 3)]

    # picked: it gets a strip if it has none, and is the only one of its shot that is seen
    for row in (1, 0, 1):
        bpy.ops.animatic.take_pick(folder=lists.takes[row].folder)
        assert [shown for _, _, shown in rows()] == [k == row for k in range(3)], rows()
    strips = bpy.data.scenes["Scene Edit"].sequence_editor.strips
    assert sorted((strip.name, strip.mute) for strip in strips) == [
        ("Scene 001.2", False),
        ("Scene 002", True),
    ]
    assert not scene.sequence_editor or not len(scene.sequence_editor.strips)

    # its settings, back in the panel
    settings = scene.animatic
    settings.look = "fog"
    lists.takes_index = 1
    assert bpy.ops.animatic.take_settings() == {"FINISHED"}
    assert (settings.prompt, settings.negative_prompt, settings.seed) == ("run 1", "blur", 8)
    assert (settings.guide, settings.look) == ("lineart", "none")
    assert abs(settings.strength - 0.8) < 1e-6
    assert (settings.quality, settings.use_steps, settings.use_guidance) == ("draft", False, False)
    assert (settings.use_range, settings.use_frames, settings.frames) == (False, True, 4)
    assert [(item.frame, item.strength) for item in settings.guide_frames] == [(1, 1.0), (7, 0.5)]
    lists.takes_index = 0
    assert "larger than Blender" in harness.refusal("take_settings")
    assert settings.prompt == "run 1"

    # made again: from its own folder, with its own seed or another
    made = []

    class FakeReplay(harness.FakeGeneration):
        def __init__(self, file, out, host, seed=None) -> None:
            super().__init__(None, host)
            made.append((file, out.name, seed))

        def run(self, on_event):
            raise harness.module("errors").AnimaticError("no engine here")

    harness.module("ui.runs").Replay = FakeReplay
    harness.module("ui.runs").load_take = lambda file: (
        None, index.take_at(str(file.parent)).request, {}
    )  # fmt: skip
    assert "no engine here" in harness.refusal("take_redo", seed="same")
    assert "no engine here" in harness.refusal("take_redo", seed="new")
    assert made[0] == (harness.SCRATCH / "animatic" / "shot_002" / "take.json", "shot_###", None)
    assert made[1][2] is not None
    model, settings.model = settings.model, "~nobody-here/model"
    assert "no engine here" in harness.refusal("take_redo", seed="same")
    settings.model = model

    # a run that was made again without the panel has a name that is no number alone
    written_runs.write_run("shot_002-2", [9], SHOT)
    bpy.ops.animatic.takes_refresh()
    assert [name for name, _, _ in rows()] == ["002-2", "002", "001.2", "001.1"], rows()
    shutil.rmtree(harness.SCRATCH / "animatic" / "shot_002-2")
    bpy.ops.animatic.takes_refresh()

    # a take that a strip shows is listed also where the file has moved away from it
    moved = harness.SCRATCH / "elsewhere" / "other.blend"
    moved.parent.mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(moved))
    lists = harness.lists()
    assert [name for name, _, _ in rows()] == ["002", "001.2", "001.1"], rows()

    # another file has other takes
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert not len(harness.lists().takes)
print("DONE")
