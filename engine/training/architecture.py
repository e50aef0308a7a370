"""blockout-mini's shape: Stable Diffusion 1.5 + AnimateDiff v3 + SparseCtrl in small.

Only standard diffusers and transformers classes, so that the code that loads the full-size
checkpoints loads this one. The folder layout is that of any checkpoint of this project.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
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
from tokenizers import Regex, pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .captions import vocabulary_corpus

MODEL_FOLDERS = (
    "unet",
    "motion_adapter",
    "vae",
    "text_encoder",
    "sparsectrl_depth",
    "sparsectrl_lineart",
    "sparsectrl_rgb",
)
GUIDE_FOLDERS = {
    "depth": "sparsectrl_depth",
    "lineart": "sparsectrl_lineart",
    "render": "sparsectrl_rgb",
}
# Copied from CLIPTokenizer, which builds exactly these steps around the vocabulary it is given.
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


@dataclass(frozen=True)
class ModelSize:
    """Every size of the model. ``native`` is the side of a picture in pixels."""

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
    condition_widths: tuple[int, ...] = (8, 16, 32, 64)
    lineart_width: float = 1.5
    prediction_type: str = "v_prediction"


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


def _learn_merges(corpus: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The ``count`` most frequent pairs, one after another, ties broken by spelling.

    The tokenizers library's own trainer breaks ties by chance, and then no two runs agree on ids.
    Source: Sennrich et al. 2016, section 3.2.
    """
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    found = Counter(word for text in corpus for word, _ in split.pre_tokenize_str(text.lower()))
    words = {word: [*word[:-1], word[-1] + "</w>"] for word in sorted(found)}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += found[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for pieces in words.values():
            at = 0
            while at < len(pieces) - 1:
                if (pieces[at], pieces[at + 1]) == best:
                    pieces[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def build_tokenizer(size: ModelSize, corpus: Iterable[str] | None = None) -> CLIPTokenizer:
    """A CLIP tokenizer with its own byte-level BPE vocabulary of at most ``size.vocabulary``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Each byte alone, each byte that ends a word, and two special tokens come before the merges.
    merges = _learn_merges(corpus or vocabulary_corpus(), size.vocabulary - 2 * len(alphabet) - 2)
    tokens = alphabet + [byte + "</w>" for byte in alphabet] + ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(dict.fromkeys(tokens))},
        merges=merges,  # type: ignore[arg-type]  # pairs are taken; its annotation forgets them
        model_max_length=size.text_length,
    )


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


def build_motion_adapter(size: ModelSize) -> MotionAdapter:
    """Motion modules beside every layer but the middle, as AnimateDiff v3."""
    adapter = MotionAdapter(
        block_out_channels=size.widths,
        motion_layers_per_block=1,
        motion_num_attention_heads=size.heads,
        motion_norm_num_groups=size.norm_groups,
        motion_max_seq_length=32,
        use_motion_mid_block=False,
    )
    silence_motion(adapter)
    return adapter


def build_sparsectrl(size: ModelSize, guide: str) -> SparseControlNetModel:
    """The condition encoder for one guide: pixels for depth and line-art, latents for render."""
    inner = len(size.widths) - 1
    latents = guide == "render"
    model = SparseControlNetModel(
        conditioning_channels=4 if latents else 3,
        use_simplified_condition_embedding=latents,
        down_block_types=("CrossAttnDownBlockMotion",) * inner + ("DownBlockMotion",),
        block_out_channels=size.widths,
        layers_per_block=1,
        norm_num_groups=size.norm_groups,
        cross_attention_dim=size.text_width,
        attention_head_dim=size.heads,
        motion_num_attention_heads=size.heads,
        motion_max_seq_length=32,
        conditioning_embedding_out_channels=size.condition_widths,
    )
    silence_motion(model)
    return model


def build_scheduler(size: ModelSize) -> DDIMScheduler:
    """The noise schedule of AnimateDiff v3 (linear betas)."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        prediction_type=size.prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def description(size: ModelSize, guides: Iterable[str], guidance: float = 3.0) -> dict:
    """The content of animatic.json."""
    return {
        "schema": 1,
        "name": size.name,
        "native": {
            "width": size.native,
            "height": size.native,
            "frames": size.frames,
            "fps": size.fps,
        },
        "guides": {guide: GUIDE_FOLDERS[guide] for guide in guides},
        "defaults": {"steps": 20, "guidance": guidance},
        "lineart_width": size.lineart_width,
        "licence": "CC0-1.0",
    }


def write_checkpoint(
    folder: Path,
    size: ModelSize,
    parts: dict[str, Any],
    tokenizer: CLIPTokenizer,
    guidance: float = 3.0,
) -> None:
    """Write a checkpoint folder in half precision; ``parts`` maps folder names to models.

    The models in ``parts`` are converted in place, so pass copies of what goes on training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in parts.items():
        model.half().save_pretrained(folder / name, safe_serialization=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    build_scheduler(size).save_pretrained(folder / "scheduler")
    guides = [guide for guide, name in GUIDE_FOLDERS.items() if name in parts]
    index = {
        "_class_name": "AnimateDiffPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "motion_adapter": ["diffusers", "MotionAdapter"],
        "vae": ["diffusers", type(parts["vae"]).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    text = json.dumps(description(size, guides, guidance), indent=2) + "\n"
    (folder / "animatic.json").write_text(text)


def build_parts(size: ModelSize, tokenizer: CLIPTokenizer) -> dict[str, nn.Module]:
    """All models, untrained, by folder name (``MODEL_FOLDERS``)."""
    parts: dict[str, nn.Module] = {
        "unet": build_unet(size),
        "motion_adapter": build_motion_adapter(size),
        "vae": build_vae(size),
        "text_encoder": build_text_encoder(size, tokenizer),
    }
    for guide, name in GUIDE_FOLDERS.items():
        parts[name] = build_sparsectrl(size, guide)
    return parts


def build_untrained(folder: Path, seed: int = 0, tiny: bool = False) -> None:
    """Write a checkpoint whose weights have learned nothing, for tests and as training's start.

    Every zero-initialised output is filled with small noise, so that a test sees an effect of
    control and motion. The global random state stays as it was.
    """
    size = SIZES["tiny" if tiny else "mini"]
    tokenizer = build_tokenizer(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = build_parts(size, tokenizer)
        for model in parts.values():
            for parameter in model.parameters():
                if parameter.dim() > 1 and not parameter.any():
                    nn.init.normal_(parameter, std=0.02)
    write_checkpoint(Path(folder), size, parts, tokenizer)


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
