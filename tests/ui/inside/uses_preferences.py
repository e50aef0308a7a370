"""The engine from the preferences: refused, named by hand, started, killed, asked from afar.

As ``uses_preferences.py ZIP SCRATCH ENGINE_PYTHON``. ANIMATIC_DATA must be a folder of its own.
"""

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import bpy
import harness
import pytest

ENGINE_PYTHON = sys.argv[3]


class Recorder:
    """Takes the calls of a draw function and keeps all words and names."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def __getattr__(self, name: str):
        function = bpy.types.UILayout.bl_rna.functions[name]

        def call(*arguments, **options):
            names = [each.identifier for each in function.parameters if not each.is_output]
            given = dict(zip(names, arguments, strict=False)) | options
            assert set(given) <= set(names), (name, given)
            if name == "operator":
                group, _, operator = given["operator"].partition(".")
                assert operator in dir(getattr(bpy.ops, group)), given
            if name == "prop":
                assert given["property"] in given["data"].bl_rna.properties, given
            self.seen += [str(each) for each in given.values()]
            return SimpleNamespace() if name == "operator" else Recorder(self.seen)

        return call


def drawn() -> list[str]:
    seen: list[str] = []
    harness.module("ui.preferences_draw").draw(Recorder(seen), chosen, bpy.context, control)
    return seen


def wait_for(state, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while control.state is not state:
        assert time.monotonic() < deadline, (control.state, control.message)
        time.sleep(0.05)


with harness.extension():
    preferences = harness.module("ui.preferences")
    control, State = preferences.control, harness.module("ui.preferences_engine").State
    errors = harness.module("errors")
    remote = harness.module("link.remote")
    chosen = preferences.preferences(bpy.context)
    ops = bpy.ops.animatic

    # Nothing is here, and nothing is loaded against Blender's own preference.
    assert control.state is State.NOT_INSTALLED, (control.state, control.message)
    assert {"Not installed", "animatic.engine_install"} <= set(drawn())
    assert not bpy.app.online_access
    ops.engine_install()
    assert control.state is State.FAILED
    assert "Allow Online Access" in control.message
    assert not (Path(os.environ["ANIMATIC_DATA"]) / "engine").exists()
    assert "animatic.engine_install" in drawn()
    ops.model_download(name="sd15-depth")
    assert "Allow Online Access" in control.model_message

    # An engine's Python named by hand.
    chosen.engine_python = "/nowhere/python"
    assert control.state is State.FAILED
    assert "/nowhere/python" in control.message
    chosen.engine_python = ENGINE_PYTHON
    assert control.state is State.STOPPED, control.message
    assert "animatic.engine_start" in drawn()

    # It is started, used without being started again, and stopped.
    assert preferences.host(bpy.context).engine is None
    ops.engine_start()
    assert control.state is State.READY, control.message
    assert {"Ready", "animatic.engine_stop", "animatic.engine_restart"} <= set(drawn())
    engine = preferences.host(bpy.context).engine
    first = engine.client().health()["pid"]
    assert engine.find("blockout-mini").native == 256
    ops.engine_restart()
    assert control.state is State.READY
    process = control._process
    assert process.pid != first

    # The same engine, asked as a remote one.
    chosen.engine_where = "remote"
    chosen.remote_address, chosen.remote_token = f"localhost:{process.port}", process.token
    ops.engine_check_remote()
    assert control.remote_state is State.READY, control.remote_message
    assert "blockout-mini" in control.remote_message
    assert "animatic.engine_check_remote" in drawn()
    assert isinstance(preferences.host(bpy.context).engine, remote.RemoteEngine)
    chosen.remote_address = "http://10.1.2.3:8188"
    with pytest.raises(RuntimeError, match="ssh -N -L"):
        ops.engine_check_remote()
    with pytest.raises(errors.AnimaticError, match="ssh -N -L"):
        preferences.host(bpy.context)
    chosen.engine_where = "local"

    # One that dies is told of, and can be started again.
    os.kill(process.pid, signal.SIGKILL)
    wait_for(State.FAILED)
    assert "The engine has ended" in control.message
    ops.engine_start()
    assert control.state is State.READY
    ops.engine_stop()
    assert control.state is State.STOPPED

    # Models: a hub that is away, in a sentence; folders of the artist's own.
    bpy.context.preferences.system.use_online_access = True
    ops.model_download(name="sd15-depth")
    assert "does not answer" in control.model_message, control.model_message
    assert control.downloading == ""
    names = [model.name for model in control.models if model.installed]
    assert names == ["blockout-mini"]
    ops.model_folder_add()
    chosen.model_folders[0].path = str(harness.SCRATCH)
    assert harness.SCRATCH in preferences.host(bpy.context).models
    assert str(chosen.model_folders[0]) in drawn()
    ops.model_folder_remove(index=0)
    assert harness.SCRATCH not in preferences.host(bpy.context).models

    # Leaving it running: disabling the extension ends it.
    ops.engine_start()
    process = control._process
assert not process.alive
print("DONE")
