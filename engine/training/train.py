"""The stages in order, each reading what the one before left in the training folder.

Folder: ``stills/``, ``clips/`` and ``held_out/`` hold rendered shards, ``parts/`` the averaged
weights each stage has finished (float32), ``<stage>.pt`` what a stage needs to go on.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from ..motion import use_reference_normalisation
from ..vae import Vae, encode
from . import architecture
from .architecture import GUIDE_FOLDERS, ModelSize
from .clips import train_motion, train_sparsectrl
from .data import Shards, add_latents, write_shard
from .image import pixel_condition, skip_motion, start_condition_path, train_image
from .loop import LoopConfig
from .measure import still_figures
from .vae import train_vae

STILLS_A_SHARD, CLIPS_A_SHARD = 256, 16
# Held-out scenes have seeds of their own, far from those of the training shards.
HELD_OUT_STILLS, HELD_OUT_CLIPS = 1_000_000, 1_000_001


@dataclass(frozen=True)
class Run:
    """A training folder and how to train in it."""

    folder: Path
    size: ModelSize
    minutes: float
    seed: int = 0
    stills: int = 60
    clips: int = 40
    crop: int = 64
    steps: int | None = None
    batch: int | None = None
    learning_rate: float | None = None

    def config(self, learning_rate: float, batch: int, **more: Any) -> LoopConfig:
        """The loop's settings: a stage's own, but for what was asked for."""
        config = LoopConfig(
            self.minutes, learning_rate, batch, steps=self.steps, seed=self.seed, **more
        )
        if self.steps:
            config = replace(config, warmup=max(1, min(config.warmup, self.steps // 5)))
        if self.batch:
            config = replace(config, batch=self.batch)
        if self.learning_rate:
            config = replace(config, learning_rate=self.learning_rate)
        return config

    def tokenizer(self) -> CLIPTokenizer:
        """The tokenizer of this size; the same every time."""
        return architecture.build_tokenizer(self.size)

    def part(self, name: str, required: bool = True) -> Any:
        """A model as its stage left it, or untrained where that is allowed.

        Raises FileNotFoundError where ``required`` and the stage has not finished.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            builders: dict[str, Callable[[], nn.Module]] = {
                "vae": lambda: architecture.build_vae(self.size),
                "unet": lambda: architecture.build_unet(self.size),
                "motion_adapter": lambda: architecture.build_motion_adapter(self.size),
                "text_encoder": lambda: architecture.build_text_encoder(
                    self.size, self.tokenizer()
                ),
            }
            for guide, folder in GUIDE_FOLDERS.items():
                builders[folder] = partial(architecture.build_sparsectrl, self.size, guide)
            model: Any = builders[name]()
        path = self.folder / "parts" / name
        if path.exists():
            return type(model).from_pretrained(path)
        if required:
            raise FileNotFoundError(
                f"{path} is not there yet: finish the stage that trains {name} first."
            )
        return model

    def keep(self, models: Mapping[str, Any]) -> None:
        """Write finished parts."""
        for name, model in models.items():
            model.save_pretrained(self.folder / "parts" / name)


def render_data(run: Run) -> None:
    """Render the stills, the clips and the held-out scenes that are not there yet."""
    side, width = run.size.native, run.size.lineart_width
    held_out = run.folder / "held_out"
    write_shard(held_out / "stills", HELD_OUT_STILLS, 64, 1, side, width)
    write_shard(held_out / "clips", HELD_OUT_CLIPS, 8, run.size.frames, side, width)
    for number in range(run.stills):
        write_shard(run.folder / "stills", number, STILLS_A_SHARD, 1, side, width)
    for number in range(run.clips):
        # Clips are other scenes than the stills.
        seed = 100_000 + number
        write_shard(run.folder / "clips", seed, CLIPS_A_SHARD, run.size.frames, side, width)


def _encoded(run: Run, kind: str) -> tuple[Shards, Shards]:
    """The stills or clips that have latents, and those held out."""
    fields = ("latents", "depth", "lineart")
    data = Shards(run.folder / kind, fields)
    held_out = Shards(run.folder / "held_out" / kind, ("colour", *fields))
    if not len(data) or not len(held_out):
        raise FileNotFoundError(f"No {kind} with latents in {run.folder}: run stage encode first.")
    return data, held_out


def stage_vae(run: Run) -> None:
    """Train the autoencoder."""
    data = Shards(run.folder / "stills", ("colour",))
    config = run.config(2e-3, 16, average=0.998)
    run.keep({"vae": train_vae(run.part("vae", False), data, run.folder, config, run.crop)})


