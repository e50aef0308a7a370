"""Blender's Preferences by mouse and keyboard: opened, an extension installed from disk, shown.

Every function is a generator of the steps of a script (see ``inside.Driver``) and leaves the driver
turned to the Preferences; ``close`` turns it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import bpy

if TYPE_CHECKING:
    from .inside import Driver

MODULE = "bl_ext.user_default.animatic"
ROW = 22  # pixels from one file to the next in the file browser's list
Steps = Iterator[float]


def open_window(driver: Driver) -> Steps:
    """Edit > Preferences, in the menu at the top of the first window."""
    driver.turn_to()
    yield from driver.click(79, driver.window.height - 13)
    yield 0.3
    yield from driver.press("P")  # the underlined letter of the menu's last line
    manager = bpy.context.window_manager
    yield from driver.until(lambda: len(manager.windows) > 1, 20, "the Preferences")
    driver.turn_to("PREFERENCES", "WINDOW", -1)
    yield 1.0


def show_section(driver: Driver, name: str) -> Steps:
    """Click down the sections at the left until the one of this name is shown."""
    for y in range(driver.window.height - 20, 40, -12):
        yield from driver.click(90, y)
        if bpy.context.preferences.active_section == name:
            yield 0.7
            return
    raise AssertionError(f"The Preferences have no section {name}.")


def open_install_menu(driver: Driver) -> Steps:
    """Get Extensions, and the menu that holds Install from Disk."""
    yield from show_section(driver, "EXTENSIONS")
    yield from driver.click(driver.window.width - 19, driver.window.height - 19)
    yield 0.5


def install_from_disk(driver: Driver, file: Path, picture: str = "") -> Steps:
    """Install from Disk in the menu that is open, and in the file browser the zip.

    ``picture`` names one of the file browser, with the zip chosen.
    """
    yield from driver.press("F")  # the underlined letter of Install from Disk
    manager = bpy.context.window_manager
    yield from driver.until(lambda: len(manager.windows) > 2, 20, "the file browser")
    driver.turn_to("FILE_BROWSER", "WINDOW", -1)
    yield 1.0
    browser = driver.area()
    field = driver.region("UI", browser)
    yield from driver.click(field.x + field.width // 2 - 80, field.y + field.height // 2)
    yield from driver.write(str(file.parent))
    yield 1.0
    files = driver.region("WINDOW", browser)
    yield from driver.click(files.x + 60, files.y + 20)  # the first one only leaves the field
    for y in range(files.y + files.height - 38, files.y, -ROW):
        yield from driver.click(files.x + 60, y)
        if browser.spaces.active.params.filename == file.name:
            break
    else:
        raise AssertionError(f"{file} is not in the file browser.")
    if picture:
        shown = driver.window
        yield from driver.picture(picture, (shown.x, shown.y, shown.width, shown.height))
    buttons = driver.region("EXECUTE", browser)
    yield from driver.click(buttons.x + buttons.width - 70, buttons.y + buttons.height // 2)
    driver.turn_to("PREFERENCES", "WINDOW", -1)
    addons = bpy.context.preferences.addons
    yield from driver.until(lambda: MODULE in addons, 60, "the extension is installed")
    yield 1.0


def show_addon(driver: Driver) -> Steps:
    """Add-ons, with the extension's own preferences unfolded."""
    yield from show_section(driver, "ADDONS")
    yield from driver.push(f'bpy.ops.preferences.addon_expand(module="{MODULE}")', (0.03,))
    yield 0.5


def close(driver: Driver) -> Steps:
    """Close the Preferences; the driver goes back to the sidebar of the first window."""
    with bpy.context.temp_override(window=driver.window):
        bpy.ops.wm.window_close()
    driver.turn_to()
    yield 0.7
