"""Training in parts: all stages within a time, out as small files, and on from these."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.checkpoint import read_info  # noqa: E402
from animatic.engine.device import default_plan  # noqa: E402
from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.parts import load_parts  # noqa: E402
from animatic.engine.training.architecture import build_untrained  # noqa: E402
from animatic.engine.training.image_prompt import build_image_encoder  # noqa: E402
from animatic.engine.training.recipe import read_recipe  # noqa: E402
from animatic.engine.training.run import Run  # noqa: E402
from animatic.engine.training.train import train_all  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402


@pytest.mark.slow
def test_parts_within_a_time_go_on_from_small_files(tmp_path, small_recipe):
    first = Run(tmp_path / "first", small_recipe(None), minutes=1)
    first.recipe["data"] |= {"stills": 1}
    took = train_all(first)
    assert list(took) == list(first.recipe["shares"])
    first.export(tmp_path / "one", shard_size="150KB")

    files = list((tmp_path / "one").rglob("*.safetensors"))
    assert all(file.stat().st_size < 170_000 for file in files)
    assert list((tmp_path / "one" / "unet").glob("*.index.json"))
    parts = load_parts(tmp_path / "one", default_plan("cpu"), lambda done, of: None)
    assert parts.control("depth") is not None

    # The next part has nothing but the files: other scenes, the same autoencoder, a warm-up.
    second = Run(tmp_path / "second", small_recipe(4), minutes=1, base=tmp_path / "one", seed=1)
    second.recipe["shares"] = {"data": 1, "encode": 1, "image": 1, "motion": 1}
    second.recipe["data"] |= {"stills": 1}
    train_all(second)
    half, whole = parts.vae.state_dict(), second.part("vae").state_dict()
    assert all(torch.equal(half[name], whole[name]) for name in half)
    assert not torch.equal(
        torch.load(tmp_path / "first/stills/00000.pt")["colour"],
        torch.load(tmp_path / "second/stills/10000.pt")["colour"],
    )
    # What is trained started from the files: four careful steps have not led far from them.
    before, after = (run.part("unet").state_dict() for run in (first, second))
    apart = sum((before[n] - after[n]).norm() for n in before)
    assert 0 < apart < 0.2 * sum(before[n].norm() for n in before)

    second.export(tmp_path / "two")
    about = json.loads((tmp_path / "two" / "animatic.json").read_text())
    assert about["name"] == "small"
    assert set(about["guides"]) == {"depth", "lineart", "render"}
    load_parts(tmp_path / "two", default_plan("cpu"), lambda done, of: None)


def test_all_needs_known_stages_and_a_time(tmp_path, small_recipe):
    run = Run(tmp_path, small_recipe(1))
    with pytest.raises(EngineError, match="--minutes"):
        train_all(run)
    run.recipe["shares"] = {"pictures": 1}
    with pytest.raises(EngineError, match="pictures"):
        train_all(run)


@torch.no_grad()
def residuals(encoder):
    """What a pixel encoder says of one clip of two frames, the same for each."""
    torch.manual_seed(0)
    text = torch.randn(2, 3, encoder.config.cross_attention_dim)
    condition, mask = torch.rand(1, 3, 2, 32, 32), torch.ones(1, 1, 2, 32, 32)
    clip = torch.zeros(1, 4, 2, 4, 4)
    down, middle = encoder(clip, 500, text, condition, conditioning_mask=mask, return_dict=False)
    return [*down, middle]


def test_a_part_is_exported_as_a_mean_beside_all_that_the_base_brings(tmp_path):
    base = tmp_path / "base"
    build_untrained(base, tiny=True)
    lora, adapter = base / "loras" / "few-steps.safetensors", base / "ip_adapter.safetensors"
    lora.parent.mkdir()
    for file in (lora, adapter, base / "controlnet_depth.safetensors"):
        save_file({"weight": torch.ones(1)}, file)
    build_image_encoder(32, 32, 1).save_pretrained(base / "image_encoder")
    told = {
        "few_steps": {"lora": "few-steps", "steps": {"draft": 4}},
        "image_prompt": {"encoder": "image_encoder", "adapter": "ip_adapter"},
        "image_guides": {"depth": "controlnet_depth"},
        "timestep_shift": 2.0,
    }
    card = json.loads((base / "animatic.json").read_text()) | told
    (base / "animatic.json").write_text(json.dumps(card))
    run = Run(tmp_path / "run", read_recipe("blockout-mini"), base=base)
    before = run.part("motion_adapter")
    trained = run.part("motion_adapter")
    for weight in trained.parameters():
        torch.nn.init.normal_(weight)
    depth = run.part("sparsectrl_depth")
    for layer in (*depth.controlnet_down_blocks, depth.controlnet_mid_block):
        torch.nn.init.normal_(layer.weight)
    run.keep({"motion_adapter": trained, "sparsectrl_depth": depth})

    out = tmp_path / "out"
    run.export(out, means={"motion_adapter": 0.25}, strengths={"depth": 1.5})
    louder = Run(tmp_path / "louder", run.recipe, base=out).part("sparsectrl_depth")
    for said, after in zip(residuals(depth), residuals(louder), strict=True):
        assert said.abs().max() > 0.1
        assert torch.allclose(after, 1.5 * said, rtol=2e-2, atol=2e-2)
    exported = Run(tmp_path / "next", run.recipe, base=out).part("motion_adapter").parameters()
    for mean, early, late in zip(exported, before.parameters(), trained.parameters(), strict=True):
        assert torch.allclose(mean, 0.75 * early + 0.25 * late, atol=5e-3)
    info = read_info(out)
    assert info.few_steps == told["few_steps"]
    assert info.image_prompt["encoder"] == out / "image_encoder"
    assert info.image_guides == {"depth": "controlnet_depth.safetensors"}
    assert info.timestep_shift == 2
    assert (out / "loras" / lora.name).samefile(lora)

    # What a stage trains anew replaces what was brought, and leaves the base alone.
    anew = run.folder / "parts" / "loras" / lora.name
    anew.parent.mkdir()
    save_file({"weight": torch.zeros(1)}, anew)
    run.export(out)
    assert load_file(out / "loras" / lora.name)["weight"] == 0
    assert load_file(lora)["weight"] == 1
    for means, said in (({"unet": 0.5}, "no mean of unet"), ({"motion_adapter": 6.0}, "0 to 1")):
        with pytest.raises(EngineError, match=said):
            run.export(out, means=means)
    # Of a wrong one `all` speaks before it trains anything.
    with pytest.raises(EngineError, match="one of unet"):
        run.check_export({"unett": 0.5}, {})
    with pytest.raises(EngineError, match="one of depth, lineart, render"):
        run.check_export({}, {"motion": 1.2})
    (base / "animatic.json").write_text('{"schema": 1, "name": "broken"}')
    with pytest.raises(EngineError, match="lacks or mistakes an entry"):
        run.check_export({}, {})
