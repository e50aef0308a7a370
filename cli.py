"""The command line: ``animatic render|generate|serve|models|train|evaluate|bench``.

It runs on the add-on's side; Blender and the engine are child processes of it, but for `train` and
`bench`, which hand over to another program.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from .blender_addon.errors import AnimaticError, Cancelled
from .blender_addon.link.background import blender_command
from .blender_addon.link.catalogue import PRESETS, Checkpoint, find_checkpoint, list_checkpoints
from .blender_addon.link.engine_process import EngineProcess, find_engine_python
from .blender_addon.link.evaluate import Evaluation
from .blender_addon.link.generate import GenerateSettings, Generation, Host, Outcome
from .blender_addon.link.install_models import ModelDownload, list_known, refresh_cards
from .blender_addon.link.install_places import data_folder, models_folder
from .blender_addon.link.replay import Replay
from .blender_addon.shot.long_clip import LongClip
from .blender_addon.shot.own_pictures import OwnPictures
from .blender_addon.shot.passes import Passes
from .blender_addon.shot.report import shot_sentences
from .blender_addon.shot.request import Steering
from .cli_options import QUALITIES, WITH_MORE, open_file_parser, parser, with_values
from .cli_progress import display


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, or 1 for an error, 2 for bad usage, 130 when cancelled."""
    whole = parser()
    given = sys.argv[1:] if arguments is None else arguments
    options, more = whole.parse_known_args(with_values(given))
    if more and options.command not in WITH_MORE:
        whole.error(f"unrecognized arguments: {' '.join(more)}")
    options.more = more
    return _guarded(lambda: _COMMANDS[options.command](options))


def render_open_file(
    arguments: list[str], blend: Path, scene: str, host: Callable[[argparse.Namespace], Host]
) -> int:
    """``animatic render`` inside a Blender that has ``blend`` open; the same return values.

    ``scene`` is the one that is active there; ``host`` names the tools, given the options.
    """
    try:
        options = open_file_parser().parse_args(with_values(arguments))
    except SystemExit as ended:  # --help, or bad usage: the words are on the terminal already
        return int(ended.code or 0)
    options.blend, options.scene = blend, options.scene or scene
    return _guarded(lambda: _render(options, host(options)))


def _guarded(work: Callable[[], int]) -> int:
    """Do ``work``; what goes wrong becomes a sentence and a return value."""
    try:
        return work()
    except KeyboardInterrupt:
        print("\nBroken off.", file=sys.stderr)
        return 130
    except Cancelled as error:
        print(f"\n{error}", file=sys.stderr)
        return 130
    except AnimaticError as error:
        print(f"\nError: {error}", file=sys.stderr)
        return 1


def _host(options: argparse.Namespace) -> Host:
    return Host(
        blender=getattr(options, "blender", None),
        engine_python=options.engine_python,
        models=(*options.models, models_folder()),
        device=options.device,
        port=options.port,
    )


def _settings(options: argparse.Namespace) -> GenerateSettings:
    return GenerateSettings(
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
        quality=QUALITIES[options.quality],
        passes=Passes(options.schedule, options.upscale),
        guidance=options.guidance,
        guidance_end=options.guidance_end,
        strength=options.strength,
        range=options.range,
        scene=options.scene,
        shot=options.shot,
        depth_method=options.depth_method,
        near=options.near,
        far=options.far,
        crease=options.crease,
        lines_of=options.lines_of,
        line_thickness=options.line_thickness,
        in_between=options.in_between,
        deflicker=options.deflicker,
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
            encoder=options.encoder,
            guess=options.guess,
            over_steps=tuple(options.strength_at),
            loras=tuple(options.lora),
            prompts=tuple(options.prompt_at),
        ),
        also=tuple(options.also),
        pictures=OwnPictures(
            reference=Path(options.reference[0]) if options.reference else None,
            scale=options.reference[1] if options.reference else 1.0,
            share=not options.first_picture_alone,
            **options.first_picture,
        ),
    )


def _render(options: argparse.Namespace, host: Host | None = None) -> int:
    settings, host = _settings(options), host or _host(options)
    if (known := host.find(settings.model).vocabulary) and (told := known.remark(settings.prompts)):
        print(told, file=sys.stderr)
    return _run(Generation(settings, host), options)


