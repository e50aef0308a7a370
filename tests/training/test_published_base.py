"""Training beside published files, as `animatic models download` brings them."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.device import default_plan  # noqa: E402
from animatic.engine.parts import load_parts  # noqa: E402
from animatic.engine.training.architecture import build_untrained  # noqa: E402
from animatic.engine.training.run import Run  # noqa: E402
from animatic.engine.training.train import STAGES  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

from ..engine.published import small_models, write_base, write_control, write_motion  # noqa: E402

FILES = {
    "base": "small.safetensors",
    "motion": "v3_sd15_mm.ckpt",
    "adapter": "v3_sd15_adapter.ckpt",
    "sparsectrl_scribble": "v3_sd15_sparsectrl_scribble.ckpt",
}
ADAPTED = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"


@pytest.fixture
def published(tmp_path):
    """The catalogue's sd15-animatediff-v3 in small."""
    build_untrained(tmp_path / "tiny", tiny=True)
    base = tmp_path / "base"
    shutil.copytree(tmp_path / "tiny" / "tokenizer", base / "tokenizer")
    models = small_models(len(CLIPTokenizer.from_pretrained(base / "tokenizer")))
    write_base(models, base / FILES["base"])
    write_motion(models["motion_adapter"], base / FILES["motion"])
    write_control(models["sparsectrl_lineart"], base / FILES["sparsectrl_scribble"])
    factors = {"down": torch.randn(4, 32), "up": torch.randn(32, 4)}
    names = {side: f"{ADAPTED}.processor.to_q_lora.{side}.weight" for side in factors}
    adapter = {names[side]: factor for side, factor in factors.items()}
    torch.save({"state_dict": adapter}, base / FILES["adapter"])
    card = {
        "schema": 1,
        "name": "small",
        "native": {"width": 32, "height": 32, "frames": 16, "fps": 8},
        "guides": {"lineart": "sparsectrl_scribble"},
        "files": FILES,
        "scales": {"adapter": 0.5},
        "defaults": {"steps": 2, "guidance": 7.5},
        "lineart_width": 8,
    }
    (base / "animatic.json").write_text(json.dumps(card))
    return base


def test_an_encoder_learns_beside_published_files(published, clip_folder, tmp_path, small_recipe):
    run = Run(tmp_path / "train", small_recipe(4), base=published, clips=clip_folder)
    run.recipe["sparsectrl"]["recognition"] = 0.0
    engine = load_parts(published, default_plan("cpu"), lambda done, of: None)
    # The image model as it is sampled with: the domain adapter is in it.
    weight = f"{ADAPTED}.to_q.weight"
    unet = run.part("unet").state_dict()
    torch.testing.assert_close(unet[weight], engine.unet.state_dict()[weight].float())
    for stage in ("data", "encode", "sparsectrl-lineart"):
        STAGES[stage](run)

    run.export(tmp_path / "out")
    exported = load_parts(tmp_path / "out", default_plan("cpu"), lambda done, of: None)
    assert exported.info.files == {}
    assert exported.info.lineart_width == 8
    for kept in ("unet", "vae", "text_encoder"):
        weights = getattr(exported, kept).state_dict()
        for name, value in getattr(engine, kept).state_dict().items():
            torch.testing.assert_close(weights[name], value, rtol=2e-3, atol=1e-3)
    assert exported.vae.config.scaling_factor == engine.vae.config.scaling_factor
    assert torch.equal(exported.scheduler.alphas_cumprod, engine.scheduler.alphas_cumprod)
    before, after = (parts.control("lineart").state_dict() for parts in (engine, exported))
    assert any(not torch.equal(before[name].half(), after[name].half()) for name in before)
