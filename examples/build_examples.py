"""Build the example .blend files.

    python examples/build_examples.py [--out FOLDER] [--only NAME] [--preview FOLDER]

Run it with the bpy module of the oldest Blender that the extension supports: a newer Blender opens
an older file, not the other way round. ``--preview`` also renders the first, middle and last frame
of each scene, small, to look at.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import bpy
from kit import look_through_camera
from scenes import SCENES

OLDEST = (4, 5)


def save(name: str, out: Path) -> Path:
    """Save the open scene compressed as ``out/name.blend``."""
    look_through_camera()
    target = out / f"{name}.blend"
    # A .blend remembers where it was saved; a neutral place keeps the builder's folders out of it.
    with tempfile.TemporaryDirectory(prefix="animatic-") as scratch:
        saved = Path(scratch) / target.name
        bpy.ops.wm.save_as_mainfile(filepath=str(saved), compress=True)
        shutil.move(saved, target)
    return target


def preview(name: str, folder: Path) -> None:
    """Render the first, middle and last frame at half the film size."""
    scene = bpy.context.scene
    scene.render.resolution_percentage = 50
    scene.cycles.samples = 16
    for frame in (scene.frame_start, (scene.frame_start + scene.frame_end) // 2, scene.frame_end):
        scene.frame_set(frame)
        for marker in sorted(scene.timeline_markers, key=lambda marker: marker.frame):
            if marker.frame <= frame and marker.camera is not None:
                scene.camera = marker.camera
        scene.render.filepath = str(folder / f"{name}_{frame:04d}.png")
        bpy.ops.render.render(write_still=True)


def main() -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description="Build the example scenes.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--only", choices=sorted(SCENES))
    parser.add_argument("--preview", type=Path, help="also render three small frames of each here")
    options = parser.parse_args()
    if bpy.app.version[:2] != OLDEST:
        sys.exit(
            f"This is Blender {bpy.app.version_string}; build the examples with Blender "
            f"{OLDEST[0]}.{OLDEST[1]}, so that every supported Blender opens them."
        )
    options.out.mkdir(parents=True, exist_ok=True)
    for name, build in SCENES.items():
        if options.only not in (None, name):
            continue
        build()
        made = save(name, options.out)
        print(f"{made} ({made.stat().st_size / 1000:.0f} kB)")
        if options.preview is not None:
            preview(name, options.preview)


if __name__ == "__main__":
    main()
