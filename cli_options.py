"""What can be said on the command line: the commands and their options."""

from __future__ import annotations

import argparse
import re
from fractions import Fraction
from pathlib import Path

from . import __version__
from . import cli_values as values
from .blender_addon.link.quality import read_qualities
from .blender_addon.shot.passes import SCHEDULES, USUAL_SHARE
from .blender_addon.shot.request import ENCODERS, UNSTEERED

QUALITIES = read_qualities()

# These have command lines of their own, in the environment that does the work.
WITH_MORE = ("train", "evaluate", "bench")


def parser() -> argparse.ArgumentParser:
    """The whole command line; ``command`` names what was asked for."""
    whole = argparse.ArgumentParser(
        prog="animatic", description="From a keyframed Blender blockout to video."
    )
    whole.add_argument("--version", action="version", version=f"animatic {__version__}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_render(commands.add_parser("render", help="make a video from a .blend file"))
    _add_generate(
        commands.add_parser("generate", help="run a request, or replay a take, without Blender")
    )
    _add_serve(commands.add_parser("serve", help="run the engine's service until Ctrl-C"))
    _add_models(commands.add_parser("models", help="list the known models, or download one"))
    commands.add_parser("train", add_help=False, help="train a model, stage by stage")
    evaluate = commands.add_parser(
        "evaluate",
        help="measure how well a model obeys",
        epilog="Further: --quality standard|draft, --clips N, --blender-clips N, --steps N, "
        "--guides GUIDE ..., --keyframes N ..., --[no-]deflicker, --seed N, --json FILE, "
        "--out DIR",
    )
    _add_evaluate(evaluate)
    bench_help = "seconds per guide, or (bench engine) per take"
    commands.add_parser("bench", add_help=False, help=bench_help)
    return whole


def with_values(arguments: list[str]) -> list[str]:
    """``--range -5:20`` as ``--range=-5:20``: argparse takes it for two options otherwise."""
    joined: list[str] = []
    for argument in arguments:
        if re.match(r"-\d", argument) and joined and re.fullmatch(r"--[\w-]+", joined[-1]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def open_file_parser() -> argparse.ArgumentParser:
    """The options of ``animatic render``, for a Blender that has opened the file."""
    whole = argparse.ArgumentParser(
        prog="blender -b SCENE.blend -c animatic",
        description="Make a video from the opened file, as it lies on disk; it is never written.",
        epilog="What is not named here is as the extension's preferences say.",
    )
    _add_render_options(whole)
    return whole


def _add_render(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "blend", type=Path, metavar="SCENE.blend", help="the file; it is never written"
    )
    _add_render_options(parser)


def _add_render_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--prompt", default="", help="what the picture shows")
    add("--negative", default="", help="what the picture must not show")
    add("--guide", choices=["depth", "lineart", "render"], default="depth")
    add(
        "--keyframes",
        metavar="camera|objects|markers|every:N|all|1,12@0.5,24",
        help="the scene frames whose guide holds the video, a listed one also at a strength of its "
        "own (default: what suits the model, or else camera)",
    )
    add(
        "--also",
        type=values.also,
        action="append",
        default=[],
        metavar="GUIDE[/ENCODER][@STRENGTH]:KEYFRAMES",
        help="guides of another kind beside these, with keyframes of their own, such as "
        "lineart@0.5:every:8; may be repeated",
    )
    add("--out", type=Path, help="output folder (default: out/ and the file's name)")
    add("--force", action="store_true", help="replace an earlier take in the output folder")
    add("--scene", help="scene name (default: the file's active scene)")
    add("--shot", help="shot by name or number, where camera markers make several")
    add(
        "--range",
        type=values.scene_range,
        metavar="A:B",
        help="scene frames A to B instead of the shot's own",
    )
    add("--frames", type=int, metavar="N", help="number of frames that the model makes")
    add("--seed", type=int, default=1, help="seed of the first take (default: 1)")
    add("--takes", type=int, default=1, metavar="N", help="number of takes (default: 1)")
    add("--steps", type=int, help="sampling steps")
    _add_passes(parser)
    add("--guidance", type=float, help="how strongly the prompt is followed (1 = no guidance)")
    add(
        "--guidance-end",
        type=float,
        metavar="SHARE",
        help="share of the steps after which there is no guidance any more: those steps take half "
        "the time (default: the model's own)",
    )
    add("--strength", type=float, default=1.0, help="how strongly the guides hold (default: 1)")
    _add_long_clip(parser)
    _add_steering_options(parser)
    _add_own_options(parser)
    add("--guides-only", action="store_true", help="make the guides and stop; no engine is started")
    add("--depth-method", choices=["auto", "workbench", "cycles"], default="auto")
    _add_guide_options(parser)
    add(
        "--in-between",
        action="store_true",
        help="make a picture for every scene frame, along the scene's own motion",
    )
    add(
        "--deflicker",
        action=argparse.BooleanOptionalAction,
        help="average what each surface looks like over neighbouring frames, along the scene's own "
        "motion (default: where it suits the model, but not for drafts)",
    )
    add("--blender", type=Path, metavar="PATH", help="a Blender executable (default: this one)")
    add("--enable-autoexec", action="store_true", help="let the file's own Python scripts run")
    add("--model", default="blockout-mini", help="model name or folder")
    _add_engine_options(parser)
    _add_output_options(parser)


def _add_passes(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    levels = "; ".join(f"{q.id}: {q.description}" for q in QUALITIES.values())
    add(
        "--quality",
        choices=list(QUALITIES),
        default="standard",
        help=f"{levels} (default: standard)",
    )
    add(
        "--schedule",
        choices=SCHEDULES,
        help="ddim: 20 to 50 steps, as the papers sample; dpm: half of them, any model; lcm: 4 "
        "to 8, models distilled for it (default: the model's own, or the quality's)",
    )
    add(
        "--upscale",
        type=values.upscale,
        metavar="SCALE[:SHARE]",
        help="make the frames 1.25 to 2 times as large, in a second pass of a share of the steps "
        f"(default: {USUAL_SHARE})",
    )


def _add_guide_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--near",
        type=float,
        metavar="UNITS",
        help="distance of what depth guides show white (default: the nearest thing in the shot)",
    )
    add(
        "--far",
        type=float,
        metavar="UNITS",
        help="distance of what they show darkest (default: the farthest thing in the shot)",
    )
    add(
        "--crease",
        type=float,
        metavar="DEGREES",
        help="angle between two faces under which line guides draw their edge, 0 to 180 "
        "(default: 140)",
    )
    add("--lines-of", metavar="COLLECTION", help="draw lines of this collection's objects only")
    add(
        "--line-thickness",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="width of the lines, 0.25 to 4 times what the model was made for (default: 1)",
    )


def _add_long_clip(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--context",
        type=values.context,
        metavar="LENGTH:OVERLAP[:SCHEDULE]",
        help="clips longer than the model's own, by windows of LENGTH frames that share OVERLAP; "
        "static, uniform (the default: shifted at each step) or looped",
    )
    add("--loop", action="store_true", help="let the clip run into its own beginning")
    add("--free-noise", action="store_true", help="repeat a window's noise over the clip")
    add(
        "--causal",
        type=int,
        metavar="SPAN",
        help="let a frame see only itself and the frames before it, SPAN at most",
    )
    add(
        "--window-attention",
        action="store_true",
        help="let a frame see the first and those before it, which keeps the clip close to the "
        "first (AnimateZero)",
    )


def _add_steering_options(parser: argparse.ArgumentParser) -> None:
    usual, add = UNSTEERED, parser.add_argument
    add(
        "--temporal",
        type=float,
        default=usual.temporal,
        metavar="W",
        help="how closely the frames are tied together, 0 to 4 (default: 1, as the model has it)",
    )
    add(
        "--blur",
        type=int,
        default=usual.blur,
        metavar="LEVEL",
        help="take details off the depth guides, 0 to 4 (default: 0)",
    )
    add(
        "--guide-start",
        type=float,
        default=usual.start,
        metavar="SHARE",
        help="share of the steps after which the guides act, 0 to 1 (default: 0)",
    )
    add(
        "--guide-end",
        type=float,
        default=usual.end,
        metavar="SHARE",
        help="share of the steps after which they no longer do (default: 1)",
    )
    add(
        "--strength-at",
        type=values.strength_at,
        action="append",
        default=[],
        metavar="SHARE:FACTOR",
        help="a factor on the guides' strength at a share of the steps, in straight lines between; "
        "may be repeated",
    )
    add("--guess", action="store_true", help="let the guides lead without the prompt (guess mode)")
    add(
        "--prompt-at",
        type=values.prompt_at,
        action="append",
        default=[],
        metavar="FRAME:TEXT",
        help="another prompt at a scene frame, blended into from the one before; may be repeated",
    )


def _add_own_options(parser: argparse.ArgumentParser) -> None:
    """What the model is given besides the prompt and the scene."""
    add = parser.add_argument
    add(
        "--encoder",
        choices=ENCODERS,
        help="what the guides go to: a SparseCtrl encoder, or an ordinary ControlNet that makes "
        "each frame by itself (default: the model's sparse one, where it has one)",
    )
    add(
        "--reference",
        type=values.scaled,
        metavar="IMAGE[@SCALE]",
        help="a picture to look at beside the prompt, at 0 to 2 (default: 1)",
    )
    add(
        "--first-picture",
        type=values.first_picture,
        default={},
        metavar="IMAGE|generate[:SEED]",
        help="a picture that becomes the first frame, and whose look all frames share; generate: "
        "made by the model without its motion, from the take's seed or one of its own",
    )
    add(
        "--first-picture-alone",
        action="store_true",
        help="let the other frames not share the first picture's look",
    )
    add(
        "--lora",
        type=values.scaled,
        action="append",
        default=[],
        metavar="NAME[@SCALE]",
        help="a LoRA in the folder loras/ beside the model, at -2 to 2 (default: 1); may be "
        "repeated",
    )


def _add_generate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="take.json|request.json", help="with its guides beside it")
    add("--out", type=Path, help="output folder (default: a new one beside the file's)")
    add("--force", action="store_true", help="replace an earlier take in the output folder")
    add(
        "--in-between",
        type=values.rate,
        nargs="?",
        const=Fraction(0),
        metavar="FPS",
        help="make pictures at this rate (default: the scene's, or 24), along the optical flow "
        "between the frames where the run has no motion of the scene",
    )
    _add_engine_options(parser)
    _add_output_options(parser)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", type=Path, help="folder of jobs and takes (default: the user's data folder)")
    _add_engine_options(parser)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--json", action="store_true")
    actions = parser.add_subparsers(metavar="download")
    download = actions.add_parser("download", help="download a model of the catalogue")
    download.set_defaults(command="download")
    add = download.add_argument
    add("name", metavar="NAME", help="as `animatic models` lists it")
    add("--to", type=Path, metavar="DIR", help="models folder (default: in the user's data folder)")
    add("--engine-python", type=Path, metavar="PATH", help="Python of the engine's environment")
    add("--quiet", action="store_true", help="no progress bar")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="depth only, few clips and steps; under ten minutes")
    add("--model", default="blockout-mini", help="model name or folder")
    add("--models", type=Path, action="append", default=[], metavar="DIR", help="more models")
    add("--engine-python", type=Path, metavar="PATH", help="Python of the engine's environment")
    add("--blender", type=Path, metavar="PATH", help="a Blender executable (default: this bpy)")


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--models", type=Path, action="append", default=[], metavar="DIR", help="more models")
    add("--engine-python", type=Path, metavar="PATH", help="Python of the engine's environment")
    add("--device", help="cuda, mps or cpu (default: the best one here)")
    add("--port", type=int, default=0, help="the engine's port (default: a free one)")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print a machine-readable summary on standard output"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
