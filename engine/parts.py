"""The parts of a loaded checkpoint, ready to compute."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    MotionAdapter,
    SchedulerMixin,
    SparseControlNetModel,
    UNet2DConditionModel,
    UNetMotionModel,
)
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from . import original
from .checkpoint import IMAGE, CheckpointInfo, content_hash, part_hash, read_info, read_json
from .device import DTYPES, Plan, laid_out
from .errors import EngineError
from .image_prompt import ImagePrompt, load_image_prompt
from .lora import LoraStack, find_targets, merge, read_lora
from .model_folder import SHARED, check_same, load_image_control, load_model
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
    # By part: content hash and model. They come and go without the checkpoint's becoming another.
    _optional: dict[str, tuple[str, Any]] = field(default_factory=dict)

    @property
    def latent_scale(self) -> int:
        """Pixels of the picture to one latent pixel, along one side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def max_frames(self) -> int:
        """The longest clip the motion modules have positions for."""
        return int(self.unet.config.motion_max_seq_length)

    def control(
        self, guide: str, kind: str | None = None
    ) -> SparseControlNetModel | ControlNetModel:
        """The control encoder for ``guide``, of the ``kind`` "sparse" or "image", or the usual one.

        Raises EngineError where the checkpoint has none.
        """
        if self.info.encoder_for(guide, kind) == IMAGE:
            return self._image_control(guide)
        if guide not in self.controls:
            self.controls[guide] = self._load_control(self.info.guides[guide])
        return self.controls[guide]

    def image_prompt(self) -> ImagePrompt:
        """Image encoder and IP-Adapter. Raises EngineError where the checkpoint has none."""
        if not self.info.image_prompt:
            raise EngineError(
                f"The checkpoint {self.info.name} takes no reference picture: it has no image "
                "encoder and IP-Adapter. Install them (`animatic models` lists what there is), or "
                "leave the picture out."
            )
        paths = self.info.image_prompt
        held = self._optional.get("image_prompt")
        content = part_hash(paths["encoder"]) + part_hash(paths["adapter"])
        if held is None or held[0] != content:
            held = (content, load_image_prompt(paths, self.unet, self.plan))
            self._optional["image_prompt"] = held
        return held[1]

    def optional_parts(self, request: Mapping[str, Any]) -> dict[str, str]:
        """Content hashes of the parts, by their paths, that ``request`` uses and that the
        checkpoint's own hash does not cover. Raises EngineError for what is not there.
        """
        used = [
            self.info.folder / self.info.image_guides[control["guide"]]
            for control in request["controls"]
            if self.info.encoder_for(control["guide"], control.get("encoder")) == IMAGE
        ]
        if request.get("image_prompt", {}).get("scale"):
            used += self.info.image_prompt.values()
        return {path.relative_to(self.info.folder).as_posix(): part_hash(path) for path in used}

    def unload_encoders(self) -> None:
        """Let go of control encoders and image prompt: the next request that needs one loads it."""
        self.controls.clear()
        self._optional.clear()

    def _image_control(self, guide: str) -> ControlNetModel:
        part = self.info.image_guides[guide]
        path = self.info.folder / part
        content = part_hash(path)
        held = self._optional.get(part)
        if held is None or held[0] != content:
            held = (content, load_image_control(path, self.unet, self.latent_scale, self.plan))
            laid_out(held[1], self.plan)
            self._optional[part] = held
        return held[1]

    def _load_control(self, part: str) -> SparseControlNetModel:
        path, plan, unet = self.info.path(part), self.plan, self.unet.config
        if part in self.info.files:
            encoder = original.load_control(path, plan.torch_dtype, unet.num_attention_heads)
            encoder = encoder.to(plan.torch_device)
        else:
            encoder = load_model(SparseControlNetModel, path, "a control encoder", plan)
        check_same(encoder, self.unet, SHARED, path)
        pyramid = encoder.config.conditioning_embedding_out_channels
        simplified = encoder.config.use_simplified_condition_embedding
        if not simplified and 2 ** (len(pyramid) - 1) != self.latent_scale:
            raise EngineError(
                f"{path} shrinks guides {2 ** (len(pyramid) - 1)} times, but the checkpoint's VAE "
                f"shrinks pictures {self.latent_scale} times; they are not of one model. Put the "
                "right control encoder there."
            )
        laid_out(encoder, plan)
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
        image_unet, vae, text_encoder = original.load_base(
            image_path, plan.torch_dtype, DTYPES[plan.vae_dtype]
        )
        for model in (image_unet, vae, text_encoder):
            nn.Module.to(model, plan.torch_device)
    else:
        text_encoder = load_model(CLIPTextModel, folder / "text_encoder", "the text encoder", plan)
        progress(1, steps)
        vae = _load_vae(folder / "vae", plan)
        progress(2, steps)
        image_path = folder / "unet"
        image_unet = load_model(UNet2DConditionModel, image_path, "the image UNet", plan)
    progress(3, steps)
    if "motion" in info.files:
        motion_path = info.path("motion")
        motion = original.load_motion(motion_path, plan.torch_dtype).to(plan.torch_device)
    else:
        motion_path = folder / "motion_adapter"
        motion = load_model(MotionAdapter, motion_path, "the motion modules", plan)
    progress(4, steps)
    unet = join_motion(image_unet, motion, image_path, motion_path).eval()
    for model in (unet, vae):
        laid_out(model, plan)
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
    pictures = replace(plan, dtype=plan.vae_dtype)
    return load_model(VAE_CLASSES.get(str(named), AutoencoderKL), folder, what, pictures)


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
