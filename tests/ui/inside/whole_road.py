"""The real thing from the operator to the strip, and disabled while the engine samples."""

import sys
import time
from pathlib import Path

import bpy
import harness

ENGINE, MODEL = sys.argv[3:5]


def processes() -> list[str]:
    """The command lines of processes that this extension started."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has just ended
        if any(word.startswith(str(harness.SCRATCH / "profile")) for word in words):
            found.append(" ".join(words))
    return found


def prepare(path: Path) -> None:
    bpy.context.preferences.addons[harness.MODULE].preferences.engine_python = ENGINE
    bpy.context.scene.animatic.model = MODEL
    bpy.context.scene.animatic.takes = 2
    bpy.ops.wm.save_mainfile(filepath=str(path))


with harness.extension() as session:
    path = harness.save_scene("shot.blend")
    prepare(path)
    before = path.read_bytes()
    assert bpy.ops.animatic.generate() == {"FINISHED"}
    assert path.read_bytes() == before
    out = harness.SCRATCH / "animatic" / "shot_001"
    assert session.status().folder == out
    assert {"frames", "guides", "request.json", "take-02", "take.json", "video.mp4"} == {
        item.name for item in out.iterdir()
    }
    strips = bpy.data.scenes["Scene Edit"].sequence_editor.strips
    assert [(strip.channel, strip.mute) for strip in strips] == [(2, False), (3, True)]
    assert len(strips[0].elements) == 24
    assert (Path(bpy.path.abspath(strips[0].directory)) / strips[0].elements[-1].filename).is_file()
    assert not processes()

    harness.begin()
    ends = time.monotonic() + 90
    while not session.status().phase.startswith("Sampling"):
        session._tick()
        assert session.busy(), session.status()
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert processes()
    harness.disable()
    assert not processes()
    assert not (harness.SCRATCH / "animatic" / "shot_002").exists()
    harness.enable()
print("DONE")
