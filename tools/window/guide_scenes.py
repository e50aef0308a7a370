"""The steps that show the extension for the pictures of docs/guide.md."""

from pathlib import Path

import bpy

MODULE = "bl_ext.user_default.animatic"
PROMPT = "orange boxes, an orange ball and an orange cone on snow at noon"


def steps(driver):
    settings = driver.settings
    preferences_window = driver.tool("preferences_window")
    session = None

    def window_crop(window):
        return (window.x, window.y, window.width, window.height)

    def close_last():
        with bpy.context.temp_override(window=bpy.context.window_manager.windows[-1]):
            bpy.ops.wm.window_close()

    def done(limit_s=400):
        yield from driver.until(lambda: not session.busy(), limit_s, "the job")
        assert session.status().state.value == "done", session.status()

    # install from disk: the menu of Blender's own preferences
    yield from preferences_window.open_window(driver)
    yield from preferences_window.open_install_menu(driver)
    yield from driver.picture("install_from_disk", window_crop(driver.window))
    yield from preferences_window.install_from_disk(driver, Path(settings["zip"]))
    yield from preferences_window.close(driver)

    # the engine and the models, in the extension's preferences
    session = driver.module("ui.session")
    bpy.ops.preferences.addon_show(module=MODULE)
    yield 2.0
    shown = bpy.context.window_manager.windows[-1]
    driver.turn_to("PREFERENCES", "WINDOW", -1)
    yield from driver.move(shown.width // 2, shown.height // 2)
    for _ in range(5):  # past what Blender says of every add-on
        yield from driver.press("WHEELDOWNMOUSE")
    yield from driver.move(60, 60)
    yield from driver.picture("install_engine", window_crop(shown))
    preferences = bpy.context.preferences.addons[MODULE].preferences
    preferences.engine_where = "remote"
    preferences.remote_address = "https://gpu.example.com"
    preferences.remote_token = "0123456789abcdef"
    yield from driver.picture("remote_engine", window_crop(shown))
    preferences.engine_where = "local"
    preferences.engine_python = settings["engine"]
    yield from preferences_window.close(driver)

    # the first video
    bpy.ops.wm.open_mainfile(filepath=settings["blend"])
    yield 1.5
    yield from driver.open_tab()
    mine = bpy.context.scene.animatic
    mine.quality = "draft"
    yield from driver.push("animatic.prompt")
    yield from driver.write("a robot in a forest")
    yield 2.0
    yield from driver.sidebar("words", 330)
    mine.prompt = ""
    yield from driver.push("animatic.prompt")
    yield from driver.write(PROMPT)
    yield from driver.push("bpy.ops.animatic.guide_frames_suggest(", (0.3,))
    yield from driver.move(400, 400)
    yield 1.0
    yield from driver.sidebar("panel")
    yield from driver.picture("window")
    yield from driver.push("bpy.ops.animatic.preview_guides(")
    yield from done()
    yield 2.0
    shown = bpy.context.window_manager.windows[-1]
    assert shown != driver.window, "the contact sheet has a window of its own"
    # the sheet lies across the middle of its window
    band = (shown.x, shown.y + int(shown.height * 0.265), shown.width, int(shown.height * 0.44))
    yield from driver.picture("guides", band)
    close_last()
    yield 1.0
    yield from driver.push("bpy.ops.animatic.generate(")
    yield from driver.move(400, 400)
    yield from driver.until(
        lambda: session.status().phase.startswith("Sampling") and session.status().fraction > 0.5,
        300,
        "sampling",
    )
    yield 1.2
    yield from driver.sidebar("sampling", 610)
    yield from done()

    # a second take, and the strips
    bpy.context.scene.animatic.seed = 2
    with driver.over():
        bpy.ops.animatic.generate("INVOKE_DEFAULT")
    yield from done()
    yield 1.0
    side = driver.region()
    yield from driver.move(side.x + 100, side.y + 400)
    for _ in range(15):
        yield from driver.press("WHEELDOWNMOUSE")
    yield from driver.move(400, 400)
    yield 1.0
    yield from driver.picture("takes", (side.x, side.y, side.width, 420))
    yield from driver.move(side.x + 100, side.y + 400)
    for _ in range(15):
        yield from driver.press("WHEELUPMOUSE")
    lists = driver.module("ui.lists").lists_of(bpy.context.scene)
    driver.tell(takes=len(lists.takes))
    view = driver.area()
    view.type = "SEQUENCE_EDITOR"
    view.spaces.active.view_type = "SEQUENCER_PREVIEW"
    yield 1.0
    with bpy.context.temp_override(
        window=driver.window, area=view, region=driver.region("WINDOW", view)
    ):
        bpy.ops.sequencer.view_all()
    yield 1.0
    yield from driver.picture("strip", (view.x, view.y, view.width, view.height))
    view.type = "VIEW_3D"
    yield 0.5

    # what it looks like when something is wrong
    preferences.engine_python = "/somewhere/python"
    with driver.over():
        bpy.ops.animatic.generate("INVOKE_DEFAULT")
    yield from driver.until(lambda: not session.busy(), 60, "the refusal")
    yield 1.0
    yield from driver.sidebar("refusal", 330)
