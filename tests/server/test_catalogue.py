"""The catalogue of models, and what of it is on this machine; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

from animatic.blender_addon.link.install_models import list_known, refresh_cards
from animatic.server.models import CATALOGUE, find_model, read_catalogue


def test_the_catalogue_of_the_repository() -> None:
    names = [model.name for model in read_catalogue()]
    assert names == ["sd15-animatediff-v3", "sd15-depth", "sd15-image-prompt"]
    entries = json.loads(CATALOGUE.read_text())["models"]
    for entry in entries:
        assert {"name", "title", "purpose", "licence", "licence_url"} <= entry.keys()
    model = find_model("sd15-animatediff-v3")
    assert model.card is not None
    # what the card points to is among the files
    assert set(model.card["files"].values()) <= {str(file.to) for file in model.files}
    assert all(len(file.revision) == 40 for file in model.files)
    depth, prompt = (find_model(name) for name in ("sd15-depth", "sd15-image-prompt"))
    assert model.card["image_guides"]["depth"] == str(depth.folder.relative_to(model.name))
    files = {str(prompt.folder.relative_to(model.name) / file.to) for file in prompt.files}
    adapter = model.card["image_prompt"]["adapter"] + ".safetensors"
    assert {adapter, model.card["image_prompt"]["encoder"] + "/model.safetensors"} <= files


def test_what_is_known_and_what_is_here(tmp_path: Path) -> None:
    known = {model.name: model for model in list_known(tmp_path)}
    assert [name for name, model in known.items() if model.installed] == ["blockout-mini"]
    assert round(known["sd15-animatediff-v3"].bytes / 1e9, 1) == 10.0
    depth = known["sd15-depth"].folder
    depth.mkdir(parents=True)
    (depth / "diffusion_pytorch_model.safetensors").touch()
    known = {model.name: model for model in list_known(tmp_path)}
    assert known["sd15-depth"].installed
    assert not known["sd15-animatediff-v3"].installed


def test_a_card_from_before_learns_of_the_parts_that_came_since(tmp_path: Path) -> None:
    """Beside the same files alone; and what its owner has changed stays."""
    entry = {"name": "big", "title": "Big", "purpose": "x", "licence": "x", "licence_url": "x"}
    card = {"schema": 1, "name": "big", "files": {"base": "b.safetensors"}, "lineart_width": 8}
    newest = card | {"image_guides": {"depth": "controlnet_depth"}}
    file = {"to": "b.safetensors", "bytes": 5, "sha256": "0" * 64}
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(json.dumps({"models": [entry | {"card": newest, "files": [file]}]}))
    path = tmp_path / "models" / "big" / "animatic.json"
    path.parent.mkdir(parents=True)
    (path.parent / "b.safetensors").write_bytes(b"12345")
    path.write_text(json.dumps(card | {"lineart_width": 3}))
    assert refresh_cards(path.parents[1], catalogue) == ["big"]
    assert json.loads(path.read_text()) == newest | {"lineart_width": 3}
    assert refresh_cards(path.parents[1], catalogue) == []
    for own, content in ((card, b"123456"), (card | {"files": {"base": "c"}}, b"12345")):
        path.write_text(json.dumps(own))
        (path.parent / "b.safetensors").write_bytes(content)
        assert refresh_cards(path.parents[1], catalogue) == []
        assert json.loads(path.read_text()) == own
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, "b.safetensors"]
