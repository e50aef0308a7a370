"""The real installation: torch for the CPU and the wheel that the zip carries. Takes minutes."""

import time
from pathlib import Path

import bpy
import harness

with harness.extension():
    preferences = harness.module("ui.preferences")
    control, State = preferences.control, harness.module("ui.preferences_engine").State
    chosen = preferences.preferences(bpy.context)
    bpy.context.preferences.system.use_online_access = True
    chosen.torch_build = "cpu"
    seen = set()
    take = control.progress.__class__.take
    control.progress.__class__.take = lambda self, event: (
        seen.add(event["phase"]),
        take(self, event),
    )
    began = time.monotonic()
    bpy.ops.animatic.engine_install()
    print(f"installed in {time.monotonic() - began:.0f} s")
    assert control.state is State.STOPPED, control.message
    assert control.own
    assert control.note == ""
    assert seen == {"python", "environment", "torch", "packages", "check"}
    bpy.ops.animatic.engine_start()
    assert control.state is State.READY, control.message
    assert [m["name"] for m in preferences.host(bpy.context).engine.client().models()] == [
        "blockout-mini"
    ]
    bpy.ops.animatic.engine_stop()
    bpy.ops.animatic.engine_remove()
    assert control.state is State.NOT_INSTALLED, control.message
    install = harness.module("link.install")
    assert not Path(install.engine_folder()).exists()
print("DONE")
