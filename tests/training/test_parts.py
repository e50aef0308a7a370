"""Training in parts: all stages within a time, out as small files, and on from these."""

import argparse
import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.checkpoint import read_info  # noqa: E402
from animatic.engine.device import default_plan  # noqa: E402
from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.parts import load_parts  # noqa: E402
from animatic.engine.training import cli, together, train  # noqa: E402
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


def test_the_time_of_a_stage_is_what_its_processes_agree_on(tmp_path, monkeypatch):
    minutes = []
    monkeypatch.setattr(together, "agree", lambda value: value / 2)
    for stage in ("image", "motion"):
        monkeypatch.setitem(train.STAGES, stage, lambda run: minutes.append(run.minutes))
    train_all(Run(tmp_path, {"shares": {"image": 1, "motion": 3}}, minutes=1))
    assert minutes == pytest.approx([0.125, 0.5], abs=0.01)


def test_only_data_and_all_read_a_folder_of_clips(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    asked = ["motionlora", "--move", "dolly in", "--data", str(tmp_path)]
    assert cli.main(parser.parse_args(asked)) == 2
    assert "motionlora takes no --data" in capsys.readouterr().out


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
        "native": {"width": 64, "height": 48, "frames": 8, "fps": 12},
        "lineart_width": 5.0,
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
    assert (info.native, info.lineart_width) == (told["native"], told["lineart_width"])
    assert (out / "loras" / lora.name).samefile(lora)

    # Clips give their own size, the recipe a rate where it names one; and lines are as wide as
    # those that their encoder was trained on here.
    (run.folder / "clips").mkdir()
    clip = {"colour": torch.zeros(1, 4, 3, 16, 24, dtype=torch.uint8)}
    torch.save(clip, run.folder / "clips" / "00000.pt")
    run.keep({"sparsectrl_lineart": run.part("sparsectrl_lineart")})
    run.recipe["model"]["fps"] = 24
    run.export(out)
    info = read_info(out)
    assert info.native == {"width": 24, "height": 16, "frames": 4, "fps": 24}
    assert info.lineart_width == 5
    torch.save(clip | {"regions": torch.zeros(1)}, run.folder / "clips" / "00000.pt")
    run.export(out)
    assert read_info(out).lineart_width == run.size.lineart_width == 1.5

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
