"""The stages in order, each reading what the one before left in the training folder."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from ..errors import EngineError
from ..motion import use_reference_normalisation
from ..vae import encode
from . import together
from .architecture import silence_motion
from .clip_folders import read_clips
from .clips import (
    ClipLoss,
    all_frames,
    diffusion_loss_of,
    motion_model,
    random_keyframes,
    train_on_clips,
)
from .data import add_latents, write_shard
from .diffusion import Frozen
from .estimator import train_estimator, write_lesson
from .export import FEW_STEPS, GUIDE_FOLDERS
from .few_steps import Consistency, own_steps_loss_of, take_steps
from .image import Emphasis, pixel_condition, skip_motion, start_condition_path, train_image
from .image_prompt import ADAPTER, ENCODER, train_image_prompt
from .low_rank import (
    add_lora,
    merge_lora,
    motion_attention,
    take_lora_out,
    whole_model,
    write_lora,
)
from .measure import still_figures
from .recipe import entry
from .run import Run
from .vae import train_decoder, train_vae

STILLS_A_SHARD, CLIPS_A_SHARD = 256, 16
# Held-out scenes have seeds of their own, far from those of the training shards.
HELD_OUT_STILLS, HELD_OUT_CLIPS = 1_000_000, 1_000_001


def render_data(run: Run) -> None:
    """Bring the clips that were named into the folder, or render the blockouts not there yet.

    Rendering ends when the recipe's count is reached, or ``run.minutes`` are over and there is a
    shard of each kind. Another ``run.seed`` makes other scenes, so that a later part of a training
    sees new ones.
    """
    if run.clips is not None:
        if together.leads():
            count = read_clips(run.clips, run.folder)
            print(f"data: {count} clips of {run.clips}, the first for the grids", flush=True)
        return
    end = time.monotonic() + 60 * run.minutes if run.minutes else float("inf")
    side, width, frames = run.size.native, run.size.lineart_width, run.size.frames
    places = entry(run.recipe, "data", "places")

    def shard(folder: Path, number: int, clips: int, frames: int) -> None:
        write_shard(folder, number, clips, frames, side, width, places, run.device)

    if together.leads():
        shard(run.folder / "held_out" / "stills", HELD_OUT_STILLS, 64, 1)
        shard(run.folder / "held_out" / "clips", HELD_OUT_CLIPS, 8, frames)
    first = 10_000 * (run.seed % 10)
    stills, clips = (entry(run.recipe, "data", kind) for kind in ("stills", "clips"))
    # Both kinds grow alike, so that neither is short when the time is over.
    tasks = [((k + 1) / stills, "stills", first + k) for k in range(stills)]
    # Clips are other scenes than the stills.
    tasks += [((k + 1) / clips, "clips", 100_000 + first + k) for k in range(clips)]
    for _, kind, number in sorted(tasks)[together.number() :: together.count()]:
        there = any((run.folder / kind).glob("*.pt"))
        if time.monotonic() < end or not there:
            count, length = {"stills": (STILLS_A_SHARD, 1), "clips": (CLIPS_A_SHARD, frames)}[kind]
            shard(run.folder / kind, number, count, length)


def stage_vae(run: Run) -> None:
    """Train the autoencoder."""
    data = run.stills()
    crop = entry(run.recipe, "vae", "crop")
    vae = run.part("vae", False)
    run.keep({"vae": train_vae(vae, data, run.folder, run.config("vae"), crop)})


def stage_decoder(run: Run) -> None:
    """Train the autoencoder's decoder alone, on clips: all latents stay what they are."""
    data, _ = run.shards("clips", ("colour",))
    crop, steadiness = (entry(run.recipe, "decoder", name) for name in ("crop", "steadiness"))
    config = run.config("decoder")
    run.keep({"vae": train_decoder(run.part("vae"), data, run.folder, config, crop, steadiness)})


def stage_encode(run: Run) -> None:
    """Encode whatever was rendered, held-out scenes first; other stages may run meanwhile."""
    vae = run.part("vae").eval().to(memory_format=torch.channels_last)
    for folder in (run.folder / "held_out", run.folder):
        for kind in ("stills", "clips"):
            add_latents(
                folder / kind, lambda pictures: encode(vae, pictures), kind == "stills", run.device
            )


