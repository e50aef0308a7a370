"""Whether this Blender can render with the graphics card (or Mesa) in background.

Without a usable OpenGL, Workbench and EEVEE kill the process instead of raising an error. So a
process of its own renders one small Workbench picture first; what came of it is remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import bpy

TIMEOUT_S = 60.0
# What decides which OpenGL a process gets.
_ENVIRONMENT = ("DISPLAY", "WAYLAND_DISPLAY", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_PREFIXES = ("LIBGL_", "MESA_", "GALLIUM_", "__GLX_", "__EGL_", "EGL_")


def can_render_with_gl(cache: Path | None = None) -> bool:
    """Say whether Workbench renders here; the first answer is kept in the folder ``cache``.

    ``cache`` defaults to the user's cache folder. Takes some seconds the first time.
    """
    folder = user_cache() if cache is None else cache
    memory = folder / f"gl-{_fingerprint()}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return bool(json.loads(memory.read_text(encoding="utf-8"))["works"])
    works = _probe()
    # A cache that cannot be written costs time, nothing else.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
            json.dump({"works": works, "blender": bpy.app.version_string}, file)
        os.replace(file.name, memory)
    return works


def user_cache() -> Path:
    """Return the folder for what may be lost: the system's cache folder for this user."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "animatic"


def _fingerprint() -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_PREFIXES)
    }
    blender = bpy.app.binary_path or bpy.__file__
    facts = [bpy.app.version_string, blender, sorted(environment.items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _probe() -> bool:
    if bpy.app.binary_path:
        command = [bpy.app.binary_path, "-b", "--factory-startup", "--python", __file__]
    else:
        command = [sys.executable, __file__]
    with tempfile.TemporaryDirectory() as scratch:
        picture = Path(scratch) / "probe.png"
        environment = {**os.environ, "ANIMATIC_GL_PROBE": str(picture)}
        try:
            subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                check=False,  # what counts is whether there is a picture
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return picture.is_file()


def _render_probe(path: str) -> None:
    scene = bpy.context.scene
    camera = bpy.data.objects.new("Probe", bpy.data.cameras.new("Probe"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.render.resolution_x = scene.render.resolution_y = 64
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    _render_probe(os.environ["ANIMATIC_GL_PROBE"])
