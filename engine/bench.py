"""`animatic bench engine`: this engine against diffusers' own pipeline, in one run.

The same weights, steps, size and number type; four questions: one take, several takes of one shot,
a re-roll with another seed, peak memory. Beside each ratio of times stands the one that counting
operations allows. diffusers' pipeline normalises its motion modules over all frames and not, as the
published code does, over each: its pictures differ, its work does not.
"""

import argparse
import gc
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .bench_levels import level_ratios
from .bench_subjects import Animatic, Shot, Stock, write_sd15
from .device import Plan, default_plan, library_versions, release_memory, synchronise
from .errors import EngineError
from .parts import Parts

MINI = Path(__file__).parents[1] / "presets" / "blockout-mini"
# Side in pixels, frames.
SIZES = {"mini": (128, 16), "sd15": (512, 16)}
SUBJECTS: dict[str, Any] = {"animatic": Animatic, "diffusers": Stock}
MEASURED = ("diffusers", "animatic", "animatic-uncached")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write or print JSON."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        plan = default_plan(options.device)
        if plan.dtype == "bfloat16":
            # The engine's autoencoder would compute in float32 all the same, diffusers' would not.
            plan = replace(plan, dtype="float32")
    except EngineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    side, frames = SIZES[options.size]
    side, frames = options.side or side, options.frames or frames
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        checkpoint = options.model or (MINI if options.size == "mini" else folder / "sd15")
        if not checkpoint.exists():
            _say(f"Writing random weights to {checkpoint} ...")
            write_sd15(checkpoint, side, frames, plan.torch_device)
            release_memory(plan.torch_device)
        shot = Shot(checkpoint, folder, side, frames, options.steps)
        if options.memory_of:
            json.dump(_memory(options.memory_of, shot, plan), sys.stdout)
            return 0
        result = measure(shot, plan, options.takes, options.repeats)
        if not options.no_memory:
            result["memory"] = {
                name: _memory_in_a_process(name, checkpoint, options) for name in MEASURED
            }
    print(table(result))
    text = json.dumps(result, indent=1)
    if options.json is None:
        print(text)
    else:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


def measure(shot: Shot, plan: Plan, takes: int, repeats: int) -> dict[str, Any]:
    """All times in seconds, the least of ``repeats``, the two subjects in turn; see ``table``."""
    _say("Loading ...")
    ours, stock = Animatic(shot, plan), Stock(shot, plan)
    parts = ours.engine.parts
    work, limit = _work(parts, shot), _matmul_tflops(plan)
    steps, shot_steps = shot.steps, shot.request["sampling"]
    shot_steps["steps"] = shot.steps = 1
    ours.take(1), stock.take(1)  # what is only made once is made here
    shot_steps["steps"] = shot.steps = steps
    times: dict[str, dict[str, list[float]]] = {
        name: {"take": [], "takes": [], "again": []} for name in SUBJECTS
    }
    for turn in range(repeats):
        _say(f"Round {turn + 1} of {repeats} ...")
        for name, subject in (("diffusers", stock), ("animatic", ours)):
            spent = times[name]
            spent["take"].append(_seconds(partial(subject.take, 1), plan))
            spent["again"].append(_seconds(partial(subject.again, 2), plan))
    if takes > 1:
        _say(f"{takes} takes ...")
        times["diffusers"]["takes"].append(_seconds(lambda: stock.takes(takes), plan))
        times["animatic"]["takes"].append(_seconds(lambda: ours.takes(takes), plan))
        times["animatic"]["lockstep"] = [_seconds(lambda: ours.lockstep(takes), plan)]
    _say("What changes of rounding alone would save ...")
    levels = level_ratios(parts, shot.frames, shot.side, plan, repeats, _seconds)
    least = {
        name: {what: min(each) for what, each in spent.items() if each}
        for name, spent in times.items()
    }
    _say("The same bits with and without what is kept ...")
    ours.take(1)
    kept = ours.again(2)
    same = np.array_equal(kept, ours.uncached(2))
    return {
        "machine": _machine(plan),
        "versions": library_versions(),
        "shot": {"side": shot.side, "frames": shot.frames, "steps": steps, "takes": takes},
        "model": shot.request["checkpoint"]["name"],
        "plan": {"device": plan.device, "dtype": plan.dtype, "threads": plan.threads}
        | {"compiled": plan.compiled, "channels_last": plan.channels_last},
        "seconds": least,
        "work_tflop": work,
        "limit_tflops": limit,
        "share_of_limit": {
            name: _whole(work, steps) / limit / least[name]["take"] for name in SUBJECTS
        },
        "bound": {
            "again": _whole(work, steps) / _whole(work, steps, control=False),
            "takes": takes
            * _whole(work, steps)
            / (takes * _whole(work, steps, control=False) + steps * work["control"]),
        },
        "same_bits_cached": bool(same),
        "preview_share": ours.preview_share(3),
        "levels": levels,
    }