def stage_encode(run: Run) -> None:
    """Encode whatever was rendered, held-out scenes first; other stages may run meanwhile."""
    vae = run.part("vae").eval().to(memory_format=torch.channels_last)
    for folder in (run.folder / "held_out", run.folder):
        for kind in ("stills", "clips"):
            add_latents(
                folder / kind,
                lambda pictures: encode(vae, pictures),
                mirror=kind == "stills",
            )


def stage_image(run: Run) -> None:
    """Train text encoder, image model and, dense on stills, the pixel guides' encoders."""
    vae = run.part("vae")
    data, held_out = _encoded(run, "stills")
    names = ("unet", "text_encoder", "sparsectrl_depth", "sparsectrl_lineart")
    modules = {name: run.part(name, False) for name in names}
    for guide in ("depth", "lineart"):
        encoder = modules[GUIDE_FOLDERS[guide]]
        if not (run.folder / "parts" / GUIDE_FOLDERS[guide]).exists():
            some = data.sample(random.Random(run.seed), 32)
            start_condition_path(encoder, pixel_condition(some[guide]))
        skip_motion(encoder)
    trained = train_image(
        modules,
        vae,
        run.tokenizer(),
        architecture.build_scheduler(run.size),
        data,
        held_out,
        run.folder,
        run.config(1e-3, 16, average=0.995),
    )
    averaged: dict[str, Any] = dict(trained)
    for name in names[2:]:
        whole = run.part(name, False)
        # Only the motion modules are missing, and they are still silent.
        whole.load_state_dict(averaged[name].state_dict(), strict=False)
        averaged[name] = whole
    run.keep(averaged)


def _frozen(run: Run) -> tuple[Vae, CLIPTextModel, nn.Module]:
    models = run.part("vae"), run.part("text_encoder"), run.part("unet")
    for model in models:
        model.eval().requires_grad_(False)
    return models


def stage_motion(run: Run) -> None:
    """Train the motion modules on clips, everything else frozen."""
    vae, text_encoder, unet = _frozen(run)
    data, held_out = _encoded(run, "clips")
    depth = run.part("sparsectrl_depth").eval().requires_grad_(False)
    adapter = train_motion(
        unet,
        run.part("motion_adapter", False),
        text_encoder,
        depth,
        vae,
        run.tokenizer(),
        architecture.build_scheduler(run.size),
        data,
        held_out,
        run.folder,
        run.config(1e-3, 1, average=0.99, sample_seconds=480),
    )
    run.keep({"motion_adapter": adapter})


def stage_sparsectrl(run: Run, guide: str) -> None:
    """Train one guide's encoder on clips with random keyframes, the video model frozen."""
    vae, text_encoder, unet = _frozen(run)
    data, held_out = _encoded(run, "clips")
    name = GUIDE_FOLDERS[guide]
    encoder = train_sparsectrl(
        unet,
        run.part("motion_adapter").eval().requires_grad_(False),
        text_encoder,
        run.part(name, False),
        guide,
        vae,
        run.tokenizer(),
        architecture.build_scheduler(run.size),
        data,
        held_out,
        run.folder,
        run.config(5e-4, 1, average=0.99, sample_seconds=480),
    )
    run.keep({name: encoder})


def measure(run: Run, guidance: float) -> dict[str, dict[str, float]]:
    """Figures of the finished image model on the held-out stills (see ``still_figures``)."""
    vae, text_encoder, unet = _frozen(run)
    modules = {"unet": unet, "text_encoder": text_encoder}
    for guide in ("depth", "lineart"):
        name = GUIDE_FOLDERS[guide]
        modules[name] = run.part(name).eval()
        use_reference_normalisation(modules[name])
    _, held_out = _encoded(run, "stills")
    batch = held_out.sample(random.Random(11), 32)
    scheduler = architecture.build_scheduler(run.size)
    return still_figures(modules, vae, run.tokenizer(), scheduler, batch, guidance)


def export(run: Run, target: Path, guidance: float) -> None:
    """Write the checkpoint folder, in half precision, from all parts that are finished."""
    parts = {
        name: run.part(name)
        for name in architecture.MODEL_FOLDERS
        if (run.folder / "parts" / name).exists()
    }
    # A model without motion training still needs the folder: silent motion modules.
    parts.setdefault("motion_adapter", run.part("motion_adapter", False))
    architecture.write_checkpoint(target, run.size, parts, run.tokenizer(), guidance)


STAGES: dict[str, Callable[[Run], None]] = {
    "data": render_data,
    "vae": stage_vae,
    "encode": stage_encode,
    "image": stage_image,
    "motion": stage_motion,
    "sparsectrl-depth": lambda run: stage_sparsectrl(run, "depth"),
    "sparsectrl-lineart": lambda run: stage_sparsectrl(run, "lineart"),
    "sparsectrl-render": lambda run: stage_sparsectrl(run, "render"),
}
