"""`blender -b SCENE.blend -c animatic`: the registered function, with and without an open file."""

import contextlib
import io
import json
import sys

import bpy
import harness

registered = {}
bpy.utils.register_cli_command = lambda name, execute: registered.setdefault(name, execute)
bpy.utils.unregister_cli_command = lambda execute: registered.clear()
sys.modules["tqdm"] = None  # as in Blender's own Python


def run(*arguments: object) -> tuple[int, str, str]:
    """The command's return value and its words: standard output, standard error."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = registered["animatic"](list(map(str, arguments)))
    return code, out.getvalue(), err.getvalue()


with harness.extension():
    code, out, _ = run("--help")
    assert code == 0
    assert "blender -b SCENE.blend -c animatic" in out
    assert "--keyframes" in out
    code, _, err = run("--prompt", "a cube")
    assert code == 2, "no file is open"
    assert "No file is open" in err

    path = harness.save_scene("shot.blend")
    other = bpy.data.scenes.new("Other")
    bpy.ops.wm.save_mainfile()
    before = path.read_bytes()
    assert run("--prompt")[0] == 2
    code, _, err = run()
    assert (code, "The prompt is empty" in err) == (1, True), err
    out_folder = harness.SCRATCH / "made"
    code, out, err = run("--guides-only", "--json", "--keyframes", "1", "--out", out_folder)
    assert code == 0, err
    assert json.loads(out)["shot"]["name"] == "Scene"
    assert err.splitlines()[0].split() == ["guides", "0", "of", "1"]
    assert (out_folder / "guides" / "depth_0001.png").is_file()
    assert path.read_bytes() == before

    # the tools are those of the preferences unless an option names them
    made = []
    cli = sys.modules[f"{harness.MODULE}.cli"]
    errors = harness.module("errors")

    class Stops:
        def __init__(self, settings, host) -> None:
            made.append((settings, host))

        def cancel(self) -> None:
            pass

        def run(self, on_event):
            raise errors.Cancelled

    cli.Generation = Stops
    preferences = bpy.context.preferences.addons[harness.MODULE].preferences
    preferences.engine_python = sys.executable
    assert run("--prompt", "a cube", "--models", harness.SCRATCH)[0] == 130
    assert run("--prompt", "a cube", "--engine-python", "/other", "--scene", "Other")[0] == 130
    (first, tools), (second, others) = made
    assert (first.blend, first.scene, first.prompt) == (path, "Scene", "a cube")
    assert second.scene == "Other"
    assert str(tools.engine_python) == sys.executable
    assert tools.models[0] == harness.SCRATCH
    assert len(tools.models) == 1 + len(others.models)
    assert str(others.engine_python) == "/other"
assert not registered, "the command was taken back"
print("DONE")
