"""blockout-mini's shape: Stable Diffusion 1.5 + AnimateDiff v3 + SparseCtrl in small.

Only standard diffusers and transformers classes, so that the code that loads the full-size
checkpoints loads this one. The folder layout is that of any checkpoint of this project.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
)
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .export import GUIDE_FOLDERS, describe, write_checkpoint
from .vocabulary import build_tokenizer


@dataclass(frozen=True)
class ModelSize:
    """Every size of the model. ``native`` is the side of a picture in pixels, ``shared_noise`` that
    of squares of latents (see ``CheckpointInfo``).
    """

    name: str = "blockout-mini"
    native: int = 128
    frames: int = 16
    fps: int = 8
    widths: tuple[int, ...] = (64, 96, 160)
    heads: int = 4
    norm_groups: int = 16
    text_width: int = 128
    text_layers: int = 3
    text_length: int = 40
    vocabulary: int = 1200
    vae: str = "tiny"
    vae_widths: tuple[int, ...] = (32, 32, 32, 32)
    vae_norm_groups: int = 8
    condition_widths: tuple[int, ...] = (16, 32, 64, 128)
    lineart_width: float = 1.5
    prediction_type: str = "v_prediction"
    zero_snr: bool = True
    shared_noise: int = 2


SIZES = {
    "mini": ModelSize(),
    "tiny": ModelSize(
        name="blockout-tiny",
        native=64,
        widths=(32, 64),
        text_width=32,
        text_layers=1,
        vae="kl",
        vae_widths=(8, 16, 16, 16),
        condition_widths=(4, 8, 16, 16),
    ),
}


def build_text_encoder(size: ModelSize, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Last hidden state is [batch, size.text_length, size.text_width]."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.text_width,
        intermediate_size=4 * size.text_width,
        projection_dim=size.text_width,
        num_hidden_layers=size.text_layers,
        num_attention_heads=size.heads,
        max_position_embeddings=size.text_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_vae(size: ModelSize) -> AutoencoderKL | AutoencoderTiny:
    """Eight pixels to one latent, four channels, as Stable Diffusion's.

    The mini model has AutoencoderTiny: on a CPU it trains six times as many pictures a second as
    AutoencoderKL of the same quality, whose norms at full size are what costs.
    """
    levels = len(size.vae_widths)
    if size.vae == "tiny":
        return AutoencoderTiny(
            encoder_block_out_channels=size.vae_widths,
            decoder_block_out_channels=size.vae_widths,
            num_encoder_blocks=(0,) + (1,) * (levels - 1),
            num_decoder_blocks=(2,) + (1,) * (levels - 2) + (0,),
        )
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=size.vae_widths,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=size.vae_norm_groups,
        sample_size=size.native,
        mid_block_add_attention=True,
    )


def build_unet(size: ModelSize) -> UNet2DConditionModel:
    """The image model. As in Stable Diffusion, the lowest level attends only in its middle."""
    inner = len(size.widths) - 1
    return UNet2DConditionModel(
        sample_size=size.native // 8,
        down_block_types=("CrossAttnDownBlock2D",) * inner + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * inner,
        block_out_channels=size.widths,
        layers_per_block=1,
        norm_num_groups=size.norm_groups,
        cross_attention_dim=size.text_width,
        attention_head_dim=size.heads,
    )


def silence_motion(module: nn.Module) -> None:
    """Start every motion module as the identity: its last projection is zero.

    Source: guoyww/AnimateDiff, motion_module.py, ``zero_initialize``; diffusers leaves it random.
    """
    for part in module.modules():
        if isinstance(part, AnimateDiffTransformer3D):
            nn.init.zeros_(part.proj_out.weight)
            nn.init.zeros_(part.proj_out.bias)


def build_motion_adapter(unet: UNet2DConditionModel, heads: int) -> MotionAdapter:
    """Silent motion modules beside every layer of ``unet`` but the middle, as AnimateDiff v3."""
    config: Any = unet.config
    adapter = MotionAdapter(
        block_out_channels=tuple(config.block_out_channels),
        motion_layers_per_block=config.layers_per_block,
        motion_num_attention_heads=heads,
        motion_norm_num_groups=config.norm_num_groups,
        motion_max_seq_length=32,
        use_motion_mid_block=False,
    )
    silence_motion(adapter)
    return adapter


def build_sparsectrl(
    unet: UNet2DConditionModel,
    guide: str,
    heads: int,
    widths: tuple[int, ...],
) -> SparseControlNetModel:
    """The condition encoder for one guide: pixels for depth and line-art, latents for render.

    It starts as the downward half of ``unet``, with silent motion modules (of ``heads`` heads) and
    zero convolutions at its input and outputs (SparseCtrl, section 3.2; Zhang et al. 2023).
    ``widths`` are those of the pixels' pyramid. diffusers' own ``from_unet`` cannot be used: it
    changes the image model's configuration, knows latent conditions only, and leaves the motion
    modules random.
    """
    config: Any = unet.config
    latents = guide == "render"
    copied = (
        "in_channels flip_sin_to_cos freq_shift only_cross_attention layers_per_block "
        "downsample_padding mid_block_scale_factor act_fn norm_num_groups norm_eps "
        "cross_attention_dim transformer_layers_per_block attention_head_dim num_attention_heads "
        "use_linear_projection upcast_attention resnet_time_scale_shift"
    )
    model = SparseControlNetModel(
        **{name: config[name] for name in copied.split()},
        conditioning_channels=4 if latents else 3,
        use_simplified_condition_embedding=latents,
        block_out_channels=tuple(config.block_out_channels),
        down_block_types=tuple(
            name.replace("Block2D", "BlockMotion") for name in config.down_block_types
        ),
        motion_num_attention_heads=heads,
        motion_max_seq_length=32,
        conditioning_embedding_out_channels=widths,
    )
    silence_motion(model)
    for name in ("conv_in", "time_embedding", "down_blocks", "mid_block"):
        mine, theirs = getattr(model, name), getattr(unet, name)
        missing, unexpected = mine.load_state_dict(theirs.state_dict(), strict=False)
        assert not unexpected
        assert all("motion_modules" in key for key in missing)
    return model


def build_scheduler(prediction_type: str, zero_snr: bool = False) -> DDIMScheduler:
    """The noise schedule of AnimateDiff v3 (linear betas).

    With ``zero_snr`` it ends in pure noise, and sampling starts there (Lin et al. 2024, arXiv
    2305.08891, sections 3.1 and 3.3); for models that predict velocities. Otherwise a model takes
    each frame's noise for a trace of its brightness, and frames flicker.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        prediction_type=prediction_type,
        rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing" if zero_snr else "leading",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build_parts(size: ModelSize, tokenizer: CLIPTokenizer) -> dict[str, Any]:
    """All models, untrained, by the name of their folder."""
    unet = build_unet(size)
    parts: dict[str, Any] = {
        "unet": unet,
        "motion_adapter": build_motion_adapter(unet, size.heads),
        "vae": build_vae(size),
        "text_encoder": build_text_encoder(size, tokenizer),
    }
    for guide, name in GUIDE_FOLDERS.items():
        parts[name] = build_sparsectrl(unet, guide, size.heads, size.condition_widths)
    return parts


def build_untrained(folder: Path, seed: int = 0, tiny: bool = False) -> None:
    """Write a checkpoint whose weights have learned nothing, for tests and as training's start.

    Every zero-initialised output is filled with small noise, so that a test sees an effect of
    control and motion. The global random state stays as it was.
    """
    size = SIZES["tiny" if tiny else "mini"]
    tokenizer = build_tokenizer(size.vocabulary, size.text_length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = build_parts(size, tokenizer)
        for model in parts.values():
            for parameter in model.parameters():
                if parameter.dim() > 1 and not parameter.any():
                    nn.init.normal_(parameter, std=0.02)
    about = describe(size.name, size.native, size.native, size.frames, size.fps, size.lineart_width)
    scheduler = build_scheduler(size.prediction_type, size.zero_snr)
    write_checkpoint(Path(folder), about, parts, {"tokenizer": tokenizer, "scheduler": scheduler})


def main(arguments: list[str] | None = None) -> int:
    """Command line: write an untrained checkpoint."""
    parser = argparse.ArgumentParser(description="Write an untrained checkpoint folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a few megabytes, 64x64, for tests")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    build_untrained(options.folder, options.seed, options.tiny)
    print(f"Wrote an untrained checkpoint to {options.folder}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
