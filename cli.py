"""The command line: ``animatic render|generate|serve|models|train|evaluate|bench``.

It runs on the add-on's side; Blender and the engine are child processes of it.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from tqdm import tqdm

from . import __version__
from .blender_addon.errors import AnimaticError, Cancelled
from .blender_addon.link.background import blender_command
from .blender_addon.link.catalogue import PRESETS, find_checkpoint, list_checkpoints
from .blender_addon.link.engine_process import EngineProcess, find_engine_python
from .blender_addon.link.evaluate import Evaluation
from .blender_addon.link.generate import GenerateSettings, Generation, Host, Outcome
from .blender_addon.link.install_models import ModelDownload, list_known
from .blender_addon.link.install_places import data_folder, models_folder
from .blender_addon.link.replay import Replay
from .blender_addon.shot.long_clip import LongClip
from .blender_addon.shot.report import shot_sentences
from .blender_addon.shot.request import UNSTEERED, Steering


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, or 1 for an error, 2 for bad usage, 130 when cancelled."""
    parser = _parser()
    options, more = parser.parse_known_args(arguments)
    if more and options.run not in (_train, _evaluate, _bench):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    options.more = more
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("\nBroken off.", file=sys.stderr)
        return 130
    except Cancelled as error:
        print(f"\n{error}", file=sys.stderr)
        return 130
    except AnimaticError as error:
        print(f"\nError: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="animatic", description="From a keyframed Blender blockout to video."
    )
    parser.add_argument("--version", action="version", version=f"animatic {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_render(commands.add_parser("render", help="make a video from a .blend file"))
    _add_generate(
        commands.add_parser("generate", help="run a request, or replay a take, without Blender")
    )
    _add_serve(commands.add_parser("serve", help="run the engine's service until Ctrl-C"))
    _add_models(commands.add_parser("models", help="list the known models, or download one"))
    # These have command lines of their own, in the environment that does the work.
    train = commands.add_parser("train", add_help=False, help="train a model, stage by stage")
    train.set_defaults(run=_train)
    evaluate = commands.add_parser(
        "evaluate",
        help="measure how well a model obeys",
        epilog="Further: --clips N, --blender-clips N, --steps N, --seed N, --json FILE, --out DIR",
    )
    _add_evaluate(evaluate)
    bench = commands.add_parser("bench", add_help=False, help="seconds per guide on this machine")
    bench.set_defaults(run=_bench)
    return parser


def _add_render(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_render)
    add = parser.add_argument
    add("blend", type=Path, metavar="SCENE.blend", help="the file; it is never written")
    add("--prompt", default="", help="what the picture shows")
    add("--negative", default="", help="what the picture must not show")
    add("--guide", choices=["depth", "lineart", "render"], default="depth")
    add(
        "--keyframes",
        default="camera",
        metavar="camera|objects|markers|every:N|all|1,12@0.5,24",
        help="the scene frames whose guide holds the video, a listed one also at a strength of its "
        "own (default: camera)",
    )
    add("--out", type=Path, help="output folder (default: out/ and the file's name)")
    add("--force", action="store_true", help="replace an earlier take in the output folder")
    add("--scene", help="scene name (default: the file's active scene)")
    add("--shot", help="shot by name or number, where camera markers make several")
    add("--range", type=_range, metavar="A:B", help="scene frames A to B instead of the shot's own")
    add("--frames", type=int, metavar="N", help="number of frames that the model makes")
    add("--seed", type=int, default=1, help="seed of the first take (default: 1)")
    add("--takes", type=int, default=1, metavar="N", help="number of takes (default: 1)")
    add("--steps", type=int, help="sampling steps")
    add("--guidance", type=float, help="how strongly the prompt is followed (1 = no guidance)")
    add("--strength", type=float, default=1.0, help="how strongly the guides hold (default: 1)")
    _add_long_clip(parser)
    _add_steering_options(parser)
    add("--guides-only", action="store_true", help="make the guides and stop; no engine is started")
    add("--depth-method", choices=["auto", "workbench", "cycles"], default="auto")
    add("--blender", type=Path, metavar="PATH", help="a Blender executable (default: this bpy)")
    add("--enable-autoexec", action="store_true", help="let the file's own Python scripts run")
    _add_engine_options(parser)
    _add_output_options(parser)


def _add_long_clip(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--context",
        type=_context,
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


def _context(text: str) -> tuple[int, int, str]:
    length, _, rest = text.partition(":")
    overlap, _, schedule = rest.partition(":")
    try:
        return int(length), int(overlap), schedule or "uniform"
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not LENGTH:OVERLAP[:SCHEDULE], e.g. 16:4"
        ) from None


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
        "--prompt-at",
        type=_prompt_at,
        action="append",
        default=[],
        metavar="FRAME:TEXT",
        help="another prompt at a scene frame, blended into from the one before; may be repeated",
    )


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_generate)
    add = parser.add_argument
    add("file", type=Path, metavar="take.json|request.json", help="with its guides beside it")
    add("--out", type=Path, help="output folder (default: a new one beside the file's)")
    add("--force", action="store_true", help="replace an earlier take in the output folder")
    _add_engine_options(parser)
    _add_output_options(parser)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    add = parser.add_argument
    add("--data", type=Path, help="folder of jobs and takes (default: the user's data folder)")
    _add_engine_options(parser)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_models)
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--json", action="store_true")
    actions = parser.add_subparsers(metavar="download")
    download = actions.add_parser("download", help="download a model of the catalogue")
    download.set_defaults(run=_download)
    add = download.add_argument
    add("name", metavar="NAME", help="as `animatic models` lists it")
    add("--to", type=Path, metavar="DIR", help="models folder (default: in the user's data folder)")
    add("--engine-python", type=Path, metavar="PATH", help="Python of the engine's environment")
    add("--quiet", action="store_true", help="no progress bar")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_evaluate)
    add = parser.add_argument
    add("--quick", action="store_true", help="depth only, few clips and steps; under ten minutes")
    add("--model", default="blockout-mini", help="model name or folder")
    add("--models", type=Path, action="append", default=[], metavar="DIR", help="more models")
    add("--engine-python", type=Path, metavar="PATH", help="Python of the engine's environment")
    add("--blender", type=Path, metavar="PATH", help="a Blender executable (default: this bpy)")


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    if parser.get_default("run") is _render:
        add("--model", default="blockout-mini", help="model name or folder")
    add("--models", type=Path, action="append", default=[], metavar="DIR", help="more models")
    add("--engine-python", type=Path, metavar="PATH", help="Python of the engine's environment")
    add("--device", help="cuda, mps or cpu (default: the best one here)")
    add("--port", type=int, default=0, help="the engine's port (default: a free one)")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print a machine-readable summary on standard output"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _range(text: str) -> tuple[int, int]:
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not A:B, e.g. 1:48") from None
    if last < first:
        raise argparse.ArgumentTypeError(f"{text!r} ends before it starts")
    return first, last


