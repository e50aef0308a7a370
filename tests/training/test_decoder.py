"""Training of the decoder alone: latents stay what they are, and pictures come nearer."""

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.training.architecture import build_untrained  # noqa: E402
from animatic.engine.training.run import Run  # noqa: E402
from animatic.engine.training.train import STAGES  # noqa: E402
from animatic.engine.vae import decode, encode  # noqa: E402
from diffusers import AutoencoderTiny  # noqa: E402

MINI = Path(__file__).parents[2] / "presets" / "blockout-mini"


def test_the_decoder_learns_and_the_latents_stay(clip_folder, tmp_path, small_recipe):
    base = tmp_path / "base"
    build_untrained(base, tiny=True)
    shutil.rmtree(base / "vae")
    spoilt = AutoencoderTiny.from_pretrained(MINI / "vae", torch_dtype=torch.float32)
    with torch.no_grad():
        for parameter in spoilt.decoder.parameters():
            parameter.mul_(0.9)
    spoilt.save_pretrained(base / "vae")
    recipe = small_recipe(40)
    # Untrained, the model makes nothing of noise that a decoder could learn from.
    recipe["decoder"] |= {"noisiest": 0}
    run = Run(tmp_path / "run", recipe, base=base, clips=clip_folder)
    for stage in ("data", "encode", "decoder"):
        STAGES[stage](run)
    learnt = run.part("vae").eval()
    shards = (run.folder / "clips").glob("*.pt")
    pictures = torch.cat([torch.load(shard)["colour"][0] for shard in shards]).float() / 255
    with torch.no_grad():
        latents = encode(spoilt, pictures)
        assert torch.equal(encode(learnt, pictures), latents)
        errors = [(decode(vae, latents) - pictures).abs().mean() for vae in (spoilt, learnt)]
    assert errors[1] < 0.5 * errors[0]
