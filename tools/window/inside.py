"""Inside the window's Blender: mouse, keyboard, looking up buttons by what they do, pictures.

Blender runs this file by ``--python``. It runs the steps of the script that the surroundings name,
one each time its timer fires: a step yields the seconds until the next one.
"""

import importlib
import importlib.util
import json
import os
import runpy
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import bpy
import numpy

ROOT = Path(__file__).resolve().parents[2]
MODULE = "bl_ext.user_default.animatic"
Steps = Iterator[float]
# The surfaces of panels and sub-panels in Blender's own dark theme.
PANEL_GRAY, PANEL_RANGE = 58, 6


class Driver:
    """What a script may do. Methods that take time are generators: ``yield from`` them."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.folder = Path(settings["folder"])
        self.turn_to()

    # what is there

    def turn_to(self, area: str = "VIEW_3D", region: str = "UI", window: int = 0) -> None:
        """Where buttons are looked for from now on: by default the first window's sidebar."""
        self.area_kind, self.region_kind, self.window_index = area, region, window

    @property
    def window(self) -> bpy.types.Window:
        """The window that mouse and keyboard go to: the first one, unless chosen otherwise."""
        return bpy.context.window_manager.windows[self.window_index]

    def area(self, kind: str = "") -> bpy.types.Area:
        """The first area of a kind, by default the one that was turned to."""
        areas = self.window.screen.areas
        return next(area for area in areas if area.type == (kind or self.area_kind))

    def region(self, kind: str = "", area: bpy.types.Area | None = None) -> bpy.types.Region:
        """The region of a kind, by default the one that was turned to."""
        regions = (area or self.area()).regions
        return next(region for region in regions if region.type == (kind or self.region_kind))

    def module(self, name: str) -> ModuleType:
        """A module of the extension, below ``blender_addon``."""
        return sys.modules[f"{MODULE}.blender_addon.{name}"]

    def tool(self, name: str) -> ModuleType:
        """A module beside this one, with steps for a window of Blender's."""
        return repository_module(f"tools.window.{name}")

    def over(self, region: bpy.types.Region | None = None):
        """The context of a region, for operators."""
        return bpy.context.temp_override(
            window=self.window, area=self.area(), region=region or self.region()
        )

    # mouse and keyboard

    def event(self, kind: str, value: str, x: int, y: int, **more: object) -> None:
        """One event at a place of the window, from its lower left corner."""
        self.window.event_simulate(type=kind, value=value, x=x, y=y, **more)
        self.at = (x, y)

    def move(self, x: int, y: int, rest: float = 0.25) -> Steps:
        """Move the mouse there and let it rest: a button takes a press only when it is lit."""
        self.event("MOUSEMOVE", "NOTHING", x - 1, y)
        yield 0.05
        self.event("MOUSEMOVE", "NOTHING", x, y)
        yield rest

    def press(self, kind: str = "LEFTMOUSE", **more: object) -> Steps:
        """Press and release a key, or a button of the mouse, where the mouse is."""
        self.event(kind, "PRESS", *self.at, **more)
        yield 0.15
        self.event(kind, "RELEASE", *self.at, **more)
        yield 0.3

    def click(self, x: int, y: int) -> Steps:
        """Click there."""
        yield from self.move(x, y)
        yield from self.press()

    def write(self, text: str) -> Steps:
        """Type into the field that is being edited, and confirm."""
        yield from self.press("A", ctrl=True)
        for sign in text:
            # A field takes the character itself: which other key writes it is all the same.
            kind = sign.upper() if sign.isascii() and sign.isalpha() else "SPACE"
            self.event(kind, "PRESS", *self.at, unicode=sign)
            yield 0.02
            self.event(kind, "RELEASE", *self.at)
            yield 0.02
        yield from self.press("RET")

    # the sidebar

    def open_tab(self, name: str = "Animatic") -> Steps:
        """Open the sidebar of the 3D View and click the tab of this name."""
        self.area().spaces.active.show_region_ui = True
        yield 1.0
        region = self.region()
        x = region.x + region.width - 9
        for y in range(region.y + region.height - 30, region.y + 30, -12):
            yield from self.click(x, y)
            if self.region().active_panel_category == name:
                yield 0.5
                return
        raise AssertionError(f"The sidebar has no tab {name}.")

    def under_mouse(self) -> str:
        """What the lit button does: an operator's name or a property's path, "" without one."""
        manager = bpy.context.window_manager
        for copy in (bpy.ops.ui.copy_python_command_button, bpy.ops.ui.copy_data_path_button):
            manager.clipboard = ""
            with self.over():
                if copy.poll():
                    copy()
            if manager.clipboard:
                return manager.clipboard
        return ""

    def find(self, what: str, shares: tuple[float, ...] = (0.5, 0.8)) -> Iterator[float]:
        """Move the mouse over the button that does ``what``; its region is scrolled for it.

        ``what`` begins the operator's call, as ``bpy.ops.animatic.generate(`` does, or is the
        property's path, as ``animatic.prompt``. ``shares`` says where to look across the width.
        """
        seen: list[str] = []
        for share in shares:
            for _ in range(4):
                region = self.region()
                x = int(region.x + (region.width - 20) * share)
                for y in range(region.y + region.height - 8, region.y + 6, -9):
                    yield from self.move(x, y, rest=0.06)
                    found = self.under_mouse()
                    seen.append(found)
                    if found == what or (what.startswith("bpy.ops.") and found.startswith(what)):
                        yield 0.25
                        return
                for _ in range(6):
                    yield from self.press("WHEELDOWNMOUSE")
            for _ in range(30):
                yield from self.press("WHEELUPMOUSE")
        raise AssertionError(f"No button for {what}; there are {sorted(set(seen))}.")

    def push(self, what: str, shares: tuple[float, ...] = (0.5, 0.8)) -> Steps:
        """Find a button and click it; ``shares`` as in ``find``."""
        yield from self.find(what, shares)
        yield from self.press()
        yield 0.4

    # waiting and showing

    def until(self, holds: Callable[[], object], limit_s: float, what: str) -> Steps:
        """Wait until something holds."""
        ends = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < ends, f"not within {limit_s:g} s: {what}"
            yield 0.1

    def picture(self, name: str, crop: tuple[int, int, int, int] | None = None) -> Steps:
        """Save what the screen shows; ``crop`` is x, y, width, height from the lower left."""
        for window in bpy.context.window_manager.windows:
            for area in window.screen.areas:
                area.tag_redraw()
        yield 0.6
        self.save(name, crop)

    def save(self, name: str, crop: tuple[int, int, int, int] | None = None) -> None:
        """The same at once, without drawing anew."""
        pixels = read_screen(Path(self.settings["screen"]))
        if crop is not None:
            x, y, width, height = crop
            top = pixels.shape[0] - y - height
            pixels = pixels[max(top, 0) : top + height, max(x, 0) : x + width]
        write_png = repository_module("blender_addon.shot.png").write_png
        write_png(self.folder / f"{name}.png", numpy.ascontiguousarray(pixels))

    def sidebar(self, name: str, most: int = 10_000) -> Steps:
        """Save a picture of the sidebar's upper ``most`` pixels, or to where its panels end."""
        region = self.region()
        yield from self.picture(name, (region.x, region.y, region.width, region.height))
        pixels = read_screen(Path(self.settings["screen"])).astype(int)
        top = pixels.shape[0] - region.y - region.height
        margin = pixels[max(top, 0) : top + region.height, region.x + 12]
        rows = (abs(margin - PANEL_GRAY) <= PANEL_RANGE).all(axis=1).nonzero()[0]
        gaps = (numpy.diff(rows) > 10).nonzero()[0]  # the view behind may have the same gray
        last = rows[gaps[0]] if len(gaps) else rows[-1]
        height = min(int(last) + 8, region.height, most)
        bottom = region.y + region.height - height
        self.save(name, (region.x, bottom, region.width, height))

    def tell(self, **words: object) -> None:
        """Report something to whoever started this."""
        with open(self.settings["report"], "a", encoding="utf-8") as file:
            file.write(json.dumps(words) + "\n")