def stage_image(run: Run) -> None:
    """Train text encoder, image model and, dense on stills, the guides' encoders, or those of them
    that the recipe says learn."""
    teaching = run.teaching("image")
    stressed = ("timestep_shift", "grounding", "recognition")
    emphasis = Emphasis(**{name: entry(run.recipe, "image", name) for name in stressed})
    data, held_out = run.shards("stills", (*teaching.guides, *emphasis.fields))
    encoders = {guide: GUIDE_FOLDERS[guide] for guide in teaching.guides}
    modules = {name: run.part(name, False) for name in ("unet", "text_encoder", *encoders.values())}
    learns = run.recipe["image"].get("learns", list(modules))
    if strange := set(learns) - set(modules):
        raise EngineError(
            f"[image] of the recipe has {sorted(strange)[0]} learn, which takes no part in it: "
            f"name some of {', '.join(modules)}."
        )
    for guide, name in encoders.items():
        if run.find(name) is None and guide != "render":
            some = data.sample(Random(run.seed), 32)
            start_condition_path(modules[name], pixel_condition(some[guide]))
        skip_motion(modules[name])
    trained = train_image(
        modules,
        learns,
        run.part("vae"),
        run.tokenizer(),
        run.scheduler(),
        data,
        held_out,
        run.folder,
        run.config("image"),
        teaching,
        emphasis,
    )
    averaged: dict[str, Any] = dict(trained)
    for name in set(encoders.values()) & set(learns):
        whole = run.part(name, False)
        # Only the motion modules are missing, and they stay as they were.
        whole.load_state_dict(averaged[name].state_dict(), strict=False)
        averaged[name] = whole
    run.keep(averaged)
    # Without temporal layers, the baseline that `animatic evaluate` compares with.
    if (depth := averaged.get("sparsectrl_depth")) is not None:
        silence_motion(depth)
        run.keep({"evaluation/per_frame_depth": depth})


def stage_motion(run: Run) -> None:
    """Train the motion modules on clips, everything else frozen."""
    teaching = run.teaching("motion", _trained_guides(run, "motion"))
    data, held_out = run.shards("clips", tuple(teaching.guides))
    frozen = run.frozen()
    adapter = run.part("motion_adapter", False)
    model = motion_model(frozen.unet, adapter)
    encoders = _frozen_encoders(run, teaching.guides)
    _save_memory(run, "motion", model)
    trained = train_on_clips(
        "motion", {"motion_adapter": adapter}, model, encoders, all_frames,
        frozen, data, held_out, run.folder, run.config("motion"), teaching,
        _loss_of(run, "motion", model, frozen), crop=entry(run.recipe, "motion", "crop"),
    )  # fmt: skip
    run.keep(trained)


def stage_sparsectrl(run: Run, guide: str) -> None:
    """Train one guide's encoder on clips with random keyframes, the video model frozen."""
    recognition = entry(run.recipe, "sparsectrl", "recognition")
    data, held_out = run.shards("clips", (guide, "regions") if recognition else (guide,))
    frozen = run.frozen()
    adapter = run.part("motion_adapter").eval()
    model = motion_model(frozen.unet, adapter).requires_grad_(False)
    encoder = run.part(GUIDE_FOLDERS[guide], False)
    _save_memory(run, "sparsectrl", model, encoder)
    trained = train_on_clips(
        f"sparsectrl_{guide}", {"encoder": encoder}, model, {guide: encoder}, random_keyframes,
        frozen, data, held_out, run.folder, run.config("sparsectrl"),
        run.teaching("sparsectrl", {guide: 1.0}), _loss_of(run, "sparsectrl", model, frozen),
        recognition=recognition, crop=entry(run.recipe, "sparsectrl", "crop"),
    )  # fmt: skip
    run.keep({GUIDE_FOLDERS[guide]: trained["encoder"]})