def _prompt_at(text: str) -> tuple[Fraction, str]:
    frame, colon, prompt = text.partition(":")
    try:
        if colon and prompt.strip():
            return Fraction(frame), prompt.strip()
    except (ValueError, ZeroDivisionError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not FRAME:TEXT, e.g. 24:a street at night")


def _host(options: argparse.Namespace) -> Host:
    return Host(
        blender=getattr(options, "blender", None),
        engine_python=options.engine_python,
        models=(*options.models, models_folder()),
        device=options.device,
        port=options.port,
    )


def _render(options: argparse.Namespace) -> int:
    settings = GenerateSettings(
        blend=options.blend,
        out=options.out or Path("out") / options.blend.stem,
        prompt=options.prompt,
        negative_prompt=options.negative,
        guide=options.guide,
        keyframes=options.keyframes,
        model=options.model,
        seed=options.seed,
        takes=options.takes,
        frames=options.frames,
        steps=options.steps,
        guidance=options.guidance,
        strength=options.strength,
        range=options.range,
        scene=options.scene,
        shot=options.shot,
        depth_method=options.depth_method,
        guides_only=options.guides_only,
        force=options.force,
        enable_autoexec=options.enable_autoexec,
        long_clip=LongClip(
            context=options.context,
            loop=options.loop,
            free_noise=options.free_noise,
            span=options.causal,
            window_attention=options.window_attention,
        ),
        steering=Steering(
            temporal=options.temporal,
            blur=options.blur,
            start=options.guide_start,
            end=options.guide_end,
            prompts=tuple(options.prompt_at),
        ),
    )
    return _run(Generation(settings, _host(options)), options)


def _generate(options: argparse.Namespace) -> int:
    return _run(Replay(options.file, options.out, _host(options), options.force), options)


def _run(work: Generation | Replay, options: argparse.Namespace) -> int:
    """Run with progress bars; Ctrl-C cancels in order. Prints what was made."""
    cancel_on_signals(work)
    with Bars(options.quiet) as bars:
        outcome = work.run(bars.on_event)
    for sentence in _sentences(outcome):
        print(sentence, file=sys.stderr)
    if options.json:
        json.dump(_summary(outcome), sys.stdout, indent=1)
        print()
    else:
        print("\n".join(str(path) for path in _made(outcome)))
    return 0


def cancel_on_signals(work: Generation | Replay | ModelDownload) -> None:
    """Let the first Ctrl-C (or SIGTERM) cancel in order, and a second one break off."""

    def first(number: int, frame: object) -> None:
        signal.signal(number, signal.default_int_handler)
        print("\nCancelling ... (again to break off)", file=sys.stderr)
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, first)


