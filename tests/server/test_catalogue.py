"""The catalogue of models, and what of it is on this machine; nothing is downloaded."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest
from animatic.blender_addon.link.install_models import list_known, refresh_cards
from animatic.server.catalogue import Catalogue, UnknownCheckpoint
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


class Worker:
    """Tells a checkpoint's weights some moments after it has read them; to all who ask meanwhile,
    as the real one does.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.reads = asyncio.Event()
        self._under_way: dict[Path, asyncio.Task] = {}

    async def describe(self, folder: Path) -> dict:
        if folder not in self._under_way:
            self._under_way[folder] = asyncio.create_task(self._describe(folder))
        return await self._under_way[folder]

    async def _describe(self, folder: Path) -> dict:
        self.asked.append(folder.name)
        content = (folder / "weights").read_text()
        self.reads.set()
        await asyncio.sleep(0.1)
        del self._under_way[folder]
        name = json.loads((folder / "animatic.json").read_text())["name"]
        return {"description": {"name": name, "sha256": content}}


def checkpoints(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"folder of {name}").mkdir()
        (folder / f"folder of {name}" / "animatic.json").write_text(json.dumps({"name": name}))
        (folder / f"folder of {name}" / "weights").write_text("old")
    return folder


def test_only_the_checkpoint_that_is_asked_for_is_hashed(tmp_path: Path) -> None:
    async def ask() -> None:
        worker, catalogue = Worker(), Catalogue([checkpoints(tmp_path, "a", "b", "c")])
        found = await catalogue.find({"name": "b", "sha256": None}, worker)
        assert found["folder"] == str(tmp_path / "folder of b")
        with pytest.raises(UnknownCheckpoint, match="There are: a, b, c"):
            await catalogue.find({"name": "d", "sha256": None}, worker)
        assert worker.asked == ["folder of b"]

    asyncio.run(ask())


def test_who_asks_while_a_checkpoint_changes_gets_the_new_one(tmp_path: Path) -> None:
    async def ask() -> None:
        worker, catalogue = Worker(), Catalogue([checkpoints(tmp_path, "a")])
        before = asyncio.create_task(catalogue.models(worker))
        await worker.reads.wait()
        (tmp_path / "folder of a" / "weights").write_text("newer")
        assert (await catalogue.models(worker))["models"][0]["sha256"] == "newer"
        assert (await before)["models"][0]["sha256"] == "old"

    asyncio.run(ask())


@pytest.mark.parametrize("call", ["Path.is_dir", "os.walk"])
def test_a_share_that_stalls_does_not_stop_the_service(tmp_path: Path, monkeypatch, call) -> None:
    stalled, goes_on = threading.Event(), threading.Event()

    def stall(*_: object) -> list:
        stalled.set()
        assert goes_on.wait(5), "the event loop waited for the disk"
        return []

    async def ask() -> None:
        catalogue = Catalogue([checkpoints(tmp_path, "a")])
        monkeypatch.setattr(f"animatic.server.catalogue.{call}", stall)
        asking = asyncio.create_task(catalogue.models(Worker()))
        while not stalled.is_set():
            await asyncio.sleep(0.01)
        goes_on.set()
        await asking

    asyncio.run(ask())
