"""LoRAs: found by name, merged into a checkpoint's weights, and taken out again bit for bit.

Style LoRAs change the image layers and the text encoder, MotionLoRAs the motion modules; the
control encoders stay as they are. Source: guoyww/AnimateDiff, animatediff/utils/util.py,
``load_diffusers_lora``: W += scale * up @ down.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from safetensors import safe_open
from torch import nn

from .checkpoint import LORAS, file_sha256, lora_files
from .errors import EngineError
from .original_files import (
    LORA,
    MOTION_LORA,
    SAFE_SUFFIX,
    Weights,
    read_weights,
    recognise,
)

EXPECTED = "a LoRA for Stable Diffusion 1, or a MotionLoRA"

# One factor of one layer's change, in the spellings of diffusers (old and new), peft and kohya.
_FACTOR = re.compile(
    r"(?P<layer>.+?)(?:_lora\.|\.lora\.|\.lora_linear_layer\.|\.lora_)(?P<side>down|up|A|B)"
    r"(?:\.default)?\.weight"
)
# The old spellings name the attention's layers by what they do.
_TEXT_LAYERS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass(frozen=True)
class Change:
    """What a LoRA adds to one layer's weight: ``factor`` * ``up`` @ ``down``."""

    down: torch.Tensor
    up: torch.Tensor
    factor: float

    def fits(self, weight: torch.Tensor) -> bool:
        """Whether the change has the shape of ``weight``."""
        rank = self.down.shape[0]
        ends = (self.up.shape[0], self.down[0].numel(), self.up[0].numel())
        return ends == (weight.shape[0], weight[0].numel(), rank)

    def added(self, weight: torch.Tensor, scale: float) -> torch.Tensor:
        """``weight`` with the change at ``scale``."""
        up, down = (side.to(weight).flatten(1) for side in (self.up, self.down))
        return weight + (scale * self.factor) * (up @ down).reshape(weight.shape)


# By the model they belong to ("unet" or "text_encoder") and the layer's name as the file has it.
Changes = dict[tuple[str, str], Change]
Targets = dict[tuple[str, str], nn.Parameter]


def read_lora(path: Path, expected: str = EXPECTED) -> Changes:
    """The changes in a LoRA file, in the layout of diffusers, peft, kohya or AnimateDiff.

    Raises EngineError that names the file and says what it is where it is no such LoRA.
    """
    weights = read_weights(path, expected)
    kind = recognise(weights)
    if kind not in (LORA, MOTION_LORA):
        raise EngineError(f"{path} is {kind}; expected {expected}. Choose another file.")
    if kind == MOTION_LORA:
        weights = convert_animatediff_checkpoint_to_diffusers(weights)
    try:
        named, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(dict(weights))
    except (ValueError, KeyError, RuntimeError) as error:
        raise EngineError(
            f"{path} has layers that no Stable Diffusion 1 has; expected {expected}. Choose "
            "another file."
        ) from error
    return _changes(named, alphas or {}, path, expected)


def find_targets(
    models: Mapping[str, nn.Module], changes: Changes, path: Path, checkpoint: str
) -> Targets:
    """The weights that ``changes``, from ``path``, are for.

    Raises EngineError where they were made for another base than ``checkpoint`` is.
    """
    targets = {}
    for place, change in changes.items():
        model, layer = place
        # transformers has dropped a level of CLIP's names that LoRA files still have.
        if model == "text_encoder" and not hasattr(models[model], "text_model"):
            layer = layer.removeprefix("text_model.")
        weight = _weight(models[model], layer)
        if weight is None:
            raise EngineError(
                f"{path} was made for another base than {checkpoint}, which has no layer {layer}. "
                "Leave it out, or choose a checkpoint that it fits."
            )
        if not change.fits(weight):
            theirs = f"{change.up.shape[0]}x{change.down[0].numel()}"
            raise EngineError(
                f"{path} was made for another base than {checkpoint}: its {layer} is {theirs}, "
                f"here it is {weight.shape[0]}x{weight[0].numel()}. Leave it out, or choose a "
                "checkpoint that it fits."
            )
        targets[place] = weight
    return targets


def merge(changes: Changes, targets: Targets, scale: float) -> None:
    """Add ``changes`` to their weights for good."""
    for place, weight in targets.items():
        _put(weight, [(changes[place], scale)])


