"""A shot's takes stay with it when its marker or its scene is renamed, in the list and the edit."""

import shutil

import bpy
import harness
import written_runs

CLIP = {"frames": 4, "fps": "8", "width": 64, "height": 64}


def shot(name: str, start: int, end: int, scene: str = "Scene") -> dict:
    count = end - start + 1
    return {
        "name": name, "scene": scene, "camera": "Camera", "start": start, "end": end,
        "scene_fps": "24", "film": {"width": 16, "height": 16}, "clip": CLIP, "note": "",
        "frame_map": [4 * k // count for k in range(count)],
    }  # fmt: skip


with harness.extension() as session:
    index, compat = harness.module("ui.take_index"), harness.module("scene.compat")

    def listed(frame: int) -> list[tuple[str, str, bool]]:
        bpy.context.scene.frame_set(frame)
        index.refresh()
        return [(row.name, row.once, row.shown) for row in harness.lists().takes]

    def shots() -> list[tuple[str, int, str]]:
        index.refresh()
        return [(row.name, row.takes, row.state) for row in harness.lists().shots]

    path = harness.save_scene("shot.blend")
    scene = bpy.context.scene
    for name, frame in (("Wide", 1), ("Close", 13)):
        scene.timeline_markers.new(name, frame=frame).camera = scene.camera
    written_runs.write_run("shot_001", [7], shot("Wide", 1, 12), **written_runs.as_draft())
    written_runs.write_run("shot_002", [8], shot("Close", 13, 24))
    index.read_disk()
    before = [("001", "", False)]
    assert listed(1) == before, listed(1)

    # the marker is renamed: the take is its shot's still, and says under which name it was made
    scene.timeline_markers["Wide"].name = "Street"
    assert listed(1) == [("001", "Wide", False)], listed(1)
    assert shots() == [("Street", 1, "DONE"), ("Close", 1, "DONE")], shots()

    # a newer one, of the new name, is picked in its stead: one of the two is seen
    written_runs.write_run("shot_003", [9], shot("Street", 1, 12))
    index.read_disk()
    for name in ("001", "003", "001"):
        row = next(row for row in harness.lists().takes if row.name == name)
        bpy.ops.animatic.take_pick(folder=row.folder)
        assert [each[0] for each in listed(1) if each[2]] == [name], listed(1)
    edit = bpy.data.scenes["Scene Edit"]
    assert {strip.name: strip.mute for strip in edit.sequence_editor.strips} == {
        "Wide 001": False, "Street 003": True,
    }  # fmt: skip
    # laid over the render, the shot has one strip of that, which goes again
    scene.animatic.use_over = True
    renders = [strip for strip in edit.sequence_editor.strips if strip.type == "SCENE"]
    assert len(renders) == 1, renders
    scene.animatic.use_over = False
    assert not [strip for strip in edit.sequence_editor.strips if strip.type == "SCENE"]

    # its settings are the whole shot's; made again, it is this shot that is at work
    harness.lists().takes_index = 1
    assert bpy.ops.animatic.take_settings() == {"FINISHED"}
    assert not scene.animatic.use_range
    titles = []

    class FakeReplay(harness.FakeGeneration):
        def __init__(self, file, out, host, seed=None) -> None:
            super().__init__(None, host)

        def run(self, on_event):
            titles.append((session.position()[0], shots()[0]))
            raise harness.module("errors").AnimaticError("no engine here")

    harness.module("ui.runs").Replay = FakeReplay
    harness.module("ui.runs").load_take = lambda file: None
    assert "no engine here" in harness.refusal("take_redo")
    assert titles == [("Street", ("Street", 2, "RUNNING"))], titles

    # the scene is renamed, too, and its old name given to another one without a camera
    scene.name = "City"
    takes = [("003", "", False), ("001", "Wide", True)]
    assert listed(1) == takes, listed(1)
    bpy.data.scenes.new("Scene")
    assert listed(1) == takes, listed(1)
    assert listed(13) == [("002", "", False)], listed(13)
    bpy.data.scenes.remove(bpy.data.scenes["Scene"])
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert listed(1) == takes, listed(1)
    scene = bpy.context.scene

    # two markers of one name: each take is in one of the two lists
    scene.timeline_markers["Close"].name = "Street"
    assert [count for _, count, _ in shots()] == [2, 1], shots()
    scene.timeline_markers[1].name = "Close"

    # saved under another name: those with a strip are still here, the others were the old file's
    bpy.ops.wm.save_as_mainfile(filepath=str(harness.SCRATCH / "shot_v2.blend"))
    assert listed(1) == takes, listed(1)
    assert listed(13) == [], listed(13)

    # another file with takes in a folder that is for all files: not taken for a renamed shot's
    chosen = harness.module("ui.preferences").preferences(bpy.context)
    chosen.output = "//animatic/take"
    shutil.copytree(
        harness.SCRATCH / "animatic" / "shot_002", harness.SCRATCH / "animatic" / "take_001"
    )
    harness.save_scene("other.blend")
    index.read_disk()
    assert len(index.all_takes()) == 1
    assert listed(1) == [], listed(1)
    chosen.output = "//animatic/{scene}"
    shutil.move(harness.SCRATCH / "animatic" / "take_001", harness.SCRATCH / "animatic/Scene_001")
    bpy.context.scene.timeline_markers.new("Close", frame=1).camera = bpy.context.scene.camera
    other = bpy.data.scenes.new("Other")
    with bpy.context.temp_override(scene=other):  # read from there, found for all scenes
        index.read_disk()
    assert listed(1) == [("001", "", False)], listed(1)

    # two shots of one name: each has its own render, beneath all frames of its takes
    chosen.property_unset("output")
    harness.save_scene("twins.blend")
    scene = bpy.context.scene
    for frame in (1, 13):
        scene.timeline_markers.new("Street", frame=frame).camera = scene.camera
    scene.animatic.use_over = True
    for number, span in enumerate(((13, 18), (1, 12), (13, 24)), start=1):
        run = written_runs.write_run(f"twins_00{number}", [number], shot("Street", *span))
        index.read_disk()
        assert bpy.ops.animatic.take_pick(folder=str(run)) == {"FINISHED"}
    strips = bpy.data.scenes["Scene Edit"].sequence_editor.strips
    renders = [strip for strip in strips if strip.type == "SCENE"]
    assert sorted(map(compat.strip_range, renders)) == [(1, 13), (13, 25)], renders
    assert {strip.channel for strip in renders} == {1}
print("DONE")