class Bars:
    """One progress bar per phase, on standard error."""

    NAMES = {"load": "model load", "engine": "engine start", "control": "guide encoding"}

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: tqdm | None = None
        self._key = ("", "")

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_event(self, event: dict) -> None:
        """Show one event of a run; previews are not for a terminal."""
        if "phase" not in event or self._quiet:
            return
        key = (event["phase"], event["text"] if event["phase"] == "sampling" else "")
        if key != self._key:
            self.__exit__()
            name = self.NAMES.get(event["phase"], event["phase"])
            self._bar = tqdm(
                desc=f"{' '.join((name, key[1])).strip():<24}",
                bar_format="{desc}|{bar:30}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]",
            )
            self._key = key
        assert self._bar is not None
        self._bar.total = event["of"]
        self._bar.n = event["done"]
        self._bar.refresh()


def _sentences(outcome: Outcome) -> list[str]:
    shot = outcome.shot
    if not shot or "keyframes" not in shot:
        return []
    return [*shot_sentences(shot), *shot["warnings"]]


def _made(outcome: Outcome) -> list[Path]:
    names = ["guides/contact_sheet.png", "video.mp4", "frames", "shot.blend", "take.json"]
    return [outcome.out / name for name in names if (outcome.out / name).exists()]


def _summary(outcome: Outcome) -> dict:
    """What was made, for programs."""
    shot = outcome.shot or {}
    return {
        "out": str(outcome.out),
        "files": sorted(
            str(path.relative_to(outcome.out)) for path in outcome.out.rglob("*") if path.is_file()
        ),
        "shot": shot.get("shot"),
        "keyframes": shot.get("keyframes"),
        "guides": shot.get("guides"),
        "depth": shot.get("depth"),
        "warnings": shot.get("warnings"),
        "takes": outcome.takes,
        "seconds": {**shot.get("seconds", {}), **outcome.seconds},
    }


def _serve(options: argparse.Namespace) -> int:
    """Run the service in the foreground; its token lies in a file that only the user can read."""
    data = (options.data or data_folder()).expanduser().resolve()
    data.mkdir(parents=True, exist_ok=True)
    models = [*options.models, models_folder(), PRESETS]
    with EngineProcess(
        models=models,
        data=data,
        python=options.engine_python,
        device=options.device,
        port=options.port,
    ) as engine:
        token_file = data / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(engine.token, encoding="utf-8")
        print(f"Engine at http://127.0.0.1:{engine.port}, its token in {token_file}", flush=True)
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        while not stopped.wait(0.2):
            if sentence := engine.why_gone():
                raise AnimaticError(sentence)
    return 0


def _train(options: argparse.Namespace) -> int:
    program = [str(find_engine_python()), "-m", "animatic.engine.training.cli"]
    return subprocess.run([*program, *options.more]).returncode


def _evaluate(options: argparse.Namespace) -> int:
    with Bars(quiet=False) as bars:
        return Evaluation(
            checkpoint=find_checkpoint(options.model, [*options.models, models_folder()]),
            python=find_engine_python(options.engine_python),
            blender=blender_command(options.blender),
            options=options.more,
            quick=options.quick,
            on_event=bars.on_event,
        ).run()


def _bench(options: argparse.Namespace) -> int:
    program = [sys.executable, "-m", "animatic.blender_addon.scene.bench"]
    return subprocess.run([*program, *options.more]).returncode


def _models(options: argparse.Namespace) -> int:
    checkpoints = list_checkpoints([*options.models, models_folder()])
    here = {c.name for c in checkpoints}
    away = [known for known in list_known() if not known.installed and known.name not in here]
    if options.json:
        rows = [
            {**asdict(c), "folder": str(c.folder), "fps": str(c.fps), "installed": True}
            for c in checkpoints
        ]
        rows += [{**asdict(known), "folder": str(known.folder)} for known in away]
        json.dump(rows, sys.stdout, indent=1)
        print()
        return 0
    for c in checkpoints:
        print(f"{c.name}: {', '.join(c.guides)}; {c.native}x{c.native}, {c.frames} frames at")
        print(f"    {c.fps} per second; {c.folder}")
    for known in away:
        print(f"{known.name}: not here; {known.bytes / 1e9:.1f} GB, {known.licence}")
        print(f"    {known.purpose}.")
        print(f"    animatic models download {known.name}")
    return 0


def _download(options: argparse.Namespace) -> int:
    work = ModelDownload(options.name, online=True, models=options.to, python=options.engine_python)
    cancel_on_signals(work)
    with Bars(options.quiet) as bars:
        folder = work.run(bars.on_event)
    print(folder)
    return 0
