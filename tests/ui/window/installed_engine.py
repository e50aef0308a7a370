"""The engine installed by the buttons of the preferences, and a video made with it.

Refused while Blender is offline, broken off, installed, used, repaired, removed.
"""

import os
from pathlib import Path

import bpy

LIMIT_S = 1800
PROMPT = "orange boxes and an orange ball on snow at noon"


def steps(driver):
    settings, data = driver.settings, Path(os.environ["ANIMATIC_DATA"])
    window = driver.tool("preferences_window")
    yield from window.open_window(driver)
    yield from window.open_install_menu(driver)
    yield from window.install_from_disk(driver, Path(settings["zip"]))
    preferences_engine = driver.module("ui.preferences_engine")
    control, State = driver.module("ui.preferences").control, preferences_engine.State
    texts, phases = preferences_engine.PHASES, []

    def crop():
        shown = driver.window
        return (shown.x, shown.y, shown.width, shown.height)

    def press(button, share=0.3):
        yield from driver.push(f"bpy.ops.animatic.engine_{button}(", (share,))

    def until_over():
        while control.state is State.INSTALLING:
            phase = control.progress.phase
            if phase and phase not in phases:
                phases.append(phase)
                yield 1.0
                yield from driver.picture(f"phase_{len(phases)}", crop())
            yield 0.2

    def left_over():
        return [each.name for each in data.iterdir() if each.name.startswith("engine.")]

    # Blender is offline: nothing is loaded
    yield from window.show_addon(driver)
    yield from press("install")
    yield from driver.until(lambda: control.state is State.FAILED, 20, "the refusal")
    assert "Allow Online Access" in control.message
    yield from driver.picture("offline", crop())

    # allowed; broken off while libraries are loaded; nothing is left
    yield from window.show_section(driver, "EXTENSIONS")
    yield from driver.push("bpy.ops.extensions.userpref_allow_online(", (0.7,))
    assert bpy.app.online_access
    yield from window.show_section(driver, "ADDONS")
    yield from press("install")
    yield from driver.until(
        lambda: control.progress.phase == texts["torch"] or control.state is not State.INSTALLING,
        LIMIT_S,
        "torch is loaded",
    )
    assert control.state is State.INSTALLING, control.message
    yield 1.0
    yield from press("cancel", 0.98)
    yield from driver.until(lambda: control.state is State.NOT_INSTALLED, 20, "it is broken off")
    assert left_over() == []
    yield from driver.picture("cancelled", crop())

    # again, to the end
    yield from press("install")
    yield from until_over()
    yield 1.0
    yield from driver.picture("installed", crop())
    assert control.state is State.STOPPED, control.message
    assert control.own
    assert phases[-1] == texts["check"], phases
    driver.tell(phases=phases, build=control.note)
    assert "Successfully installed" in (data / "install.log").read_text(encoding="utf-8")
    yield from window.close(driver)

    # a video with that very engine and the model of the zip
    bpy.ops.wm.open_mainfile(filepath=settings["blend"])
    yield 1.5
    yield from driver.open_tab()
    scenes = [each.name for each in bpy.data.scenes]
    bpy.context.scene.animatic.quality = "draft"
    yield from driver.push("animatic.prompt")
    yield from driver.write(PROMPT)
    session = driver.module("ui.session")
    yield from driver.push("bpy.ops.animatic.generate(")
    yield from driver.until(
        lambda: session.status().phase.startswith("Sampling") or not session.busy(), 300, "sampling"
    )
    started = [path.resolve() for path in map(Path, _programs())]
    assert (data / "engine" / "bin" / "python").resolve() in started, started
    yield from driver.until(lambda: not session.busy(), 600, "the take")
    assert session.status().state.value == "done", session.status()
    (edit,) = [each for each in bpy.data.scenes if each.name not in scenes]
    (strip,) = edit.sequence_editor.strips
    view = driver.area()
    view.type = "SEQUENCE_EDITOR"
    view.spaces.active.view_type = "SEQUENCER_PREVIEW"
    yield 1.0
    yield from driver.picture("strip")
    view.type = "VIEW_3D"
    driver.tell(strip=strip.name)

    # repaired: the old one stays until the new one works; removed, asked first
    yield from window.open_window(driver)
    yield from window.show_section(driver, "ADDONS")
    first = (data / "engine" / "animatic-engine.json").stat().st_ino
    yield from press("repair")
    yield from driver.until(lambda: left_over(), 120, "the new one is made beside the old")
    assert control.own
    yield from driver.picture("repair", crop())
    yield from until_over()
    assert control.state is State.STOPPED, control.message
    assert (data / "engine" / "animatic-engine.json").stat().st_ino != first
    yield from press("remove", 0.5)
    yield from driver.picture("remove", crop())
    assert (data / "engine").is_dir(), "it asks first"
    yield from driver.press("RET")
    yield from driver.until(lambda: control.state is State.NOT_INSTALLED, 60, "it is removed")
    assert not (data / "engine").exists()
    assert left_over() == []
    yield from driver.picture("removed", crop())


def _programs():
    """The programs of all processes, as their command lines name them."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield place.read_bytes().split(b"\0")[0].decode(errors="replace")
        except OSError:
            continue  # it has just ended