def stage_joint(run: Run) -> None:
    """Train the motion modules and the guides' encoders together, on clips with random keyframes.

    The papers train one after the other, so that motion modules fit encoders they never saw. Where
    both are at hand, each learns what the other carries from a keyframe to the frames beside it.
    On a share ``own_steps`` of the batches they learn in the model's own few steps, and then beside
    its LoRA for these (see ``own_steps_loss_of``).
    """
    recognition = entry(run.recipe, "joint", "recognition")
    teaching = run.teaching("joint")
    regions = ("regions",) if recognition else ()
    data, held_out = run.shards("clips", (*teaching.guides, *regions))
    frozen = run.frozen()
    adapter = run.part("motion_adapter", False)
    model = motion_model(frozen.unet, adapter)
    encoders = {guide: run.part(GUIDE_FOLDERS[guide]) for guide in teaching.guides}
    _save_memory(run, "joint", model, *encoders.values())
    learns = {"motion_adapter": adapter} | {GUIDE_FOLDERS[g]: e for g, e in encoders.items()}
    # Frames whose noise is the same differ by what they show alone: where all of it is, the model
    # reads motion off that difference, which in sampling is nothing but what it said before.
    loss = _loss_of(run, "joint", model, replace(frozen, shared_noise=0))
    own = entry(run.recipe, "joint", "own_steps")
    lora = run.find(FEW_STEPS) if own else None
    merged = merge_lora(model, lora, adapter) if lora else {}
    if own:
        counts = sorted(set(entry(run.recipe, "few-steps", "for_steps").values()))
        steadiness = entry(run.recipe, "joint", "steadiness")
        loss = own_steps_loss_of(model, frozen, counts, own, run.timestep_shift, steadiness, loss)
    trained = train_on_clips(
        "joint", learns, model, encoders, random_keyframes,
        frozen, data, held_out, run.folder, run.config("joint"), teaching, loss,
        recognition=recognition, crop=entry(run.recipe, "joint", "crop"),
    )  # fmt: skip
    take_lora_out(trained["motion_adapter"], merged)
    run.keep(trained)


def stage_estimator(run: Run) -> None:
    """Train the eye of `animatic evaluate`, on stills of its own."""
    lessons = run.folder / "lessons"
    wanted = entry(run.recipe, "estimator", "lessons")
    for number in range(together.number(), wanted, together.count()):
        write_lesson(lessons, number, run.size.native, run.device)
    together.wait()
    name = "evaluation/depth_estimator"
    vae = run.part("vae").eval().requires_grad_(False)
    config = run.config("estimator")
    run.keep({name: train_estimator(run.part(name, False), vae, lessons, run.folder, config)})


def stage_motionlora(run: Run) -> None:
    """Train a MotionLoRA for the camera move ``run.move``, everything else frozen."""
    if run.move is None:
        raise EngineError('Name the camera move of the MotionLoRA, for example --move "dolly in".')
    data, held_out = run.shards("clips", (), run.move)
    frozen = run.frozen()
    model = motion_model(frozen.unet, run.part("motion_adapter").eval())
    rank = entry(run.recipe, "motionlora", "rank")
    layers = add_lora(model, motion_attention(model), rank, run.seed)
    _save_memory(run, "motionlora", model)
    name = run.move.replace(" ", "_")
    trained = train_on_clips(
        f"motionlora_{name}", {"layers": layers}, model, {}, all_frames, frozen, data, held_out,
        run.folder, run.config("motionlora"), run.teaching("motionlora", {}),
    )  # fmt: skip
    if together.leads():
        path = run.folder / "motionlora" / f"{name}.safetensors"
        write_lora(model, layers, trained["layers"], path)


def stage_image_prompt(run: Run) -> None:
    """Train an image encoder and an IP-Adapter on stills, the image model frozen."""
    guides = _trained_guides(run, "image-prompt")
    data, held_out = run.shards("stills", ("colour", *guides))
    encoder = run.part(ENCODER, False)
    frozen = run.frozen()
    controls = {GUIDE_FOLDERS[g]: each for g, each in _frozen_encoders(run, guides).items()}
    for each in controls.values():
        skip_motion(each)
    # An adapter knows the encoder beside it alone.
    found = run.find(ENCODER)
    before = found.parent / ADAPTER if found else None
    encoder, layers = train_image_prompt(
        encoder, frozen, controls, data, held_out, run.folder, run.config("image-prompt"),
        run.teaching("image-prompt", guides), before if before and before.is_file() else None,
    )  # fmt: skip
    run.keep({ENCODER: encoder})
    if together.leads():
        layers.write(run.folder / "parts" / ADAPTER)


def stage_few_steps(run: Run) -> None:
    """Distil a LoRA with which the finished video model needs a few steps and no guidance."""
    teaching = run.teaching("few-steps", _trained_guides(run, "few-steps"))
    data, held_out = run.shards("clips", tuple(teaching.guides))
    frozen = run.frozen()
    model = motion_model(frozen.unet, run.part("motion_adapter").eval())
    layers = add_lora(model, whole_model(model), entry(run.recipe, "few-steps", "rank"), run.seed)
    encoders = _frozen_encoders(run, teaching.guides)
    _save_memory(run, "few-steps", model)
    with torch.no_grad():
        empty = frozen.text([""])
    for_steps, guidance, scale = (
        entry(run.recipe, "few-steps", name) for name in ("for_steps", "guidance", "scale")
    )
    steps, shift = next(iter(for_steps.values())), run.timestep_shift
    trained = train_on_clips(
        "few_steps", {"layers": layers}, model, encoders, random_keyframes,
        frozen, data, held_out, run.folder, run.config("few-steps"), teaching,
        Consistency(model, frozen.scheduler, empty, guidance, frozen.shared_noise, shift),
        lambda text, _, start, control: take_steps(
            model, frozen, text, start, control, steps, shift,
            torch.Generator().manual_seed(2), until=steps,
        )[0],
        crop=entry(run.recipe, "few-steps", "crop"),
    )  # fmt: skip
    if together.leads():
        write_lora(model, layers, trained["layers"], run.folder / "parts" / FEW_STEPS, scale)


