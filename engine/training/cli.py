"""Command line of the training: one stage after another, each resumable.

animatic train STAGE --folder train --minutes 30
"""

import argparse
import json
from pathlib import Path

import torch

from .architecture import SIZES
from .train import STAGES, Run, export, measure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "stage", choices=[*STAGES, "measure", "export"], help="what to do, in this order"
    )
    parser.add_argument("--folder", type=Path, default=Path("train"), help="where all of it lives")
    parser.add_argument("--size", choices=list(SIZES), default="mini", help="the model's size")
    parser.add_argument("--minutes", type=float, default=30.0, help="time budget of the stage")
    parser.add_argument("--steps", type=int, help="stop the stage after so many steps at most")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: as torch likes)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stills", type=int, default=60, help="shards of 256 stills to render")
    parser.add_argument("--clips", type=int, default=40, help="shards of 16 clips to render")
    parser.add_argument("--batch", type=int, help="instead of the stage's own batch size")
    parser.add_argument("--learning-rate", type=float, help="instead of the stage's own")
    parser.add_argument("--target", type=Path, help="export: the checkpoint folder to write")
    parser.add_argument("--guidance", type=float, default=3.0, help="measure, export: guidance")


def main(options: argparse.Namespace) -> int:
    """Run what was asked for; 0 when it worked, 2 when something is missing."""
    if options.threads:
        torch.set_num_threads(options.threads)
    if not torch.cuda.is_available():
        # Fused attention is quick forwards, but its way back costs a sixth of a step on a CPU.
        torch.backends.cuda.enable_flash_sdp(False)
    run = Run(
        folder=options.folder,
        size=SIZES[options.size],
        minutes=options.minutes,
        seed=options.seed,
        stills=options.stills,
        clips=options.clips,
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
    )
    try:
        if options.stage == "export":
            if options.target is None:
                print("Name the checkpoint folder to write with --target.")
                return 2
            export(run, options.target, options.guidance)
        elif options.stage == "measure":
            print(json.dumps(measure(run, options.guidance), indent=2))
        else:
            STAGES[options.stage](run)
    except FileNotFoundError as error:
        print(error)
        return 2
    return 0


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="animatic train", description="Train blockout-mini, or a model like it."
    )
    add_arguments(parser)
    return main(parser.parse_args())


if __name__ == "__main__":
    raise SystemExit(_main())
