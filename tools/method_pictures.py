"""Makes the pictures of docs/methods.md: one for each paper, by runs of the command line.

    .venv/engine/bin/python tools/method_pictures.py [PICTURE ...]

Each row is a run, named by the options that it has beside those of all. A bar under a frame says
that a guide holds it.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
SCENE, RUNS, PICTURES = ROOT / "examples/orbit.blend", ROOT / "out/methods", ROOT / "docs/methods"
PROMPT = "orange boxes, an orange ball and an orange cone on snow at noon"
SUNSET = "purple boxes, a purple ball and a purple cone on sand at sunset"
# For rows that take their look from a frame of the README's videos.
BARE = "boxes, a ball and a cone"

# Where a row names no keyframes, the guide is on every frame, as the model's card says.
ROWS = {
    "sparsectrl": [
        "--keyframes 1",
        "--keyframes 1,48",
        "--keyframes every:6",
        "--guide lineart",
        "--guide render --keyframes 1",
        "--guide render --keyframes 1,48",
    ],
    "animatediff": ["--strength 0", "--quality standard", "--quality draft", "--guidance 2"],
    "gen1": [
        *(f"--temporal {weight} --guidance 2" for weight in (0, 1, 1.5)),
        *(f"--blur {level}" for level in (2, 4)),
    ],
    "make_your_video": ["--keyframes all", "--keyframes all --causal 8"],
    "animatezero": [
        "--first-picture generate:3",
        "--first-picture generate:3 --first-picture-alone",
        "--window-attention",
    ],
    "moonshot": [
        f'--prompt "{BARE}" --reference {run}/frames/0001.png' for run in ("out/sunset", "out/demo")
    ],
    "beyond": [
        f'--prompt-at "48:{SUNSET}"',
        "--schedule dpm --steps 8",
        "--upscale 1.5",
        "--loop",
    ],
}
COLUMNS, SIDE, GAP, TITLE, BAR = 8, 128, 4, 20, 4
PAPER, INK, BLUE = (255, 255, 255), (40, 40, 40), (60, 110, 220)


def main() -> int:
    """Make the pictures that are named, or all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or ROWS:
        rows = [(options, run(options)) for options in ROWS[name]]
        draw(rows).save(PICTURES / f"{name}.jpg", quality=88)
        print(PICTURES / f"{name}.jpg", flush=True)
    return 0


def run(options: str) -> Path:
    """Render with ``options``; return the run's folder."""
    out = RUNS / "".join(c if c.isalnum() else "_" for c in options)
    command = [str(ROOT / ".venv/host/bin/animatic"), "render", str(SCENE), "--prompt", PROMPT]
    words = shlex.split(options)
    subprocess.run(
        [*command, *words, "--out", str(out), "--force", "--quiet"],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    return out


def draw(rows: list[tuple[str, Path]]) -> Image.Image:
    """One row of frames for each run, under its options."""
    step = TITLE + SIDE + BAR + 2 * GAP
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) - GAP, len(rows) * step), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for number, (options, folder) in enumerate(rows):
        top = number * step
        pen.text((0, top), options, INK, font)
        frames = sorted((folder / "frames").glob("*.png"))
        keyed = {int(guide.stem[-4:]) for guide in (folder / "guides").glob("*_[0-9]*.png")}
        for column in range(COLUMNS):
            shown = round(column * (len(frames) - 1) / (COLUMNS - 1))
            left, below = column * (SIDE + GAP), top + TITLE + SIDE
            frame = Image.open(frames[shown]).convert("RGB").resize((SIDE, SIDE))
            sheet.paste(frame, (left, top + TITLE))
            if shown + 1 in keyed:
                pen.rectangle((left, below + 1, left + SIDE - 1, below + BAR), BLUE)
    return sheet


if __name__ == "__main__":
    sys.exit(main())