def expected(result: dict[str, Any]) -> list[tuple[str, bool]]:
    """What a run should show, in words, and whether this one did."""
    ours, stock = (result["seconds"][name] for name in ("animatic", "diffusers"))
    ratios = {what: stock[what] / ours[what] for what in ("take", "again", "takes") if what in ours}
    share, bound = result["preview_share"], result["bound"]
    lines = [
        ("the same bits with and without what is kept", result["same_bits_cached"]),
        (f"never slower for one take ({ratios['take']:.2f})", ratios["take"] >= 1),
        (f"previews under 3% of the time ({100 * share:.1f}%)", share < 0.03),
    ]
    for what, words in (("again", "a re-roll"), ("takes", f"{result['shot']['takes']} takes")):
        if what in ratios:
            held = ratios[what] >= 0.9 * bound[what]
            told = f"({ratios[what]:.2f} of {bound[what]:.2f})"
            lines.append((f"{words}: nine tenths of what operations allow {told}", held))
    if result["plan"]["device"] != "cpu":
        lines.append((f"one take twice as fast ({ratios['take']:.2f})", ratios["take"] >= 2))
    return lines


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    shot, seconds, bound = result["shot"], result["seconds"], result["bound"]
    ours, stock = seconds["animatic"], seconds["diffusers"]
    rows = [("one take", "take", 1.0), ("a re-roll with another seed", "again", bound["again"])]
    if "takes" in ours:
        rows.append((f"{shot['takes']} takes of one shot", "takes", bound["takes"]))
    lines = [
        f"{result['model']}, {shot['frames']} frames of {shot['side']}x{shot['side']}, "
        f"{shot['steps']} steps; {result['machine']}, {result['plan']['dtype']}",
        "",
        "| | diffusers, s | Animatic, s | ratio | by operations alone |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, what, most in rows:
        ratio = stock[what] / ours[what]
        lines.append(
            f"| {name} | {stock[what]:.2f} | {ours[what]:.2f} | {ratio:.2f} | {most:.2f} |"
        )
    if "lockstep" in ours:
        ratio = stock["takes"] / ours["lockstep"]
        lines.append(
            f"| the same, in lockstep (nothing kept) | {stock['takes']:.2f} | "
            f"{ours['lockstep']:.2f} | {ratio:.2f} | {bound['takes']:.2f} |"
        )
    memory = result.get("memory")
    if memory:
        stock_mb, kept, bare = (memory[name]["peak_mb"] for name in MEASURED)
        lines += [
            f"| peak memory over the loaded models, MB | {stock_mb:.0f} | {kept:.0f} | | |",
            f"| the same, no residuals kept | {stock_mb:.0f} | {bare:.0f} | | |",
        ]
    share = result["share_of_limit"]
    lines += [
        "",
        f"Cached and uncached: {'the same bits' if result['same_bits_cached'] else 'OTHER BITS'}. "
        f"Previews: {100 * result['preview_share']:.1f}% of a take. "
        f"A large matrix product reaches {result['limit_tflops']:.3g} TFLOP/s here; one take does "
        f"{100 * share['animatic']:.0f}% of that, diffusers' {100 * share['diffusers']:.0f}%.",
        "",
        "A step of the UNet, times as fast as the plain one: "
        + "; ".join(f"{name} {ratio:.2f}" for name, ratio in result["levels"].items())
        + ".",
        "",
        *(
            f"- {'as expected' if met else 'NOT AS EXPECTED'}: {words}"
            for words, met in expected(result)
        ),
    ]
    return "\n".join(lines)


def _whole(work: dict[str, float], steps: int, control: bool = True) -> float:
    """TFLOP of a take."""
    return steps * (work["unet"] + control * work["control"]) + work["decode"]


@torch.inference_mode()
def operations(models: Mapping[str, Any], tokens: int, side: int, frames: int) -> dict[str, float]:
    """TFLOP (2 for each product and sum) of one step's UNet and control, and of decoding a clip.

    ``models`` are "unet" (the joined one), "control" and "vae" on the meta device, where nothing is
    computed; ``tokens`` is the length of a prompt, ``side`` that of a frame in pixels.
    """

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta")

    unet, encoder, vae = models["unet"], models["control"], models["vae"]
    text = empty(2 * frames, tokens, unet.config.cross_attention_dim)
    small = side // 2 ** (len(vae.config.block_out_channels) - 1)
    latents, guide = empty(2, 4, frames, small, small), empty(1, 3, frames, side, side)
    t = torch.tensor(601, device="meta")
    calls: dict[str, Callable[[], Any]] = {
        "unet": lambda: unet(latents, t, encoder_hidden_states=text),
        "control": lambda: encoder(latents, t, text, guide, conditioning_mask=guide[:, :1]),
        "decode": lambda: vae.decode(latents[0].transpose(0, 1)),
    }
    work = {}
    for name, call in calls.items():
        # The fused kernels of attention are not all counted.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
            call()
        work[name] = counted.get_total_flops() / 1e12
    return work


def _work(parts: Parts, shot: Shot) -> dict[str, float]:
    models = {"unet": parts.unet, "control": parts.control("depth"), "vae": parts.vae}
    with torch.device("meta"):
        empty = {name: type(model).from_config(model.config) for name, model in models.items()}
    tokens = parts.text_encoder.config.max_position_embeddings
    return operations(empty, tokens, shot.side, shot.frames)


def _matmul_tflops(plan: Plan) -> float:
    """What a large matrix product reaches: the limit that is in reach here."""
    side = 1024 if plan.device == "cpu" else 8192
    a = torch.randn(side, side, device=plan.torch_device).to(plan.torch_dtype)
    least = min(_seconds(lambda: a @ a, plan) for _ in range(8))
    return 2 * side**3 / least / 1e12


def _seconds(call: Callable[[], object], plan: Plan) -> float:
    # One thread's own time is the same on a busy machine, where a wall clock's is not.
    now = time.process_time if plan.device == "cpu" and plan.threads == 1 else time.perf_counter
    synchronise(plan.torch_device)
    clock = now()
    call()
    synchronise(plan.torch_device)
    return now() - clock


def _memory(name: str, shot: Shot, plan: Plan) -> dict[str, float]:
    """What one take needs beyond the loaded models, in a process of its own."""
    subject = SUBJECTS[name.partition("-")[0]](shot, plan)
    call = subject.uncached if name == "animatic-uncached" else subject.take
    gc.collect()
    if plan.torch_device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call(1)
        peak = torch.cuda.max_memory_allocated() - before
    else:
        before = psutil.Process().memory_info().rss
        call(1)
        peak = _peak_resident() - before
    return {"models_mb": before / 1e6, "peak_mb": peak / 1e6}


def _peak_resident() -> int:
    """The most bytes of memory that this process has had at once."""
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return memory.peak_wset
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _memory_in_a_process(
    name: str, checkpoint: Path, options: argparse.Namespace
) -> dict[str, float]:
    _say(f"Peak memory of {name} ...")
    program = [sys.executable, "-m", "animatic.engine.bench", "--memory-of", name]
    program += ["--model", str(checkpoint), "--size", options.size]
    program += ["--steps", str(options.steps)]
    program += ["--threads", str(options.threads)]
    for option in ("device", "side", "frames"):
        if getattr(options, option) is not None:
            program += [f"--{option}", str(getattr(options, option))]
    done = subprocess.run(program, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _machine(plan: Plan) -> str:
    if plan.torch_device.type == "cuda":
        return torch.cuda.get_device_name(plan.torch_device)
    if plan.threads == 1:
        return f"{platform.machine()} {plan.device}, one thread, its own seconds"
    return f"{platform.machine()} {plan.device}, {plan.threads} threads"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="animatic bench engine", description=__doc__)
    add = parser.add_argument
    add("--size", choices=list(SIZES), default="mini", help="sd15: full size, random weights")
    add("--model", type=Path, metavar="DIR", help="a checkpoint folder in place of the size's own")
    add("--device", help="cuda, mps or cpu (default: the best one here)")
    add("--side", type=int, help="pixels (default: 128, or 512 for sd15)")
    add("--frames", type=int, help="default: 16")
    add("--steps", type=int, default=8, help="default: 8")
    add("--takes", type=int, default=4, help="takes of one shot (default: 4; 1 leaves them out)")
    add("--repeats", type=int, default=3, help="the least time of these counts (default: 3)")
    add("--threads", type=int, default=torch.get_num_threads(), help="of a CPU")
    add("--no-memory", action="store_true", help="leave peak memory out")
    add("--json", type=Path, metavar="FILE", help="write the figures there, not to the screen")
    add("--memory-of", choices=MEASURED, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