def _trained_guides(run: Run, stage: str) -> dict[str, float]:
    """The guides of a stage's recipe that have an encoder already, with their shares."""
    shares: dict[str, float] = entry(run.recipe, stage, "guides")
    return {guide: share for guide, share in shares.items() if run.find(GUIDE_FOLDERS[guide])}


def _frozen_encoders(run: Run, guides: Iterable[str]) -> dict[str, Any]:
    return {g: run.part(GUIDE_FOLDERS[g]).eval().requires_grad_(False) for g in guides}


def _loss_of(run: Run, stage: str, model: Any, frozen: Frozen) -> ClipLoss:
    """The diffusion loss with the stress that the stage's recipe lays on its parts."""
    steadiness, shift = (entry(run.recipe, stage, n) for n in ("steadiness", "timestep_shift"))
    return diffusion_loss_of(model, frozen, steadiness, shift)


def _save_memory(run: Run, stage: str, *models: Any) -> None:
    if entry(run.recipe, stage, "checkpointing"):
        for model in models:
            # diffusers' own motion modules know no checkpointing.
            use_reference_normalisation(model).enable_gradient_checkpointing()


def measure(run: Run, guidance: float) -> dict[str, dict[str, float]]:
    """Figures of the finished image model on the held-out stills (see ``still_figures``)."""
    frozen = run.frozen()
    modules: dict[str, Any] = {"unet": frozen.unet, "text_encoder": frozen.text_encoder}
    for guide in ("depth", "lineart"):
        encoder = run.part(GUIDE_FOLDERS[guide]).eval()
        modules[GUIDE_FOLDERS[guide]] = use_reference_normalisation(encoder)
    _, held_out = run.shards("stills")
    batch = held_out.sample(Random(11), 32)
    return still_figures(modules, frozen.vae, frozen.tokenizer, frozen.scheduler, batch, guidance)


STAGES: dict[str, Callable[[Run], None]] = {
    "data": render_data,
    "vae": stage_vae,
    "encode": stage_encode,
    "decoder": stage_decoder,
    "image": stage_image,
    "motion": stage_motion,
    "sparsectrl-depth": lambda run: stage_sparsectrl(run, "depth"),
    "sparsectrl-lineart": lambda run: stage_sparsectrl(run, "lineart"),
    "sparsectrl-render": lambda run: stage_sparsectrl(run, "render"),
    "joint": stage_joint,
    "image-prompt": stage_image_prompt,
    "few-steps": stage_few_steps,
    "motionlora": stage_motionlora,
    "estimator": stage_estimator,
}


def train_all(run: Run) -> dict[str, float]:
    """Run the stages of the recipe's [shares] within ``run.minutes``; returns seconds by stage.

    What a stage leaves of its share, or takes beyond it, is spread over those after it; for what
    they take to start and to draw their last pictures, as much is kept as it took so far.
    """
    shares: dict[str, float] = run.recipe.get("shares", {})
    if unknown := set(shares) - set(STAGES):
        raise EngineError(f"[shares] names {', '.join(sorted(unknown))}: no such stage.")
    if run.minutes is None:
        raise EngineError("Say with --minutes how long all stages may take together.")
    stages = [stage for stage in STAGES if shares.get(stage)]
    end = time.monotonic() + 60 * run.minutes
    took = {}
    beside = 0.0
    for number, stage in enumerate(stages):
        began = time.monotonic()
        rest = sum(shares[later] for later in stages[number:])
        left = end - began - beside * len(stages[number:])
        # Each process has a clock of its own, and one that ends a step early leaves the others.
        minutes = together.agree(max(0.0, left) / 60 * shares[stage] / rest)
        print(f"{stage}: {minutes:.2f} minutes", flush=True)
        STAGES[stage](replace(run, minutes=minutes))
        together.wait()
        took[stage] = time.monotonic() - began
        if stage not in ("data", "encode"):
            beside = max(beside, took[stage] - 60 * minutes)
    return took
