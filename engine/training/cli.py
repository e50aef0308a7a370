"""Command line of the training: one stage after another, each resumable. See docs/training.md.

animatic train STAGE --folder train --minutes 30
"""

import argparse
import json
from pathlib import Path

import torch

from ..errors import EngineError
from . import together
from .architecture import SIZES
from .loop import Stopped
from .recipe import Recipe, read_recipe
from .run import Run
from .train import STAGES, measure, train_all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "stage",
        choices=[*STAGES, "all", "measure", "export"],
        help="what to do, in this order; all: every stage of the recipe's [shares], then export",
    )
    add("--folder", type=Path, default=Path("train"), help="where all of it lives")
    add("--recipe", default="blockout-mini", help="of presets/training, or a .toml file")
    add("--base", "--from", type=Path, metavar="DIR", help="a checkpoint to go on from")
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="data, all: clips to train on instead of ray-cast blockouts",
    )
    add("--move", help='motionlora: the camera move, as the captions name it ("dolly in")')
    add("--minutes", type=float, help="time budget, instead of the recipe's")
    add("--steps", type=int, help="stop the stage after so many steps at most")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--threads", type=int, default=0, help="CPU threads (0: as torch likes)")
    add(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="train with N processes, one for each graphics card, or for each core of a processor",
    )
    add("--seed", type=int, default=0, help="another seed renders other scenes")
    add("--size", choices=list(SIZES), help="size of a model made from nothing")
    add("--stills", type=int, help="shards of 256 stills to render")
    add("--clips", type=int, help="shards of 16 clips to render")
    add("--batch", type=int, help="batch size of the stage")
    add("--learning-rate", type=float, help="of the stage")
    add("--last-rate", type=float, help="what is left of it at the end (1: another part follows)")
    add(
        "--shares",
        type=_shares,
        metavar="image=6,motion=3",
        help="all: the stages to run and their shares of the time, instead of the recipe's",
    )
    add(
        "--means",
        type=_shares,
        metavar="motion_adapter=0.5",
        help="all, export: parts to write as means with the base's, and the trained ones' share",
    )
    add(
        "--strengths",
        type=_shares,
        metavar="depth=1.2,lineart=1.4",
        help="all, export: factors of what the guides' encoders say at a strength of 1",
    )
    add("--target", type=Path, help="all, export: the checkpoint folder to write")
    add("--shard-size", default="10GB", help="all, export: largest file of weights (15MB)")
    add("--guidance", type=float, help="measure, export: guidance, instead of the recipe's")


def _shares(text: str) -> dict[str, float]:
    """Names and their shares; argparse makes a sentence of a ValueError."""
    return {name: float(share) for name, share in (pair.split("=") for pair in text.split(","))}


def _table(stage: str) -> str:
    """A stage's table in the recipe."""
    return "sparsectrl" if stage.startswith("sparsectrl") else stage


def _with_options(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with what the command line says instead."""
    stages = [s for s in STAGES if s not in ("data", "encode")]
    for stage in stages if options.stage == "all" else [options.stage]:
        table = recipe.setdefault(_table(stage), {})
        for name in ("steps", "batch", "learning_rate", "last_rate"):
            if getattr(options, name) is not None:
                table[name] = getattr(options, name)
    if options.shares is not None:
        recipe["shares"] = options.shares
    for table_name, name in (("data", "stills"), ("data", "clips"), ("model", "size")):
        if getattr(options, name) is not None:
            recipe[table_name][name] = getattr(options, name)
    return recipe


def prepare(device: str, threads: int) -> torch.device:
    """Choose the device, and what is quick on it."""
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        # Fused attention is quick forwards, but its way back costs a sixth of a step on a CPU.
        torch.backends.cuda.enable_flash_sdp(False)
    else:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    return torch.device(device)


def main(options: argparse.Namespace) -> int:
    """Run what was asked for; 0 when it worked, 2 when something is missing or wrong,
    130 when it was stopped."""
    if options.processes > 1 and options.stage not in ("measure", "export"):
        cuda = options.device != "cpu" and torch.cuda.is_available()
        return together.spawn(options.processes, cuda, _work, options)
    return _work(options)


def _work(options: argparse.Namespace) -> int:
    try:
        if options.device == "cuda" and not torch.cuda.is_available():
            raise EngineError("There is no CUDA device here. Choose --device cpu.")
        if options.stage in ("all", "export") and options.target is None:
            raise EngineError("Name the checkpoint folder to write with --target.")
        if options.data is not None and options.stage not in ("data", "all"):
            raise EngineError(
                f"Stage {options.stage} takes no --data: bring the clips in with `animatic train "
                f"data --data {options.data}`, and leave it out here."
            )
        for folder in (options.base, options.data):
            if folder is not None and not folder.is_dir():
                raise EngineError(f"There is no folder {folder}. Check its name.")
        run = Run(
            folder=options.folder,
            recipe=_with_options(read_recipe(options.recipe), options),
            minutes=options.minutes,
            base=options.base,
            clips=options.data,
            move=options.move,
            seed=options.seed,
            device=prepare(options.device, options.threads),
        )
        means, strengths = options.means or {}, options.strengths or {}
        run.check_export(means, strengths)
        if options.stage == "measure":
            guidance = options.guidance or run.recipe["export"]["guidance"]
            print(json.dumps(measure(run, guidance), indent=2))
            return 0
        if options.stage == "all":
            took = train_all(run)
            print(json.dumps({stage: round(seconds, 1) for stage, seconds in took.items()}))
        elif options.stage != "export":
            STAGES[options.stage](run)
        if options.stage in ("all", "export") and together.leads():
            run.export(options.target, options.guidance, options.shard_size, means, strengths)
    except (FileNotFoundError, FileExistsError, EngineError) as error:
        print(error)
        return 2
    except Stopped as stopped:
        if together.leads():
            print(stopped)
        return 130
    return 0


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="animatic train", description="Train blockout-mini, a model like it, or SD 1.5 parts."
    )
    add_arguments(parser)
    return main(parser.parse_args())


if __name__ == "__main__":
    raise SystemExit(_main())
