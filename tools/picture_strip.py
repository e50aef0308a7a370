"""Draws one run as a picture: its guides above, the frames of the video below.

    .venv/engine/bin/python tools/picture_strip.py out/demo docs/demo.png [--columns 8]

Each guide stands above the frame that it holds; a frame without one is held by no guide.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

GAP, PAPER, EMPTY = 4, (255, 255, 255), (236, 236, 236)


def main() -> int:
    """Read a run's folder and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a folder that `animatic render` made")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--columns", type=int, default=8, help="frames to show (default: 8)")
    options = parser.parse_args()
    # A guide bears the number of the frame that it holds, counted from 1.
    guides = sorted((options.run / "guides").glob("*_[0-9][0-9][0-9][0-9].png"))
    by_frame = {int(guide.stem[-4:]) - 1: guide for guide in guides}
    frames = sorted((options.run / "frames").glob("*.png"))
    picture = draw(frames, by_frame, shown_frames(len(frames), set(by_frame), options.columns))
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    picture.save(options.picture, optimize=True)
    print(options.picture)
    return 0


def shown_frames(count: int, keyed: set[int], columns: int) -> list[int]:
    """Choose ``columns`` clip frames: the keyed ones, then those that fill the largest gaps.

    Where more are keyed than are shown, the choice is spread over all of them.
    """
    ordered = sorted(keyed) or [0]
    if len(ordered) > columns:
        last = len(ordered) - 1
        return [ordered[round(column * last / (columns - 1))] for column in range(columns)]
    shown = ordered
    while len(shown) < min(columns, count):
        rest = (k for k in range(count) if k not in shown)
        shown.append(max(rest, key=lambda k: (min(abs(k - s) for s in shown), -k)))
    return sorted(shown)


def draw(frames: list[Path], guides: dict[int, Path], shown: list[int]) -> Image.Image:
    """Return the picture: two rows, one column for each frame in ``shown``."""
    size = Image.open(frames[0]).size
    step_x, step_y = size[0] + GAP, size[1] + GAP
    picture = Image.new("RGB", (len(shown) * step_x - GAP, 2 * step_y - GAP), PAPER)
    for column, k in enumerate(shown):
        guide = Image.new("RGB", size, EMPTY)
        if k in guides:
            guide = eight_bit(Image.open(guides[k]))
        picture.paste(guide, (column * step_x, 0))
        picture.paste(Image.open(frames[k]).convert("RGB"), (column * step_x, step_y))
    return picture


def eight_bit(guide: Image.Image) -> Image.Image:
    """Return a guide as RGB; depth has 16 bits, of which a screen shows the upper eight."""
    if guide.mode.startswith("I"):
        guide = guide.point(lambda code: code / 256).convert("L")
    return guide.convert("RGB")


if __name__ == "__main__":
    sys.exit(main())
