"""What the scripts of this folder share. Each runs as ``python SCRIPT ZIP SCRATCH``."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import addon_utils
import bpy
import numpy

MODULE = "bl_ext.user_default.animatic"
ZIP, SCRATCH = sys.argv[1], Path(sys.argv[2])


# Of the result of the guides task, what is read.
SHOT = {"shot": {"note": "", "name": "Scene"}, "keyframes": [], "guides": []} | {
    "warnings": [],
    "depth": None,
}


def install() -> None:
    """Install the zip, not enabled yet."""
    done = bpy.ops.extensions.package_install_files(
        filepath=ZIP, repo="user_default", enable_on_install=False
    )
    assert done == {"FINISHED"}


def enable() -> None:
    """Enable it as the preferences do."""
    assert addon_utils.enable(MODULE, default_set=True) is not None


def disable() -> None:
    """Disable it as the preferences do."""
    addon_utils.disable(MODULE, default_set=True)


def module(name: str) -> ModuleType:
    """A module of the enabled extension, below ``blender_addon``."""
    return importlib.import_module(f"{MODULE}.blender_addon.{name}")


def fake_generation() -> list[tuple]:
    """Let FakeGeneration stand in for the real one, and strips only be noted; returns the notes."""
    placed: list[tuple] = []

    def place_takes(scene, shot, takes, as_movies):
        placed.append((scene.name, takes))
        return scene, [SimpleNamespace() for _ in takes]

    module("ui.runs").Generation = FakeGeneration
    module("ui.conclude").place_takes = place_takes
    return placed


def begin() -> FakeGeneration | None:
    """Press Generate as the panel does, which returns at once; returns the fake, if any."""
    scene = bpy.context.scene
    target = module("ui.asked").current_target(scene)
    module("ui.session").start(module("ui.runs").plan_takes(bpy.context, [target]))
    return FakeGeneration.made[-1] if FakeGeneration.made else None


@contextmanager
def extension() -> Iterator[ModuleType]:
    """Have it enabled; yields its session module. Some Blenders hang at exit without the end."""
    install()
    enable()
    try:
        yield module("ui.session")
    finally:
        disable()


def lists(scene: bpy.types.Scene | None = None):
    """The lists that the panel shows in ``scene``, or in the open one."""
    return module("ui.lists").lists_of(scene or bpy.context.scene)


def save_scene(name: str) -> Path:
    """Fill the open file with a keyed camera and a cube, and save it."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene = bpy.context.scene
    scene.frame_end = 24
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.camera_add(location=(0, -8, 2), rotation=(1.35, 0, 0))
    scene.camera = bpy.context.object
    scene.camera.keyframe_insert("location", frame=1)
    path = SCRATCH / name
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    scene.animatic.prompt = "a red cube on sand"
    return path


def refusal(name: str = "generate", **options: object) -> str:
    """Press a button of ours, which must be refused; return the words."""
    try:
        getattr(bpy.ops.animatic, name)(**options)
    except RuntimeError as error:
        return str(error)
    raise AssertionError("it was not refused")


class FakeGeneration:
    """Stands in for link.generate.Generation: waits until it is let go or cancelled."""

    made: list[FakeGeneration] = []
    fails_with: Exception | None = None

    def __init__(self, settings, host) -> None:
        self.settings, self.host = settings, host
        self.let_go, self.cancelled = threading.Event(), threading.Event()
        FakeGeneration.made.append(self)

    def cancel(self) -> None:
        self.cancelled.set()
        self.let_go.set()

    def run(self, on_event):
        generate, errors = module("link.generate"), module("errors")
        self.saw_copy = self.settings.blend.is_file()
        on_event({"phase": "sampling", "done": 3, "of": 20, "text": ""})
        assert self.let_go.wait(30)
        if self.cancelled.is_set():
            raise errors.Cancelled
        if self.fails_with is not None:
            raise self.fails_with
        if self.settings.guides_only:
            guides = self.settings.out / "guides"
            guides.mkdir(parents=True)
            module("shot.png").write_png(
                guides / "contact_sheet.png", numpy.zeros((8, 8, 3), numpy.uint8)
            )
        return generate.Outcome(self.settings.out, shot=SHOT, takes=[{}])