class LoraStack:
    """The LoRAs in use on one checkpoint's models.

    They are merged into the weights, so that they cost nothing in sampling and a compiled model
    does not notice. The weights as they were are kept in the computer's memory.
    """

    def __init__(self, folder: Path, checkpoint: str, models: Mapping[str, nn.Module]) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._models = models
        self._originals: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._used: list[tuple[str, float]] = []

    def use(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Make the models have exactly the LoRAs ``wanted``: entries of a request's ``loras``.

        All are checked before anything is changed. Raises EngineError, one sentence, for one that
        is not there, is another than asked for, or does not fit.
        """
        paths = [find_lora(self._folder, entry["name"], entry["sha256"]) for entry in wanted]
        scales = [float(entry["scale"]) for entry in wanted]
        used = [(file_sha256(path), scale) for path, scale in zip(paths, scales, strict=True)]
        if used == self._used:
            return
        total: dict[nn.Parameter, list[tuple[Change, float]]] = defaultdict(list)
        for path, scale in zip(paths, scales, strict=True):
            changes = read_lora(path)
            targets = find_targets(self._models, changes, path, self._checkpoint)
            # A scale of 0 must change nothing, and adding 0 would turn -0 into 0.
            if scale != 0:
                for place, weight in targets.items():
                    total[weight].append((changes[place], scale))
        self._restore()
        try:
            for weight, changed in total.items():
                self._originals.append((weight, weight.detach().to("cpu", copy=True)))
                _put(weight, changed)
        except (MemoryError, RuntimeError):
            self._restore()
            raise
        self._used = used

    def _restore(self) -> None:
        with torch.no_grad():
            for weight, original in self._originals:
                weight.copy_(original)
        self._originals = []
        self._used = []


def find_lora(folder: Path, name: str, sha256: str | None) -> Path:
    """The LoRA file called ``name``, with or without its suffix, for the checkpoint in ``folder``.

    It lies in loras/, in the checkpoint's folder or beside it. Raises EngineError where there is
    none, or none with the content ``sha256`` where one is given.
    """
    places = [folder / LORAS, folder.parent / LORAS]
    files = lora_files(folder)
    named = [path for path in files if name in (path.name, path.stem)]
    if not named:
        there = ", ".join(sorted({path.stem for path in files})) or "none"
        raise EngineError(
            f"There is no LoRA {name!r}; there are: {there} (searched: {places[0]}, {places[1]}). "
            "Put its file there, or take it out of the request."
        )
    for path in named:
        if sha256 in (None, file_sha256(path)):
            return path
    raise EngineError(
        f"{named[0]} has the content {file_sha256(named[0])[:12]}..., the request asks for "
        f"{str(sha256)[:12]}.... Install the one that was asked for, or ask for this one."
    )


def _changes(named: Weights, alphas: Mapping[str, float], path: Path, expected: str) -> Changes:
    sides: dict[tuple[str, str], dict[str, torch.Tensor]] = defaultdict(dict)
    strengths = {_place(name.removesuffix(".alpha")): alpha for name, alpha in alphas.items()}
    for name, tensor in named.items():
        if name.endswith(".alpha") and tensor.numel() == 1:
            strengths[_place(name.removesuffix(".alpha"))] = tensor.item()
            continue
        factor = _FACTOR.fullmatch(name)
        if factor is None or tensor.ndim < 2 or 0 in tensor.shape:
            raise EngineError(
                f"{path} holds {name}, which is no part of a LoRA that Animatic knows; expected "
                f"{expected}. Choose another file."
            )
        side = "down" if factor["side"] in ("down", "A") else "up"
        sides[_place(name)][side] = tensor
    common = _common_strengths(path)
    changes = {}
    for place, pair in sides.items():
        if len(pair) < 2:
            raise EngineError(
                f"{path} is not whole: one of the two factors of {place[1]} is missing. Copy or "
                "download it again."
            )
        rank = pair["down"].shape[0]
        strength = strengths.get(place, common.get(place[0], rank))
        changes[place] = Change(pair["down"], pair["up"], strength / rank)
    return changes


def _common_strengths(path: Path) -> dict[str, float]:
    """The alpha of each model's whole LoRA, where diffusers has noted it in the file's header."""
    if path.suffix != SAFE_SUFFIX:
        return {}
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get("lora_adapter_metadata", "{}")
    try:
        noted = json.loads(header)
        keys = {model: f"{model}.lora_alpha" for model in ("unet", "text_encoder")}
        return {model: float(noted[key]) for model, key in keys.items() if key in noted}
    except (ValueError, TypeError) as error:
        raise EngineError(
            f"{path} has a header that cannot be read ({error}); expected a LoRA's. Download it "
            "again."
        ) from error


def _place(name: str) -> tuple[str, str]:
    """Model and layer, in today's spelling, that a name in a LoRA file belongs to."""
    factor = _FACTOR.fullmatch(name)
    layer = (factor["layer"] if factor else name).replace(".processor.", ".")
    model, _, rest = layer.partition(".")
    if model not in ("unet", "text_encoder"):
        model, rest = "unet", layer
    stem, _, last = rest.rpartition(".")
    if model == "text_encoder":
        return model, f"{stem}.{_TEXT_LAYERS.get(last, last)}"
    return model, f"{rest}.0" if last == "to_out" else rest


def _weight(model: nn.Module, layer: str) -> nn.Parameter | None:
    try:
        return model.get_parameter(f"{layer}.weight")
    except AttributeError:
        return None


def _put(weight: nn.Parameter, changes: Sequence[tuple[Change, float]]) -> None:
    """Add ``changes`` with their scales to ``weight``, in float32 or better."""
    total = weight.to(torch.promote_types(weight.dtype, torch.float32))
    for change, scale in changes:
        total = change.added(total, scale)
    with torch.no_grad():
        weight.copy_(total)
