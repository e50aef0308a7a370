"""Training in parts: all stages within a time, out as small files, and on from these."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.device import default_plan  # noqa: E402
from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.parts import load_parts  # noqa: E402
from animatic.engine.training.run import Run  # noqa: E402
from animatic.engine.training.train import train_all  # noqa: E402


@pytest.mark.slow
def test_parts_within_a_time_go_on_from_small_files(tmp_path, small_recipe):
    first = Run(tmp_path / "first", small_recipe(None), minutes=1)
    first.recipe["data"] |= {"stills": 1}
    took = train_all(first)
    assert list(took) == list(first.recipe["shares"])
    first.export(tmp_path / "one", shard_size="100KB")

    files = list((tmp_path / "one").rglob("*.safetensors"))
    assert all(file.stat().st_size < 120_000 for file in files)
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