def _generate(options: argparse.Namespace) -> int:
    work = Replay(
        options.file, options.out, _host(options), options.force, in_between=options.in_between
    )
    return _run(work, options)


def _run(work: Generation | Replay, options: argparse.Namespace) -> int:
    """Run with progress bars; Ctrl-C cancels in order. Prints what was made."""
    cancel_on_signals(work)
    with display(options.quiet) as bars:
        outcome = work.run(bars.on_event)
    notes = [note for take in outcome.takes for note in take.get("notes", [])]
    for sentence in [*_sentences(outcome), *dict.fromkeys(notes), *outcome.notes]:
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


def _sentences(outcome: Outcome) -> list[str]:
    shot = outcome.shot
    if not shot or "keyframes" not in shot:
        return []
    return [*shot_sentences(shot), *shot["warnings"]]


def _made(outcome: Outcome) -> list[Path]:
    names = ["guides/contact_sheet.png", "video.mp4", "frames", "shot.blend", "take.json"]
    if outcome.takes:
        names += outcome.takes[0].get("in_between", {}).values()
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


def write_secret(path: Path, text: str) -> None:
    """Write ``text`` into a new file that only the user can read, in place of an older one."""
    path.unlink(missing_ok=True)  # its mode would stay, and whoever has it open would read on
    new = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)


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
        write_secret(token_file, engine.token)
        print(f"Engine at http://127.0.0.1:{engine.port}, its token in {token_file}", flush=True)
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        while not stopped.wait(0.2):
            if sentence := engine.why_gone():
                raise AnimaticError(sentence)
    return 0


def _become(program: list[str]) -> int:
    """Run another program in place of this one, so that what ends this one ends it; its status."""
    if os.name == "posix":
        sys.stdout.flush()
        os.execv(program[0], program)
    return subprocess.run(program).returncode


def _train(options: argparse.Namespace) -> int:
    return _become([str(find_engine_python()), "-m", "animatic.engine.training.cli", *options.more])


def _evaluate(options: argparse.Namespace) -> int:
    with display(quiet=False) as bars:
        return Evaluation(
            checkpoint=find_checkpoint(options.model, [*options.models, models_folder()]),
            python=find_engine_python(options.engine_python),
            blender=blender_command(options.blender),
            options=options.more,
            quick=options.quick,
            on_event=bars.on_event,
        ).run()


def _bench(options: argparse.Namespace) -> int:
    what, *more = options.more or [""]
    if what == "engine":
        program = [str(find_engine_python()), "-m", "animatic.engine.bench"]
    else:
        more = options.more[what == "guides" :]
        program = [sys.executable, "-m", "animatic.blender_addon.scene.bench"]
    return _become([*program, *more])


def _models(options: argparse.Namespace) -> int:
    for folder in (*options.models, models_folder()):
        for name in refresh_cards(folder):
            print(f"{name} now knows of the parts that may be added to it.", file=sys.stderr)
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
        print(f"{c.name}: {', '.join(_taken(c))}; {c.native}x{c.native}, {c.frames} frames at")
        print(f"    {c.fps} per second; {c.folder}")
    for known in away:
        print(f"{known.name}: not here; {known.bytes / 1e9:.1f} GB, {known.licence}")
        print(f"    {known.purpose}.")
        print(f"    animatic models download {known.name}")
    return 0


def _taken(checkpoint: Checkpoint) -> list[str]:
    """What a model takes beside the prompt, in words."""
    guides = [
        f"{guide} ({' or '.join(kinds)})" if len(kinds) > 1 else guide
        for guide, kinds in checkpoint.encoders.items()
    ]
    return guides + ["reference pictures"] * checkpoint.image_prompt


def _download(options: argparse.Namespace) -> int:
    models = options.to or next(iter(options.models), None)
    work = ModelDownload(options.name, online=True, models=models, python=options.engine_python)
    cancel_on_signals(work)
    with display(options.quiet) as bars:
        folder = work.run(bars.on_event)
    print(json.dumps({"folder": str(folder)}) if options.json else folder)
    return 0


_COMMANDS = {
    "render": _render,
    "generate": _generate,
    "serve": _serve,
    "models": _models,
    "download": _download,
    "train": _train,
    "evaluate": _evaluate,
    "bench": _bench,
}
