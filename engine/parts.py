"""The parts of a loaded checkpoint, ready to compute."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    MotionAdapter,
    SchedulerMixin,
    SparseControlNetModel,
    UNet2DConditionModel,
    UNetMotionModel,
)
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from . import original
from .checkpoint import CheckpointInfo, check_part, content_hash, read_info, read_json
from .device import Plan
from .errors import EngineError
from .lora import LoraStack, find_targets, merge, read_lora
from .motion import set_motion_scale, use_reference_normalisation
from .vae import VAE_CLASSES, Vae

Progress = Callable[[int, int], None]


@dataclass
class Parts:
    """A checkpoint in memory. Control encoders are loaded when a request first needs them."""

    info: CheckpointInfo
    sha256: str
    plan: Plan
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: Vae
    unet: UNetMotionModel
    scheduler: SchedulerMixin
    loras: LoraStack
    controls: dict[str, SparseControlNetModel] = field(default_factory=dict)

    @property
    def latent_scale(self) -> int:
        """Pixels of the picture to one latent pixel, along one side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def max_frames(self) -> int:
        """The longest clip the motion modules have positions for."""
        return int(self.unet.config.motion_max_seq_length)

    def control(self, guide: str) -> SparseControlNetModel:
        """The control encoder for ``guide``. Raises EngineError where the checkpoint has none."""
        if guide not in self.info.guides:
            raise EngineError(
                f"The checkpoint {self.info.name} has no control encoder for {guide} guides; it "
                f"takes {', '.join(self.info.guides) or 'no guides'}. Choose one of these, or "
                "another checkpoint."
            )
        if guide not in self.controls:
            self.controls[guide] = self._load_control(self.info.guides[guide])
        return self.controls[guide]

    def _load_control(self, part: str) -> SparseControlNetModel:
        path, plan, unet = self.info.path(part), self.plan, self.unet.config
        if part in self.info.files:
            encoder = original.load_control(path, plan.torch_dtype, unet.num_attention_heads)
            encoder = encoder.to(plan.torch_device)
        else:
            encoder = _load_model(SparseControlNetModel, path, "a control encoder", plan)
        for entry in ("block_out_channels", "cross_attention_dim"):
            if encoder.config[entry] != unet[entry]:
                raise EngineError(
                    f"{path} does not fit the image model of {self.info.name}: its {entry} is "
                    f"{encoder.config[entry]}, the image model's is {unet[entry]}. Use a control "
                    "encoder made for this kind of model."
                )
        pyramid = encoder.config.conditioning_embedding_out_channels
        simplified = encoder.config.use_simplified_condition_embedding
        if not simplified and 2 ** (len(pyramid) - 1) != self.latent_scale:
            raise EngineError(
                f"{path} shrinks guides {2 ** (len(pyramid) - 1)} times, but the checkpoint's VAE "
                f"shrinks pictures {self.latent_scale} times; they are not of one model. Put the "
                "right control encoder there."
            )
        return use_reference_normalisation(encoder)


def load_parts(checkpoint_dir: Path, plan: Plan, progress: Progress) -> Parts:
    """Load a checkpoint folder onto the plan's device in its number type.

    ``progress(done, of)`` is called after each part. Raises EngineError naming the file at fault.
    """
    info = read_info(checkpoint_dir)
    folder = info.folder
    # Their bars write over the service's own progress.
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    steps = 5
    progress(0, steps)
    scheduler = _load_scheduler(info)
    tokenizer = _load_tokenizer(folder / "tokenizer")
    if "base" in info.files:
        image_path = info.path("base")
        image_unet, vae, text_encoder = original.load_base(image_path, plan.torch_dtype)
        for model in (image_unet, vae, text_encoder):
            nn.Module.to(model, plan.torch_device)
    else:
        text_encoder = _load_model(CLIPTextModel, folder / "text_encoder", "the text encoder", plan)
        progress(1, steps)
        vae = _load_vae(folder / "vae", plan)
        progress(2, steps)
        image_path = folder / "unet"
        image_unet = _load_model(UNet2DConditionModel, image_path, "the image UNet", plan)
    progress(3, steps)
    if "motion" in info.files:
        motion_path = info.path("motion")
        motion = original.load_motion(motion_path, plan.torch_dtype).to(plan.torch_device)
    else:
        motion_path = folder / "motion_adapter"
        motion = _load_model(MotionAdapter, motion_path, "the motion modules", plan)
    progress(4, steps)
    unet = join_motion(image_unet, motion, image_path, motion_path).eval()
    set_motion_scale(unet, info.scales["motion"])
    models = {"unet": unet, "text_encoder": text_encoder}
    if "adapter" in info.files:
        _merge_adapter(info, models)
    sha256 = content_hash(info)
    progress(steps, steps)
    loras = LoraStack(folder, info.name, models)
    return Parts(info, sha256, plan, tokenizer, text_encoder, vae, unet, scheduler, loras)