def read_screen(path: Path) -> numpy.ndarray:
    """What a virtual screen shows: uint8 [H,W,3] of its XWD file (XWDFile.h, version 7)."""
    raw = path.read_bytes()
    header = struct.unpack(">25I", raw[:100])
    width, height, line, colours = header[4], header[5], header[12], header[19]
    begin = header[0] + colours * 12
    rows = numpy.frombuffer(raw, numpy.uint8, line * height, begin).reshape(height, line)
    return rows[:, : width * 4].reshape(height, width, 4)[:, :, 2::-1]


def repository_module(name: str) -> ModuleType:
    """A module of this repository, whatever its folder is called, with no extension installed."""
    if "animatic" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "animatic", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None
        sys.modules["animatic"] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"animatic.{name}")


def main() -> None:
    """Run the script's steps, then quit."""
    driver = Driver(json.loads(os.environ["ANIMATIC_WINDOW"]))
    bpy.context.preferences.view.show_splash = False
    steps = runpy.run_path(driver.settings["script"])["steps"](driver)

    def step() -> float | None:
        try:
            return next(steps)
        except StopIteration:
            driver.tell(done=True)
        except Exception:  # whatever it is, the window must close and the report say it
            driver.tell(failed=traceback.format_exc())
            driver.save("failed")
        bpy.ops.wm.quit_blender()
        return None

    bpy.app.timers.register(step, first_interval=3.0, persistent=True)


if __name__ == "__main__":
    main()
