"""Both kinds of autoencoder that a checkpoint may have."""

import shutil
from pathlib import Path

import torch
from animatic.engine import vae
from animatic.engine.run import Engine
from diffusers import AutoencoderKL, AutoencoderTiny

from .conftest import FRAMES, SIZE


def test_a_checkpoint_with_a_tiny_autoencoder_makes_a_take(
    checkpoint: Path, tmp_path: Path, request_for, guides
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(checkpoint, folder)
    shutil.rmtree(folder / "vae")
    small = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(0, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 0),
    )
    small.save_pretrained(folder / "vae")
    engine = Engine("cpu")
    engine.load(folder, lambda event: None)
    request = request_for(guides.control("render", {0: 1.0}))
    take = engine.generate(request, guides, 1, lambda event: None, lambda: False)
    assert take.frames.shape == (FRAMES, SIZE, SIZE, 3)


def test_a_generator_draws_from_the_distribution_only_where_there_is_one() -> None:
    pictures = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    full = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).eval()
    small = AutoencoderTiny().eval()
    with torch.inference_mode():
        for model, drawn in ((full, True), (small, False)):
            one, two = (
                vae.encode(model, pictures, torch.Generator().manual_seed(s)) for s in (1, 2)
            )
            assert torch.equal(one, two) is not drawn
            assert torch.equal(vae.encode(model, pictures), vae.encode(model, pictures))