def _merge_adapter(info: CheckpointInfo, models: dict[str, nn.Module]) -> None:
    path, scale = info.path("adapter"), info.scales["adapter"]
    changes = read_lora(path, "AnimateDiff's domain adapter, a LoRA for Stable Diffusion 1")
    targets = find_targets(models, changes, path, info.name)
    if scale != 0:
        merge(changes, targets, scale)


def _load_vae(folder: Path, plan: Plan) -> Vae:
    what = "the picture decoder (VAE)"
    named = read_json(folder / "config.json", f"the configuration of {what}").get("_class_name")
    # An unknown class is refused by the loader as not being Stable Diffusion's own.
    return _load_model(VAE_CLASSES.get(str(named), AutoencoderKL), folder, what, plan)


def join_motion(
    image_unet: UNet2DConditionModel, motion: MotionAdapter, image_path: Path, motion_path: Path
) -> UNetMotionModel:
    """The video UNet of an image UNet and motion modules, which it takes over.

    Raises EngineError naming both paths where the two do not fit.
    """
    mismatch = EngineError(
        f"{motion_path} does not fit {image_path}: their layers differ. Use motion modules made "
        "for this kind of UNet."
    )
    try:
        with torch.device("meta"):
            unet = UNetMotionModel.from_unet2d(image_unet, motion, load_weights=False)
    except ValueError as error:
        raise mismatch from error
    # The weights already in memory become the joined model's own: no second copy, and unlike
    # from_unet2d nothing that does not fit is passed over.
    weights = image_unet.state_dict() | motion.state_dict()
    try:
        unet.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise mismatch from error
    return use_reference_normalisation(unet)


def _load_model(cls: Any, folder: Path, what: str, plan: Plan) -> Any:
    check_part(folder, what, cls.__name__)
    try:
        model, report = cls.from_pretrained(
            folder,
            torch_dtype=plan.torch_dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EngineError(
            f"{folder} cannot be loaded as {what} ({cls.__name__}): {error}. "
            "Copy or download the checkpoint again."
        ) from error
    absent = sorted(report["missing_keys"]) or [str(k) for k in report["mismatched_keys"]]
    if absent:
        raise EngineError(
            f"The weights in {folder} are not those of {what} as its config.json describes it: "
            f"{len(absent)} are missing or of another shape, {absent[0]} for one. "
            "Put the right model into this folder."
        )
    return model.to(plan.torch_device).eval()


def _load_scheduler(info: CheckpointInfo) -> SchedulerMixin:
    path = info.folder / "scheduler" / "scheduler_config.json"
    if "base" in info.files and not path.is_file():
        return original.published_schedule()
    config = read_json(path, "the configuration of a noise schedule")
    named = getattr(diffusers, str(config.get("_class_name")), None)
    if not isinstance(named, type) or not issubclass(named, SchedulerMixin):
        raise EngineError(
            f"{path} names the noise schedule {config.get('_class_name')!r}, which diffusers does "
            "not have. Use DDIMScheduler, for example."
        )
    cls: Any = named
    return cls.from_config(config)


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    if not (folder / "vocab.json").is_file() and not (folder / "tokenizer.json").is_file():
        raise EngineError(
            f"{folder / 'vocab.json'} is missing; expected the vocabulary of a CLIP tokenizer. "
            "Copy or download the checkpoint again."
        )
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EngineError(
            f"{folder} cannot be read as a CLIP tokenizer: {error}. "
            "Copy or download the checkpoint again."
        ) from error
