"""Models from folders in diffusers' and transformers' layout, each fault told as a sentence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNetMotionModel

from . import original
from .checkpoint import check_part
from .device import Plan, out_of_memory
from .errors import EngineError

# What a control encoder has in common with the image model whose copy it is.
SHARED = ("block_out_channels", "cross_attention_dim")


def load_model(cls: Any, folder: Path, what: str, plan: Plan) -> Any:
    """The model of class ``cls`` in ``folder``, on the plan's device in its number type.

    ``what`` is the part in words. Raises EngineError that names the file at fault.
    """
    check_part(folder, what, cls.__name__)
    held = torch.get_default_dtype()
    try:
        model, report = cls.from_pretrained(
            folder,
            torch_dtype=plan.torch_dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            # The report below then names them; transformers' error would not.
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise EngineError(
            f"{folder} cannot be loaded as {what} ({cls.__name__}): {error}. "
            "Copy or download the checkpoint again."
        ) from error
    finally:
        # diffusers leaves the model's type behind where a load fails.
        torch.set_default_dtype(held)
    absent = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if absent:
        raise EngineError(
            f"The weights in {folder} are not those of {what} as its config.json describes it: "
            f"{len(absent)} are missing or of another shape, {absent[0]} for one. "
            "Put the right model into this folder."
        )
    return model.to(plan.torch_device).eval()


def load_image_control(
    path: Path, unet: UNetMotionModel, latent_scale: int, plan: Plan
) -> ControlNetModel:
    """The image ControlNet in ``path``, a folder or a published file, for guides of three channels.

    Raises EngineError that names the file where it is something else, or does not fit ``unet`` or
    a VAE that shrinks pictures ``latent_scale`` times.
    """
    encoder: ControlNetModel
    if path.is_file():
        encoder = original.load_image_control(
            path, plan.torch_dtype, unet.config.num_attention_heads
        ).to(plan.torch_device)
    else:
        encoder = load_model(ControlNetModel, path, "an image ControlNet", plan)
    check_same(encoder, unet, ("in_channels", "layers_per_block", *SHARED), path)
    shrinks = 2 ** (len(encoder.config.conditioning_embedding_out_channels) - 1)
    if encoder.config.conditioning_channels != 3 or shrinks != latent_scale:
        raise EngineError(
            f"{path} takes pictures of {encoder.config.conditioning_channels} channels and shrinks "
            f"them {shrinks} times; expected 3 channels and {latent_scale} times. Use a ControlNet "
            "made for this kind of model."
        )
    return encoder


def check_same(encoder: Any, unet: UNetMotionModel, entries: Sequence[str], path: Path) -> None:
    """Raise EngineError where ``encoder``, from ``path``, is of other sizes than ``unet``."""
    for entry in entries:
        here, there = (_listed(model.config[entry]) for model in (encoder, unet))
        if here != there:
            raise EngineError(
                f"{path} does not fit the image model: its {entry} is {here}, the image model's "
                f"is {there}. Use a control encoder made for this kind of model."
            )


def _listed(value: Any) -> Any:
    # Read from a config.json it is a list, found out from weights a tuple.
    return list(value) if isinstance(value, tuple) else value
