"""How long Generate will take, learnt from what earlier takes took; and how much memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from animatic.blender_addon.link.catalogue import PRESETS
from animatic.blender_addon.ui.memory import LIBRARIES, model_memory, sampling_memory
from animatic.blender_addon.ui.speeds import Speeds, Work, in_words, measured

REQUEST = {
    "sampling": {"steps": 20, "guidance": 7.5},
    "clip": {"frames": 16, "fps": "8", "width": 128, "height": 128},
}
TAKE = {"plan": {"device": "cpu"}, "seconds": {"sampling": 32.0, "decode": 1.6}}


def test_later_runs_are_told_from_the_first(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path / "data" / "speeds.json")
    assert speeds.of("mini", "local") is None
    first = measured(REQUEST, [TAKE, TAKE], 77.2, None)
    speeds.learn("mini", "local", first)
    again = Speeds(tmp_path / "data" / "speeds.json").of("mini", "local")
    assert again == first
    assert speeds.of("mini", "gpu.example.com") is None
    whole = Work.of(REQUEST, 2)
    assert again.seconds(whole) == pytest.approx(77.2)
    # half the steps without guidance: a quarter of the sampling
    assert again.seconds(Work(10, 16, 1, 1.0)) == pytest.approx(10 + 8 + 1.6)
    # a second pass over 0.4 of the steps at twice the size
    assert Work(20, 16, 1, 1.0, upscale=(2.0, 0.4)).passes == pytest.approx(20 * 16 * 2.6)
    # a redone take renders no guides: what a run needs besides stays known
    assert measured(REQUEST, [TAKE], 0.0, again).once == pytest.approx(10)


def test_a_damaged_file_is_learnt_again(tmp_path: Path) -> None:
    file = tmp_path / "speeds.json"
    for content in ("{", "[]", json.dumps({"speeds": {"local mini": {"later": 1}}})):
        file.write_text(content)
        assert Speeds(file).of("mini", "local") is None


def test_words() -> None:
    assert [in_words(seconds) for seconds in (1, 42, 100, 4000)] == [
        "About 5 s",
        "About 40 s",
        "About 2 min",
        "About 1.1 h",
    ]


def test_memory_counts_one_guide_and_the_size_of_numbers() -> None:
    folder = PRESETS / "blockout-mini"
    whole = model_memory(folder, "depth", 4)
    assert 20e6 < whole < 400e6
    assert model_memory(folder, "depth", 2) == whole / 2
    on_disk = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    assert model_memory(folder, "no such guide", 4) < whole < 2 * on_disk
    assert model_memory(folder / "nowhere", "depth", 4) == 0


def test_memory_of_sampling_is_what_was_measured(tmp_path: Path) -> None:
    mini = PRESETS / "blockout-mini"
    weights = model_memory(mini, "depth", 4)
    # frames, side, peak resident bytes of the engine's process
    for frames, side, peak in ((16, 128, 558), (16, 256, 875), (8, 256, 649)):
        told = LIBRARIES + weights + sampling_memory(mini, frames, side**2, 2, 4)
        assert told == pytest.approx(peak * 2**20, rel=0.1), (frames, side)
    assert sampling_memory(mini, 16, 128**2, 1, 2) * 4 == sampling_memory(mini, 16, 128**2, 2, 4)
    # nothing is known of this one: as Stable Diffusion 1.5
    assert sampling_memory(tmp_path, 16, 512**2, 2, 2) == pytest.approx(4.2e9, rel=0.01)
