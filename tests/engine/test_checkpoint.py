"""A checkpoint folder that is wrong gets a sentence that names the file."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from animatic.engine.run import Engine, EngineError, describe
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

WEIGHTS = "diffusion_pytorch_model.safetensors"
FINAL_NORM = "final_layer_norm.weight"


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copied"))


def load(folder: Path) -> None:
    Engine("cpu").load(folder, lambda event: None)


def edit(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def widen(path: Path, layer: str) -> None:
    """Give a layer's weight another row."""
    weights = load_file(path)
    weights[layer] = torch.cat([weights[layer], weights[layer][:1]])
    save_file(weights, path, {"format": "pt"})


def turn_into_pickle(path: Path) -> None:
    path.unlink()
    path.with_suffix(".bin").write_bytes(pickle.dumps({}))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no description": (
        lambda f: (f / "animatic.json").unlink(),
        r"animatic\.json is missing; expected the description",
    ),
    "description not JSON": (
        lambda f: (f / "animatic.json").write_text("{"),
        r"animatic\.json cannot be read as JSON",
    ),
    "description of a later version": (
        lambda f: edit(f / "animatic.json", schema=2),
        r"animatic\.json has schema 2; this version of Animatic reads schema 1",
    ),
    "description without an entry": (
        lambda f: edit(f / "animatic.json", native={"width": 1}),
        r"animatic\.json lacks or mistakes an entry \('height'\)",
    ),
    "encoder outside the folder": (
        lambda f: edit(f / "animatic.json", guides={"depth": "../elsewhere"}),
        r"animatic\.json gives the guide 'depth' the folder '\.\./elsewhere'",
    ),
    "no UNet": (
        lambda f: shutil.rmtree(f / "unet"),
        r"unet/config\.json is missing; expected the configuration of the image UNet",
    ),
    "another part": (
        lambda f: shutil.copy(f / "vae/config.json", f / "unet/config.json"),
        r"unet/config\.json is the configuration of AutoencoderKL; expected UNet2DConditionModel",
    ),
    "weights missing": (
        lambda f: (f / "vae" / WEIGHTS).unlink(),
        r"vae holds no weights; expected the picture decoder",
    ),
    "weights cut short": (
        lambda f: cut(f / "motion_adapter" / WEIGHTS),
        rf"motion_adapter/{WEIGHTS} is damaged or cut short",
    ),
    "weights that are text": (
        lambda f: (f / "text_encoder/model.safetensors").write_text("<html>404</html>"),
        r"text_encoder/model\.safetensors is damaged or cut short",
    ),
    "another model's weights": (
        lambda f: shutil.copy(f / "vae" / WEIGHTS, f / "unet" / WEIGHTS),
        r"weights in .*unet are not those of the image UNet .* are missing",
    ),
    "a weight of another shape in the text encoder": (
        lambda f: widen(f / "text_encoder/model.safetensors", FINAL_NORM),
        rf"weights in .*text_encoder are not those of the text encoder .* 1 are .*{FINAL_NORM} ",
    ),
    "a weight of another shape in the UNet": (
        lambda f: widen(f / "unet" / WEIGHTS, "conv_out.bias"),
        r"weights in .*unet are not those of the image UNet .* 1 are .*conv_out\.bias ",
    ),
    "a pickle": (
        lambda f: turn_into_pickle(f / "unet" / WEIGHTS),
        r"unet/diffusion_pytorch_model\.bin is a pickle file",
    ),
    "motion modules of another UNet": (
        lambda f: edit(f / "motion_adapter/config.json", block_out_channels=[8]),
        r"motion_adapter",
    ),
    "no vocabulary": (
        lambda f: shutil.rmtree(f / "tokenizer"),
        r"tokenizer/vocab\.json is missing",
    ),
    "an unknown schedule": (
        lambda f: edit(f / "scheduler/scheduler_config.json", _class_name="Ghost"),
        r"scheduler_config\.json names the noise schedule 'Ghost'",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_wrong_file_is_named(copied: Path, name: str) -> None:
    damage, sentence = DAMAGE[name]
    damage(copied)
    with pytest.raises(EngineError, match=sentence) as caught:
        load(copied)
    assert str(copied) in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_library_that_fails_is_told_but_not_a_lack_of_memory(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(said: str) -> None:
        def from_pretrained(*args: object, **more: object) -> None:
            raise RuntimeError(said)

        monkeypatch.setattr(CLIPTextModel, "from_pretrained", from_pretrained)

    fail("Error(s) in loading")
    with pytest.raises(
        EngineError, match=r"text_encoder cannot be loaded .*: Error\(s\) in loading"
    ):
        load(checkpoint)
    fail("CUDA error: out of memory")
    with pytest.raises(RuntimeError, match=r"^CUDA error: out of memory$"):
        load(checkpoint)


def test_a_pickle_is_never_opened(copied: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (str(tmp_path / "sprung"), "w"))

    weights = copied / "unet" / WEIGHTS
    weights.unlink()
    weights.with_suffix(".bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(EngineError):
        load(copied)
    assert not (tmp_path / "sprung").exists()


def test_the_description_needs_no_weights(copied: Path) -> None:
    cut(copied / "unet" / WEIGHTS)
    described = describe(copied)
    assert described["name"] == "blockout-tiny"
    assert described["guides"] == ["depth", "lineart", "render"]
    assert described["encoders"]["depth"] == ["sparse"]
    assert described["image_prompt"] is False
    assert described["loras"] == []
    for folder, name in ((copied, "roll.safetensors"), (copied.parent, "film.ckpt")):
        (folder / "loras").mkdir()
        (folder / "loras" / name).touch()
    assert describe(copied)["loras"] == ["film", "roll"]
    assert described["native"] == {"width": 64, "height": 64, "frames": 16, "fps": 8}


def test_the_hash_follows_the_weights_and_not_the_name(checkpoint: Path, copied: Path) -> None:
    before = describe(checkpoint)["sha256"]
    edit(copied / "animatic.json", name="renamed", licence="CC0-1.0")
    assert describe(copied)["sha256"] == before
    cut(copied / "unet" / WEIGHTS)
    assert describe(copied)["sha256"] != before


def test_a_guide_without_its_encoder_is_not_offered(copied: Path) -> None:
    shutil.rmtree(copied / "sparsectrl_depth")
    assert describe(copied)["guides"] == ["lineart", "render"]
