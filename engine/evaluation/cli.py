"""Command line of the evaluation, in the engine's environment (see ``animatic evaluate``)."""

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import content_hash, read_info
from ..device import default_plan
from ..errors import EngineError
from ..training.description import describe
from .evaluate import GUIDE_WORDS, GUIDED, STANDARD, evaluate
from .report import markdown
from .subjects import DRAFT
from .truth import BLENDER_SEED, blender_clips, held_out_blockouts, ray_cast_clips


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options; numbers that were left out are those of a quick or of a whole run."""
    parser = argparse.ArgumentParser(prog="animatic evaluate", description=__doc__)
    add = parser.add_argument
    # Three are for the side that has Blender, which gives them: the folder, the file to describe
    # the scenes for Blender in (and stop), and where these lie, rendered.
    add("checkpoint", type=Path, help=argparse.SUPPRESS)
    add("--describe", type=Path, help=argparse.SUPPRESS)
    add("--blender-guides", type=Path, help=argparse.SUPPRESS)
    add("--quick", action="store_true", help="depth only, with no, two and all keyframes")
    add(
        "--quality",
        choices=[STANDARD, DRAFT, GUIDED],
        help="how clips are sampled, where there are weights for few steps (standard; quick: "
        "draft); guided is without them",
    )
    add("--clips", type=int, help="clips with guides of the ray caster (24; quick: 6)")
    add("--blender-clips", type=int, help="clips with guides of Blender (24; quick: 4)")
    add("--guides", nargs="+", choices=GUIDE_WORDS, default=list(GUIDE_WORDS), help="only theirs")
    add("--keyframes", nargs="+", type=int, default=[], help="only with so many, e.g. 2 16")
    add("--steps", type=int, help="of guided sampling (the checkpoint's; quick: 8)")
    add(
        "--deflicker",
        action=argparse.BooleanOptionalAction,
        help="steady the frames along the true motion (as the model's card says; not at draft)",
    )
    add("--seed", type=int, default=1)
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    add("--out", type=Path, default=Path("out/evaluate"), help="folder of the picture grids")
    options = parser.parse_args(arguments)
    defaults = (6, 4) if options.quick else (24, 24)
    options.quality = options.quality or (DRAFT if options.quick else STANDARD)
    options.clips = defaults[0] if options.clips is None else options.clips
    options.blender_clips = defaults[1] if options.blender_clips is None else options.blender_clips
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write figures and pictures; 0 when it worked, else 1."""
    options = parse(arguments)
    try:
        _run(options)
    except (EngineError, FileNotFoundError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    info = read_info(options.checkpoint)
    side, frames = info.native["width"], info.native["frames"]
    if options.describe:
        wanted = options.blender_clips
        scenes: dict[str, Any] = {"clips": []}
        if wanted:
            scenes = describe(held_out_blockouts(wanted, frames, BLENDER_SEED))
        options.describe.write_text(json.dumps(scenes), encoding="utf-8")
        return
    steps = options.steps or (8 if options.quick else info.defaults["steps"])
    clips = ray_cast_clips(options.clips, frames, side, info.lineart_width)
    counts = {"ray caster": len(clips)}
    if options.blender_guides:
        clips += blender_clips(
            options.blender_clips, frames, side, info.lineart_width, options.blender_guides
        )
        counts["Blender"] = options.blender_clips
    options.out.mkdir(parents=True, exist_ok=True)

    def progress(what: str, done: int, of: int) -> None:
        print(f"\r{what}: clip {done} of {of}   ", end="\n" if done == of else "", flush=True)

    rows, estimator = evaluate(
        options.checkpoint,
        clips,
        options.quick,
        options.quality,
        steps,
        options.seed,
        options.guides,
        options.keyframes,
        options.deflicker,
        options.out,
        progress,
    )
    cut = " --quick" if options.quick else ""
    if len(options.guides) < len(GUIDE_WORDS):
        cut += f" --guides {' '.join(options.guides)}"
    if options.keyframes:
        cut += f" --keyframes {' '.join(map(str, options.keyframes))}"
    if options.deflicker is not None:
        cut += " --deflicker" if options.deflicker else " --no-deflicker"
    report = {
        "command": f"animatic evaluate --model {info.name}{cut} --quality {options.quality} "
        f"--clips {options.clips} --blender-clips {counts.get('Blender', 0)}",
        "checkpoint": info.name,
        "sha256": content_hash(info),
        "estimator": estimator,
        "seed": options.seed,
        "clips": counts,
        "machine": _machine(),
        "rows": rows,
    }
    table = markdown(report)
    (options.out / "figures.md").write_text(table, encoding="utf-8")
    (options.json or options.out / "figures.json").write_text(
        json.dumps(report, indent=1) + "\n", encoding="utf-8"
    )
    print(f"\n{table}\nFigures and pictures of every clip are in {options.out}.")


def _machine() -> str:
    plan = default_plan(None)
    kind = plan.torch_device.type
    name = f"{plan.threads} CPU threads ({platform.machine()})"
    if kind == "cuda":
        name = torch.cuda.get_device_name(plan.torch_device)
    elif kind != "cpu":
        name = f"{kind} and {name}"
    return f"{name}, {plan.dtype}"


if __name__ == "__main__":
    raise SystemExit(main())
