"""Stage decoder: a larger decoder that begins as the old one, and learns from the model's clips."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.training import architecture  # noqa: E402
from animatic.engine.training.decoder import grown  # noqa: E402
from animatic.engine.training.run import Run  # noqa: E402
from animatic.engine.training.train import STAGES, render_data  # noqa: E402
from animatic.engine.vae import decode, encode  # noqa: E402


def test_a_grown_decoder_decodes_as_before():
    torch.manual_seed(0)
    vae = architecture.build_vae(architecture.SIZES["mini"]).eval()
    pictures = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        latents = encode(vae, pictures)
        before = decode(vae, latents)
        larger = grown(vae, 40, (3, 2, 1, 0)).eval()
        assert torch.equal(encode(larger, pictures), latents)
        torch.testing.assert_close(decode(larger, latents), before, atol=1e-5, rtol=1e-4)
        # What is new is not dead: a change of the last layer's new inputs shows.
        larger.decoder.layers[-1].weight[:, 32:] += 0.1
        assert (decode(larger, latents) - before).abs().max() > 1e-3
    with pytest.raises(EngineError, match=r"recipe's \[decoder\]"):
        grown(larger, 32, (3, 2, 1, 0))
    with pytest.raises(EngineError, match="tiny autoencoder"):
        grown(architecture.build_vae(architecture.SIZES["tiny"]), 32, (3, 2, 1, 0))


def test_the_stage_trains_the_decoder_alone(tmp_path, small, small_recipe):
    recipe = small_recipe(4)
    recipe["model"] = small | {"vae": "tiny", "vae_widths": [8, 8, 8, 8]}
    recipe["decoder"] |= {
        "minutes": 1, "making": 0.0, "width": 10, "blocks": [2, 1, 1, 0], "batch": 4, "crop": 16,
    }  # fmt: skip
    run = Run(tmp_path, recipe)
    render_data(run)
    names = ("vae", "unet", "text_encoder", "motion_adapter", "sparsectrl_depth")
    before = {name: run.part(name, False) for name in names}
    run.keep(before)
    STAGES["encode"](run)
    STAGES["decoder"](run)
    after = run.part("vae")
    assert after.config.scaling_factor == before["vae"].config.scaling_factor
    kept, found = before["vae"].encoder.state_dict(), after.encoder.state_dict()
    assert all(torch.equal(found[name], weights) for name, weights in kept.items())
    assert after.decoder.layers[0].out_channels == 10
    # One shard of the model's own clips, beside their truth, made on the way there.
    shard = torch.load(tmp_path / "pairs" / "00000.pt", weights_only=True)
    assert shard["made"].shape == shard["true"].shape == (2, 4, 4, 4, 4)
    assert not torch.equal(shard["made"], shard["true"])
    assert torch.load(tmp_path / "decoder.pt", weights_only=True)["step"] == 4
