"""Takes the pictures of docs/guide.md from the real window of a Blender.

    ANIMATIC_BLENDER=/path/to/blender .venv/host/bin/python tools/guide_pictures.py [--zip ZIP]

Needs Xvfb, Pillow (in the engine's environment, which makes the files small) and some minutes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import build_extension
from animatic.tools.window.start import NoWindow, Tools, drive

ROOT = build_extension.ROOT
ENGINE_PYTHON = ROOT / ".venv" / "engine" / "bin" / "python"
PICTURES = ROOT / "docs" / "guide"
LIMIT_KB = 200
SIZE = (1600, 1300)
# Blender's own surfaces have few colours; what a palette loses is not seen.
SHRINK = """
import sys
from PIL import Image
for path in sys.argv[1:]:
    picture = Image.open(path).convert("RGB")
    small = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
"""


def main() -> int:
    """Build the extension, play the scenes, keep the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--zip", type=Path, help="the extension (default: built now)")
    options = parser.parse_args()
    try:
        tools = Tools.find()
    except NoWindow as missing:
        print(missing, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="guide-") as scratch:
        folder = Path(scratch)
        settings = {
            "zip": str(options.zip or build_extension.build(folder)),
            "engine": str(ENGINE_PYTHON),
            "blend": str(shutil.copy(ROOT / "examples" / "orbit.blend", folder)),
        }
        script = ROOT / "tools" / "window" / "guide_scenes.py"
        drive(tools, script, folder / "pictures", settings, limit_s=1500, size=SIZE)
        PICTURES.mkdir(exist_ok=True)
        made = [
            Path(shutil.copy(picture, PICTURES))
            for picture in sorted((folder / "pictures").glob("*.png"))
        ]
    subprocess.run([str(ENGINE_PYTHON), "-c", SHRINK, *map(str, made)], check=True)
    for picture in made:
        size = picture.stat().st_size / 1000
        print(f"{picture.relative_to(ROOT)}: {size:.0f} kB")
        if size > LIMIT_KB:
            print(f"{picture.name} is larger than {LIMIT_KB} kB.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
