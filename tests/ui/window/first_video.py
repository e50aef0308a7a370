"""From install-from-disk to a strip in the sequencer, with the mouse and the keyboard."""

from pathlib import Path

import bpy

PROMPT = "a street of orange and blue buildings, sunset"


def steps(driver):
    settings = driver.settings
    preferences_window = driver.tool("preferences_window")
    yield from preferences_window.open_window(driver)
    yield from preferences_window.open_install_menu(driver)
    yield from preferences_window.install_from_disk(driver, Path(settings["zip"]), "0_browser")
    yield from driver.picture("1_installed")
    addon = bpy.context.preferences.addons[preferences_window.MODULE]
    addon.preferences.engine_python = settings["engine"]
    yield from preferences_window.close(driver)

    bpy.ops.wm.open_mainfile(filepath=settings["blend"])
    yield 1.5
    assert bpy.data.filepath == settings["blend"]
    yield from driver.open_tab()
    yield from driver.picture("2_tab")

    # the prompt, typed; undone; typed again
    scene = bpy.context.scene
    scene.animatic.model = settings["model"]
    scene.animatic.quality = "draft"
    yield from driver.push("animatic.prompt")
    yield from driver.write(PROMPT)
    assert bpy.context.scene.animatic.prompt == PROMPT, bpy.context.scene.animatic.prompt
    yield from driver.picture("3_prompt")

    session = driver.module("ui.session")
    scenes = [each.name for each in bpy.data.scenes]
    yield from driver.push("bpy.ops.animatic.generate(")
    assert session.busy(), session.status()
    yield from driver.until(lambda: session.status().phase, 60, "a phase is shown")
    phases = set()

    def over() -> bool:
        phases.add(session.status().phase.split(" ")[0])
        return not session.busy()

    yield from driver.until(
        lambda: over() or session.status().phase.startswith("Sampling"), 180, "sampling"
    )
    yield 1.0  # the panel unfolds
    yield from driver.picture("4_sampling")
    yield from driver.until(over, 300, "the take")
    status = session.status()
    assert status.state.value == "done", status
    assert "Sampling" in phases, phases
    yield from driver.picture("5_done")

    # the strip, in the edit scene, on the frames of the shot
    (edit,) = [each for each in bpy.data.scenes if each.name not in scenes]
    (strip,) = edit.sequence_editor.strips
    shot = bpy.data.scenes[scenes[0]]
    assert len(strip.elements) == shot.frame_end - shot.frame_start + 1
    assert (strip.left_handle, strip.mute) == (shot.frame_start, False)
    assert driver.window.scene is shot
    view = driver.area()
    view.type = "SEQUENCE_EDITOR"
    view.spaces.active.view_type = "SEQUENCER_PREVIEW"
    yield 1.0
    yield from driver.picture("6_strip")
    driver.tell(strip=strip.name, takes=str(status.folder))
