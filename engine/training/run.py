"""A training folder, the models in it, and what training in it was asked for.

Folder: ``stills/``, ``clips/`` and ``held_out/`` hold shards of pictures, ``parts/`` the averaged
weights each stage has finished (float32), ``<stage>.pt`` what a stage needs to go on.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, MotionAdapter, UNet2DConditionModel, UNet2DModel
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from .. import original
from ..checkpoint import CheckpointInfo, read_info, read_json
from ..errors import EngineError
from ..evaluation.eight_bits import read_weights
from ..evaluation.estimator import build_estimator
from ..lora import find_targets, merge, read_lora
from ..vae import VAE_CLASSES
from . import architecture, together
from .architecture import ModelSize
from .captions import MOVES, known_words
from .data import Shards
from .diffusion import Frozen
from .export import (
    EVALUATION_FOLDERS,
    FEW_STEPS,
    GUIDE_FOLDERS,
    MODEL_FOLDERS,
    PER_FRAME,
    describe,
    mean_weights,
    strengthen,
    write_checkpoint,
)
from .image import Teaching
from .image_prompt import ADAPTER, ENCODER, build_image_encoder
from .loop import LoopConfig
from .recipe import Recipe, entry, loop_config, model_size, teaching
from .vocabulary import build_tokenizer

# Heads of AnimateDiff's motion modules, and widths of ControlNet's pyramid, beside any base.
_HEADS, _WIDTHS = 8, (16, 32, 96, 256)
_CLASSES: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "motion_adapter": MotionAdapter,
    "text_encoder": CLIPTextModel,
    **dict.fromkeys(GUIDE_FOLDERS.values(), SparseControlNetModel),
    **dict.fromkeys(EVALUATION_FOLDERS, SparseControlNetModel),
    "evaluation/depth_estimator": UNet2DModel,
    ENCODER: CLIPVisionModelWithProjection,
}


def names_move(move: str) -> Callable[[str], bool]:
    """Whether a caption names a camera move, in any of the wordings that our captions have."""
    wordings = MOVES.get(move, (move,))
    return lambda caption: any(wording in caption.lower() for wording in wordings)


# Parts that stages leave weights of, and export writes.
_AVERAGED = (*MODEL_FOLDERS, ENCODER, *EVALUATION_FOLDERS)

# Of what stands where, which ray-cast blockouts have.
_NO_REGIONS = " Other clips have no regions: grounding = 0 and recognition = 0 in the recipe."


@dataclass(frozen=True)
class Run:
    """A training folder and how to train in it.

    ``base`` is a checkpoint folder whose parts stand in for those that the training folder does not
    have (yet), ``clips`` a folder of clips to train on in place of ray-cast blockouts.
    """

    folder: Path
    recipe: Recipe
    minutes: float | None = None
    base: Path | None = None
    clips: Path | None = None
    move: str | None = None
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @cached_property
    def size(self) -> ModelSize:
        """The shape of a model made from nothing, and the size of ray-cast pictures."""
        return model_size(self.recipe)

    def config(self, stage: str) -> LoopConfig:
        """The loop's settings for a stage."""
        # Processes that train together see batches of their own.
        seed = self.seed + 1_000_003 * together.number()
        return loop_config(self.recipe, stage, self.minutes, seed)

    def teaching(self, stage: str, guides: Mapping[str, float] | None = None) -> Teaching:
        """What a stage is shown; ``guides`` replaces the recipe's."""
        if guides is None:
            guides = entry(self.recipe, stage, "guides")
        return teaching(self.recipe, stage, guides)

    def tokenizer(self) -> CLIPTokenizer:
        """The base's tokenizer, or the small model's own, the same every time."""
        if self.base is not None:
            return CLIPTokenizer.from_pretrained(self.base / "tokenizer", local_files_only=True)
        return build_tokenizer(self.size.vocabulary, self.size.text_length)

    def scheduler(self) -> DDIMScheduler:
        """The noise schedule that is trained under, and that the checkpoint gets.

        Beside motion modules it is the base's own. A bare image model gets AnimateDiff's linear
        betas in place of Stable Diffusion's.
        """
        if self.base is None:
            return architecture.build_scheduler(self.size.prediction_type, self.size.zero_snr)
        if self._published and not (self.base / "scheduler").is_dir():
            return original.published_schedule()
        stored = DDIMScheduler.from_pretrained(self.base / "scheduler", local_files_only=True)
        if self._base_part("motion_adapter"):
            return stored
        return architecture.build_scheduler(stored.config.prediction_type)

    @property
    def shared_noise(self) -> int:
        """Of the noise that is trained under (see ``CheckpointInfo``), as the noise schedule is:
        beside motion modules the base's own, with a bare image model none.
        """
        if self.base is None:
            return self.size.shared_noise
        return int(self._card.get("shared_noise", 0))

    @property
    def timestep_shift(self) -> float:
        """How far the card moves LCM's steps: as the base's does, or else as the recipe says."""
        told = self._card or self.recipe["export"]
        return float(told.get("timestep_shift", 1.0))

    @property
    def _card(self) -> dict[str, Any]:
        """What the base says of itself."""
        stored = self.base / "animatic.json" if self.base else None
        if stored is None or not stored.is_file():
            return {}
        card: dict[str, Any] = read_json(stored, "the description of an Animatic checkpoint")
        return card

    @cached_property
    def _published(self) -> dict[str, Path]:
        """The base's published files (see ``checkpoint``), by the parts that they stand in for."""
        if self.base is None or "files" not in self._card:
            return {}
        info = read_info(self.base)
        told = dict.fromkeys(("unet", "vae", "text_encoder"), "base") | {"motion_adapter": "motion"}
        told |= {GUIDE_FOLDERS[guide]: part for guide, part in info.guides.items()}
        return {name: info.path(part) for name, part in told.items() if part in info.files}

    def _base_part(self, name: str) -> Path | None:
        if name in self._published or self.base is None:
            return self._published.get(name)
        return self.base / name if (self.base / name).exists() else None

    def find(self, name: str) -> Path | None:
        """The folder of a part, or the file of a LoRA: as its stage left it, or else the base's,
        whose part may be a published file; None: in neither.
        """
        own = self.folder / "parts" / name
        return own if own.exists() else self._base_part(name)

    def part(self, name: str, required: bool = True) -> Any:
        """A part as ``find`` finds it, in float32, or untrained where that is allowed.

        Raises FileNotFoundError where ``required`` and there is none.
        """
        place = self.find(name)
        if place is None and (required or (self.base and name in ("unet", "vae", "text_encoder"))):
            raise FileNotFoundError(
                f"{self.folder / 'parts' / name} is not there yet: finish the stage that trains "
                f"{name} first, or name a checkpoint that has it with --base."
            )
        if place is not None:
            return self._read(name, place).to(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self._build(name).to(self.device)

    def _read(self, name: str, place: Path) -> Any:
        if place.is_file():
            return self._read_published(name, place)
        config = json.loads((place / "config.json").read_text("utf-8"))
        cls = _CLASSES.get(name) or VAE_CLASSES[config["_class_name"]]
        if name in EVALUATION_FOLDERS:
            model = cls.from_config(config)
            model.load_state_dict(read_weights(place), strict=name != PER_FRAME)
            return model
        return cls.from_pretrained(
            place, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
        )

    def _read_published(self, name: str, file: Path) -> Any:
        """A part as the engine has it: the domain adapter is merged into the image model."""
        if name == "motion_adapter":
            return original.load_motion(file, torch.float32)
        if name in GUIDE_FOLDERS.values():
            return original.load_control(file, torch.float32)
        names = ("unet", "vae", "text_encoder")
        models = original.load_base(file, torch.float32, torch.float32)
        loaded: dict[str, Any] = dict(zip(names, models, strict=True))
        info = read_info(file.parent)
        if "adapter" in info.files:
            adapter = info.path("adapter")
            changes = read_lora(adapter)
            targets = find_targets(loaded, changes, adapter, info.name)
            merge(changes, targets, info.scales["adapter"])
        return loaded[name]

    def _build(self, name: str) -> Any:
        size = self.size
        if name == "vae":
            return architecture.build_vae(size)
        if name == "unet":
            return architecture.build_unet(size)
        if name == "evaluation/depth_estimator":
            return build_estimator(self.size.native)
        if name == ENCODER:
            return build_image_encoder(**self.recipe["image-encoder"])
        if name == "text_encoder":
            return architecture.build_text_encoder(size, self.tokenizer())
        unet = self.part("unet", False).cpu()
        heads, widths = (_HEADS, _WIDTHS) if self.base else (size.heads, size.condition_widths)
        if name == "motion_adapter":
            return architecture.build_motion_adapter(unet, heads)
        adapter = self.find("motion_adapter")
        if adapter is not None and adapter.is_dir():
            stored = json.loads((adapter / "config.json").read_text("utf-8"))
            heads = stored["motion_num_attention_heads"]
        guide = next(guide for guide, folder in GUIDE_FOLDERS.items() if folder == name)
        return architecture.build_sparsectrl(unet, guide, heads, widths)

    def frozen(self) -> Frozen:
        """The image model and all around it, which take no gradient."""
        vae, text_encoder, unet = (self.part(n) for n in ("vae", "text_encoder", "unet"))
        for model in (vae, text_encoder, unet):
            model.eval().requires_grad_(False)
        return Frozen(
            vae, text_encoder, unet, self.tokenizer(), self.scheduler(), self.shared_noise
        )

    def stills(self) -> Shards:
        """Pictures of stills, for the autoencoder. Raises FileNotFoundError without any."""
        data = Shards(self.folder / "stills", ("colour",), self.device)
        if not len(data):
            raise FileNotFoundError(f"There are no stills in {self.folder}: run stage data first.")
        return data

    def shards(
        self, kind: str, guides: tuple[str, ...] = ("depth", "lineart"), move: str | None = None
    ) -> tuple[Shards, Shards]:
        """The stills or clips that have latents and these guides, and those held out.

        With ``move`` only clips whose caption names it. Raises FileNotFoundError for an empty set.
        """
        fields = ("latents", *(guide for guide in guides if guide != "render"))
        wanted = names_move(move) if move else None
        data = Shards(self.folder / kind, fields, self.device, wanted)
        held_out = Shards(self.folder / "held_out" / kind, ("colour", *fields), self.device)
        if not len(data) or not len(held_out):
            what = f"with {', '.join(fields)}" + (f" whose caption names {move!r}" if move else "")
            raise FileNotFoundError(
                f"There are no {kind} {what} in {self.folder}: run the stages data and encode "
                "first, and look whether the clips have these guides."
                + (_NO_REGIONS if "regions" in fields else "")
            )
        return data, held_out

    def keep(self, models: Mapping[str, Any]) -> None:
        """Write finished parts."""
        for name, model in models.items() if together.leads() else ():
            model.save_pretrained(self.folder / "parts" / name)

    def check_export(self, means: Mapping[str, float], strengths: Mapping[str, float]) -> None:
        """Refuse now what ``export`` could not write after hours of training.

        Raises EngineError for a base whose card is broken, a mean of a part that it does not have,
        a share outside 0 to 1, or a strength that is none of a guide or not above 0.
        """
        if self._card and self.base is not None:
            read_info(self.base)
        for name, share in means.items():
            if name not in _AVERAGED or self._base_part(name) is None:
                raise EngineError(
                    f"There is no mean of {name} to write: the checkpoint named with --base has to "
                    f"have it, and it has to be one of {', '.join(_AVERAGED)}."
                )
            if not 0 <= share <= 1:
                raise EngineError(f"The share of {name} is {share:g}: give one from 0 to 1.")
        for guide, factor in strengths.items():
            if guide not in GUIDE_FOLDERS or not 0 < factor < float("inf"):
                raise EngineError(
                    f"There is no strength {factor:g} of {guide} to write: name one of "
                    f"{', '.join(GUIDE_FOLDERS)}, and a factor above 0."
                )

    def export(
        self,
        target: Path,
        guidance: float | None = None,
        shard_size: str = "10GB",
        means: Mapping[str, float] | None = None,
        strengths: Mapping[str, float] | None = None,
    ) -> None:
        """Write the checkpoint folder: what was trained, in half precision, and the base's rest.

        ``means`` gives parts the share of what was trained in them; the rest are the base's weights
        (see ``mean_weights``). ``strengths`` multiplies what a guide's encoder says (see
        ``strengthen``). Raises EngineError as ``check_export`` does, and where one was not trained.
        """
        self.check_export(means or {}, strengths or {})
        trained = [n for n in _AVERAGED if (self.folder / "parts" / n).is_dir()]
        # The folder has all parts in diffusers' layout, and one form of each.
        parts = {name: self.part(name) for name in dict.fromkeys((*trained, *self._published))}
        for name, share in (means or {}).items():
            before = self._base_part(name)
            if name not in trained or before is None:
                raise EngineError(f"There is no mean of {name} to write: it was not trained.")
            mean_weights(parts[name], self._read(name, before).to(self.device), share)
        for guide, factor in (strengths or {}).items():
            name = GUIDE_FOLDERS[guide]
            parts.setdefault(name, self.part(name))
            strengthen(parts[name], factor)
        if self.find("motion_adapter") is None and self.base is None:
            # A model without motion training still needs the folder: silent motion modules.
            parts["motion_adapter"] = self.part("motion_adapter", False)
        about = self._about()
        if guidance is not None:
            about["defaults"]["guidance"] = guidance
        fixed: dict[str, Any] = {"scheduler": self.scheduler()}
        if self.base is None:
            fixed["tokenizer"] = self.tokenizer()
        made = {name: self.folder / "parts" / name for name in (FEW_STEPS, ADAPTER)}
        files = {name: path for name, path in made.items() if path.is_file()}
        if FEW_STEPS in files:
            taken = entry(self.recipe, "few-steps", "for_steps")
            about["few_steps"] = {"lora": files[FEW_STEPS].stem, "steps": taken}
        if ADAPTER in files:
            about["image_prompt"] = {"encoder": ENCODER, "adapter": ADAPTER}
        write_checkpoint(target, about, parts, fixed, self.base, shard_size, files)

    def _made_for(self, info: CheckpointInfo | None) -> tuple[dict[str, Any], float]:
        """Native size, frames and rate, and the width of lines: as the base's card has them, but
        for what was trained on here and for a rate that the recipe names.
        """
        size, lineart_width = self.size, self.size.lineart_width
        native: dict[str, Any] = {"width": size.native, "height": size.native}
        native |= {"frames": size.frames, "fps": size.fps}
        shard = next(iter(sorted((self.folder / "clips").glob("*.pt"))), None)
        clip = torch.load(shard, weights_only=True, mmap=True) if shard else {}
        if info is not None:
            native = dict(info.native)
            learned = (self.folder / "parts" / GUIDE_FOLDERS["lineart"]).is_dir()
            # Clips that were brought in, which have no regions, have lines as the base takes them.
            if not learned or (clip and "regions" not in clip):
                lineart_width = info.lineart_width
        if clip:
            _, native["frames"], _, native["height"], native["width"] = clip["colour"].shape
        native["fps"] = self.recipe["model"].get("fps", native["fps"])
        return native, lineart_width

    def _about(self) -> dict[str, Any]:
        card = self._card
        info = read_info(self.base) if card and self.base is not None else None
        native, lineart_width = self._made_for(info)
        told = self.recipe["export"] | {"timestep_shift": self.timestep_shift}
        about = describe(self.size.name, **native, lineart_width=lineart_width, **told)
        about["shared_noise"] = self.shared_noise
        if self.base is None:
            about["vocabulary"] = known_words()
        kept = ("name", "licence", "defaults", "few_steps", "vocabulary")
        about |= {key: card[key] for key in kept if key in card}
        if info is not None and self.base is not None:
            prompt = {k: p.relative_to(self.base).as_posix() for k, p in info.image_prompt.items()}
            brought = {"image_prompt": prompt, "image_guides": info.image_guides}
            about |= {key: places for key, places in brought.items() if places}
        if self.base is not None and not card:
            about["name"] = self.base.name
        return about
