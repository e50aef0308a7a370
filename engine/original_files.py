"""Weight files from elsewhere: opened safely, and told apart by the names and shapes in them."""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .errors import EngineError

Weights = dict[str, torch.Tensor]

SAFE_SUFFIX = ".safetensors"
# torch's own format is a pickle; it is read by torch's unpickler that knows tensors only.
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")

BASE = "a Stable Diffusion 1 checkpoint"
MOTION = "AnimateDiff motion modules"
CONTROL = "a SparseCtrl encoder"
LORA = "a LoRA"
IMAGE_CONTROL = "a ControlNet"
IMAGE_PROMPT = "an IP-Adapter"
MOTION_LORA = "a MotionLoRA"

# What a file is, by the first row that has all its parts in some of the file's names.
_SIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("dora_scale",), "a DoRA"),
    (("hada_w1_a",), "a LyCORIS file (LoHa)"),
    (("lokr_w",), "a LyCORIS file (LoKr)"),
    (("lora_te2_",), "a LoRA for Stable Diffusion XL"),
    (("lora_unet_double_blocks",), "a LoRA for Flux"),
    (("lora", "motion_modules."), MOTION_LORA),
    (("lora",), LORA),
    (("ip_adapter.",), IMAGE_PROMPT),
    (("image_proj.",), IMAGE_PROMPT),
    (("emb_params",), "a textual inversion"),
    (("string_to_param",), "a textual inversion"),
    (("control_model.",), IMAGE_CONTROL),
    (("input_hint_block.",), IMAGE_CONTROL),
    (("controlnet_cond_embedding.", "motion_modules."), CONTROL),
    (("controlnet_cond_embedding.",), IMAGE_CONTROL),
    (("conditioner.embedders.",), "a Stable Diffusion XL checkpoint"),
    (("cond_stage_model.model.",), "a Stable Diffusion 2 checkpoint"),
    (("model.diffusion_model.input_blocks.0.0.weight",), BASE),
    (("model.diffusion_model.",), "a checkpoint of another kind of image model"),
    (("motion_modules.",), MOTION),
    (("first_stage_model.",), "a VAE"),
    (("decoder.mid",), "a VAE"),
    (("down_blocks.0.resnets.",), "an image UNet in diffusers' naming"),
    (("text_model.",), "a text encoder"),
)


def read_weights(path: Path, expected: str) -> Weights:
    """The tensors in ``path`` by name, on the CPU; ``expected`` is what the file should hold.

    A .safetensors file cannot hold programs; a .ckpt goes through torch's restricted unpickler,
    which refuses everything that is not a tensor or a plain value, so none is ever run. Containers
    (``state_dict``, ``controlnet``) are opened, the prefix ``module.`` of parallel training and
    what is no tensor are left out. Raises EngineError that names the file.
    """
    if not path.is_file():
        raise EngineError(f"{path} is missing; expected {expected}. Copy or download it.")
    try:
        stored = _open(path, expected)
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise EngineError(
            f"{path} is damaged, cut short or no weight file ({_first_line(error)}); expected "
            f"{expected}. Copy or download it again."
        ) from error
    while isinstance(stored, dict):
        inner = next((stored[k] for k in ("state_dict", "controlnet") if k in stored), None)
        if not isinstance(inner, dict):
            break
        stored = inner
    tensors = dict(stored) if isinstance(stored, dict) else {}
    for group in ("image_proj", "ip_adapter"):  # an IP-Adapter's pickle has them as containers
        inner = tensors.get(group)
        if isinstance(inner, dict):
            tensors |= {f"{group}.{name}": tensor for name, tensor in inner.items()}
    weights = {
        str(name).removeprefix("module."): tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor)
    }
    if not weights:
        raise EngineError(f"{path} holds no named weights; expected {expected}. Check the file.")
    return weights


def _open(path: Path, expected: str) -> object:
    if path.suffix == SAFE_SUFFIX:
        return load_file(path)
    if path.suffix not in PICKLE_SUFFIXES:
        raise EngineError(
            f"{path} is not a .safetensors or .ckpt file; expected {expected}. Choose such a file."
        )
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"(?:GLOBAL|class) ([\w.]+\.\w+)", str(error))
        if foreign is None:
            raise EngineError(
                f"{path} is damaged or no weight file; expected {expected}. Copy or download it "
                "again."
            ) from error
        # The first uploads of the v3 files, of December 2023, were like this.
        raise EngineError(
            f"{path} holds more than weights ({foreign[1]}), which could run a program when it is "
            f"opened; expected {expected}. Download a newer upload, or a .safetensors version."
        ) from error


def recognise(weights: Mapping[str, torch.Tensor]) -> str:
    """What a file with these weights is, in words; one of the constants above where it is known."""
    names = "\n".join(weights)
    kind = next((kind for signs, kind in _SIGNS if all(sign in names for sign in signs)), None)
    if kind is None:
        return f"no model that Animatic knows (its first weight is {next(iter(weights), 'none')})"
    if kind == BASE:
        channels = weights["model.diffusion_model.input_blocks.0.0.weight"].shape[1]
        if channels != 4:
            return f"a Stable Diffusion checkpoint for inpainting or editing ({channels} channels)"
    return kind


def read_kind(path: Path, kind: str, expected: str) -> Weights:
    """Weights of ``path``, which must be of ``kind``. Raises EngineError that says what it is."""
    weights = read_weights(path, expected)
    found = recognise(weights)
    if found != kind:
        raise EngineError(f"{path} is {found}; expected {expected}. Choose the right file.")
    return weights


def _first_line(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return text.split(". ")[0].rstrip(".") or type(error).__name__
