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
from transformers import CLIPTextModel, CLIPTokenizer

from .checkpoint import CheckpointInfo, check_part, content_hash, read_info, read_json
from .device import Plan
from .errors import EngineError
from .motion import use_reference_normalisation
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
            folder = self.info.folder / self.info.guides[guide]
            encoder = _load_model(SparseControlNetModel, folder, "a control encoder", self.plan)
            pyramid = encoder.config.conditioning_embedding_out_channels
            simplified = encoder.config.use_simplified_condition_embedding
            if not simplified and 2 ** (len(pyramid) - 1) != self.latent_scale:
                raise EngineError(
                    f"{folder / 'config.json'} shrinks guides {2 ** (len(pyramid) - 1)} times, but "
                    f"the checkpoint's VAE shrinks pictures {self.latent_scale} times; they are "
                    "not of one model. Put the right control encoder into this folder."
                )
            self.controls[guide] = use_reference_normalisation(encoder)
        return self.controls[guide]


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
    scheduler = _load_scheduler(folder / "scheduler")
    tokenizer = _load_tokenizer(folder / "tokenizer")
    text_encoder = _load_model(CLIPTextModel, folder / "text_encoder", "the text encoder", plan)
    progress(1, steps)
    vae = _load_vae(folder / "vae", plan)
    progress(2, steps)
    image_unet = _load_model(UNet2DConditionModel, folder / "unet", "the image UNet", plan)
    progress(3, steps)
    motion = _load_model(MotionAdapter, folder / "motion_adapter", "the motion modules", plan)
    progress(4, steps)
    unet = use_reference_normalisation(_join_motion(image_unet, motion, folder))
    sha256 = content_hash(info)
    progress(steps, steps)
    return Parts(info, sha256, plan, tokenizer, text_encoder, vae, unet.eval(), scheduler)


def _load_vae(folder: Path, plan: Plan) -> Vae:
    what = "the picture decoder (VAE)"
    named = read_json(folder / "config.json", f"the configuration of {what}").get("_class_name")
    # An unknown class is refused by the loader as not being Stable Diffusion's own.
    return _load_model(VAE_CLASSES.get(str(named), AutoencoderKL), folder, what, plan)


def _join_motion(
    image_unet: UNet2DConditionModel, motion: MotionAdapter, folder: Path
) -> UNetMotionModel:
    mismatch = EngineError(
        f"{folder / 'motion_adapter'} does not fit {folder / 'unet'}: their layers differ. Use "
        "motion modules made for this kind of UNet."
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
    return unet


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


def _load_scheduler(folder: Path) -> SchedulerMixin:
    path = folder / "scheduler_config.json"
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
