"""Checkpoints of published files: the same bits as from folders, and sentences for wrong ones."""

import json
import os
import pickle
import re
import shutil
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.model_folder import load_image_control
from animatic.engine.original import load_control, load_motion, published_schedule
from animatic.engine.original_files import read_weights, recognise
from animatic.engine.run import Engine, EngineError, describe
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer

from .conftest import Guides
from .image_parts import add_image_parts
from .published import (
    image_control,
    small_models,
    write_base,
    write_control,
    write_image_control,
    write_motion,
)

FILES = {
    "base": "small.safetensors",
    "motion": "v3_sd15_mm.ckpt",
    "adapter": "v3_sd15_adapter.ckpt",
    "sparsectrl_rgb": "v3_sd15_sparsectrl_rgb.ckpt",
    "sparsectrl_lineart": "v3_sd15_sparsectrl_scribble.ckpt",
}
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_{}"


@dataclass(frozen=True)
class Published:
    """One model in two forms: ``files`` as published, ``folders`` in diffusers' layout, where the
    domain adapter is part of the weights."""

    files: Path
    folders: Path


@pytest.fixture(scope="module")
def published(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("published")
    made = Published(root / "files", root / "folders")
    tokenizer = CLIPTokenizer.from_pretrained(checkpoint / "tokenizer")
    models = small_models(len(tokenizer))
    description = {
        "schema": 1,
        "name": "small",
        "native": {"width": 32, "height": 32, "frames": 16, "fps": 8},
        "guides": {"lineart": "sparsectrl_lineart", "render": "sparsectrl_rgb"},
        "defaults": {"steps": 2, "guidance": 7.5},
        "lineart_width": 1.5,
    }
    for folder in (made.files, made.folders):
        shutil.copytree(checkpoint / "tokenizer", folder / "tokenizer")
    (made.files / "animatic.json").write_text(
        json.dumps(description | {"files": FILES, "scales": {"adapter": 0.5}})
    )
    (made.folders / "animatic.json").write_text(json.dumps(description))
    write_base(models, made.files / FILES["base"])
    write_motion(models["motion_adapter"], made.files / FILES["motion"])
    write_control(models["sparsectrl_rgb"], made.files / FILES["sparsectrl_rgb"])
    write_control(models["sparsectrl_lineart"], made.files / FILES["sparsectrl_lineart"])
    write_adapter(models["unet"], made.files / FILES["adapter"], merged=0.5)
    for name, model in models.items():
        model.save_pretrained(made.folders / name)
    published_schedule().save_pretrained(made.folders / "scheduler")
    return made


def write_adapter(unet: nn.Module, path: Path, merged: float) -> None:
    """A domain adapter, which at the scale ``merged`` becomes part of ``unet``."""
    factors = {}
    for projection in ("q", "k", "v", "out"):
        layer = LAYER.format(projection)
        down, up = torch.randn(4, 32), torch.randn(32, 4)
        processor = layer.replace(".to_", ".processor.to_") + "_lora"
        factors |= {f"{processor}.down.weight": down, f"{processor}.up.weight": up}
        weight = unet.get_parameter((layer + ".0" if projection == "out" else layer) + ".weight")
        with torch.no_grad():
            weight += merged * (up @ down)
    torch.save({"state_dict": factors}, path)


@pytest.fixture
def copied(published: Published, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published.files, tmp_path / "copied"))


def loaded(folder: Path) -> Engine:
    engine = Engine("cpu")
    engine.load(folder, lambda event: None)
    return engine


def frames(engine: Engine, request: dict[str, Any], guides: Guides) -> np.ndarray:
    return engine.generate(request, guides, 1, lambda event: None, lambda: False).frames


def test_the_same_frames_as_from_folders(
    published: Published, request_for: Callable[..., dict[str, Any]], guides: Guides
) -> None:
    controls = [guides.control("lineart", {0: 1.0}), guides.control("render", {3: 1.0})]
    request = request_for(*controls, checkpoint={"name": "small"})
    from_files = frames(loaded(published.files), request, guides)
    from_folders = frames(loaded(published.folders), request, guides)
    assert from_files.std() > 1
    assert np.array_equal(from_files, from_folders)


def test_pictures_are_decoded_in_tiles_of_the_published_size(published: Published) -> None:
    parts = loaded(published.files).parts
    assert parts.vae.tile_latent_min_size * parts.latent_scale == 512


def test_added_parts_fit_published_files(
    published: Published,
    copied: Path,
    request_for: Callable[..., dict[str, Any]],
    guides: Guides,
    tmp_path: Path,
) -> None:
    """As the catalogue lays them out: a ControlNet, and an image prompt in a folder of its own."""
    folders = Path(shutil.copytree(published.folders, tmp_path / "folders"))
    add_image_parts(folders)
    shutil.copytree(folders / "controlnet_depth", copied / "controlnet_depth")
    shutil.copytree(folders / "image_encoder", copied / "image_prompt" / "image_encoder")
    shutil.copy(folders / "ip_adapter.safetensors", copied / "image_prompt")
    parts = {"encoder": "image_prompt/image_encoder", "adapter": "image_prompt/ip_adapter"}
    edit(copied, image_guides={"depth": "controlnet_depth"}, image_prompt=parts)
    assert describe(copied)["guides"] == ["depth", "lineart", "render"]
    prompt = {"sha256": guides.sha["render", 0], "scale": 1.0}
    controls = [guides.control("depth", {0: 1.0, 2: 1.0}), guides.control("render", {3: 1.0})]
    request = request_for(*controls, checkpoint={"name": "small"}) | {"image_prompt": prompt}
    from_files, from_folders = (
        frames(loaded(folder), request, guides) for folder in (copied, folders)
    )
    assert np.array_equal(from_files, from_folders)
    # A single file in the folder's place; diffusers' naming will do.
    (copied / "controlnet_depth" / "diffusion_pytorch_model.safetensors").rename(
        copied / "controlnet_depth.safetensors"
    )
    shutil.rmtree(copied / "controlnet_depth")
    assert np.array_equal(frames(loaded(copied), request, guides), from_folders)
    edit(copied, image_prompt=parts | {"adapter": "../elsewhere"})
    with pytest.raises(EngineError, match="each a plain path in the checkpoint's folder"):
        describe(copied)


def test_an_image_controlnet_from_a_published_file(published: Published, tmp_path: Path) -> None:
    """Named as published it is the folder's own; one that is not whole, or else, is told."""
    parts = loaded(published.folders).parts
    torch.manual_seed(1)
    model = image_control(UNet2DConditionModel.from_pretrained(published.folders / "unet"))
    model.save_pretrained(tmp_path / "folder")
    path = tmp_path / "control_v11f1p_sd15_depth.safetensors"
    write_image_control(model, path)
    inputs = (torch.randn(2, 4, 8, 8), 601, torch.randn(2, 5, 64), torch.rand(2, 3, 64, 64))
    with torch.inference_mode():
        both = [
            load_image_control(place, parts.unet, 8, parts.plan)(*inputs, return_dict=False)
            for place in (path, tmp_path / "folder")
        ]
    for ours, theirs in zip(*((*skips, middle) for skips, middle in both), strict=True):
        assert torch.equal(ours, theirs)
    whole = load_file(path)
    for lost in ("control_model.zero_convs.1.0.bias", "control_model.input_hint_block.14.weight"):
        save_file({name: w for name, w in whole.items() if name != lost}, path)
        with pytest.raises(EngineError, match=r"depth.safetensors is not whole: expected an image"):
            load_image_control(path, parts.unet, 8, parts.plan)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EngineError, match="damaged, cut short or no weight file"):
        load_image_control(path, parts.unet, 8, parts.plan)
    with pytest.raises(EngineError, match=r"is AnimateDiff motion modules; expected an image Cont"):
        load_image_control(published.files / FILES["motion"], parts.unet, 8, parts.plan)


def test_description_and_hash_follow_the_files(published: Published, copied: Path) -> None:
    before = describe(copied)
    assert before == describe(published.files)
    assert before["guides"] == ["lineart", "render"]
    edit(copied, scales={"adapter": 1.0})
    assert describe(copied)["sha256"] != before["sha256"]
    edit(copied, scales={"adapter": 0.5})
    (copied / FILES["sparsectrl_rgb"]).unlink()
    assert describe(copied)["guides"] == ["lineart"]
    shutil.copy(copied / FILES["adapter"], copied / FILES["motion"])
    assert describe(copied)["sha256"] != before["sha256"]


def test_a_motion_scale_of_0_leaves_images(copied: Path, published: Published) -> None:
    """Without motion modules no frame sees another: a clip's first frame is the clip of one."""
    edit(copied, scales={"motion": 0, "adapter": 0.5})
    still, moving = loaded(copied).parts.unet, loaded(published.files).parts.unet
    torch.manual_seed(0)
    clip, text = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 5, 64)

    def first_frame(unet: nn.Module, clip: torch.Tensor) -> torch.Tensor:
        repeated = text.repeat_interleave(clip.shape[2], dim=0)
        return unet(clip, torch.tensor(601), encoder_hidden_states=repeated).sample[:, :, 0]

    with torch.inference_mode():
        alone = first_frame(still, clip[:, :, :1])
        torch.testing.assert_close(first_frame(still, clip), alone, rtol=1e-5, atol=1e-5)
        assert (first_frame(moving, clip) - alone).abs().max() > 0.01


def edit(folder: Path, **entries: object) -> None:
    path = folder / "animatic.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def thin(path: Path, name: str) -> None:
    """Take the weights that have ``name`` in theirs out of a .safetensors file."""
    save_file({k: w for k, w in load_file(path).items() if name not in k}, path)


def exchange(folder: Path, part: str, other: str) -> None:
    shutil.copy(folder / FILES[other], folder / FILES[part])


def write_as(folder: Path, part: str, content: Any) -> None:
    torch.save(content, folder / FILES[part])


def one(name: str) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(2, 2)}


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "base is missing": (
        lambda f: (f / FILES["base"]).unlink(),
        r"small\.safetensors is missing; expected a Stable Diffusion 1 checkpoint",
    ),
    "base cut short": (
        lambda f: cut(f / FILES["base"]),
        r"small\.safetensors is damaged, cut short or no weight file .*; expected a Stable Diff",
    ),
    "base without VAE": (
        lambda f: thin(f / FILES["base"], "first_stage_model"),
        r"small\.safetensors is not whole: expected the VAE of Stable Diffusion 1, but",
    ),
    "base without text encoder": (
        lambda f: thin(f / FILES["base"], "cond_stage"),
        r"small\.safetensors is not whole: expected the text encoder of Stable Diffusion 1",
    ),
    "base without one layer": (
        lambda f: thin(f / FILES["base"], "output_blocks.2.0.in_layers.2.bias"),
        r"not whole: .* up_blocks\.0\.resnets\.2\.conv1\.bias for one",
    ),
    "motion cut short": (
        lambda f: cut(f / FILES["motion"]),
        r"v3_sd15_mm\.ckpt is damaged, cut short or no weight file .*; expected AnimateDiff motion",
    ),
    "motion is a page": (
        lambda f: (f / FILES["motion"]).write_text("<html>404</html>"),
        r"v3_sd15_mm\.ckpt is damaged or no weight file; expected AnimateDiff motion modules",
    ),
    "motion is empty": (
        lambda f: (f / FILES["motion"]).write_bytes(b""),
        r"v3_sd15_mm\.ckpt is damaged, cut short or no weight file \(EOFError\)",
    ),
    "motion is a control encoder": (
        lambda f: exchange(f, "motion", "sparsectrl_rgb"),
        r"v3_sd15_mm\.ckpt is a SparseCtrl encoder; expected AnimateDiff motion modules",
    ),
    "control encoder is motion": (
        lambda f: exchange(f, "sparsectrl_rgb", "motion"),
        r"sparsectrl_rgb\.ckpt is AnimateDiff motion modules; expected a SparseCtrl encoder",
    ),
    "adapter is motion": (
        lambda f: exchange(f, "adapter", "motion"),
        r"v3_sd15_adapter\.ckpt is AnimateDiff motion modules; expected AnimateDiff's domain adap",
    ),
    "adapter of another base": (
        lambda f: write_as(
            f,
            "adapter",
            {
                LAYER.format("q_lora.down.weight"): torch.zeros(4, 640),
                LAYER.format("q_lora.up.weight"): torch.zeros(640, 4),
            },
        ),
        r"v3_sd15_adapter\.ckpt was made for another base .* is 640x640, here it is 32x32",
    ),
    "motion is some other model": (
        lambda f: write_as(f, "motion", one("blocks.0.weight")),
        r"v3_sd15_mm\.ckpt is no model that Animatic knows \(its first weight is blocks\.0\.weight",
    ),
    "motion is one tensor": (
        lambda f: write_as(f, "motion", torch.zeros(3)),
        r"v3_sd15_mm\.ckpt holds no named weights",
    ),
    "file outside the folder": (
        lambda f: edit(f, files=FILES | {"motion": "../elsewhere.ckpt"}),
        r"animatic\.json gives the part 'motion' the file '\.\./elsewhere\.ckpt'",
    ),
    "file for no part": (
        lambda f: edit(f, files=FILES | {"upscaler": "x.ckpt"}),
        r"animatic\.json gives the part 'upscaler' the file 'x\.ckpt'",
    ),
    "scale out of range": (
        lambda f: edit(f, scales={"motion": 3}),
        r"animatic\.json gives 'motion' the scale 3; expected 0 to 2",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_named_with_what_it_is(copied: Path, name: str) -> None:
    damage, sentence = WRONG[name]
    damage(copied)
    with pytest.raises(EngineError, match=sentence) as caught:
        loaded(copied).parts.control("render")
    assert str(copied) in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("conditioner.embedders.0.transformer.text_model.x", "a Stable Diffusion XL checkpoint"),
        ("cond_stage_model.model.transformer.x", "a Stable Diffusion 2 checkpoint"),
        ("control_model.input_hint_block.0.weight", "a ControlNet"),
        ("controlnet_cond_embedding.conv_in.weight", "a ControlNet"),
        ("ip_adapter.1.to_k_ip.weight", "an IP-Adapter"),
        ("lora_unet_down_blocks_0_x.hada_w1_a", "a LyCORIS file (LoHa)"),
        ("lora_te2_text_model_x.lora_down.weight", "a LoRA for Stable Diffusion XL"),
        ("string_to_param.*", "a textual inversion"),
        ("down_blocks.0.motion_modules.0.x.processor.to_q_lora.up.weight", "a MotionLoRA"),
        ("down_blocks.0.attentions.0.x.processor.to_q_lora.up.weight", "a LoRA"),
    ],
)
def test_files_are_told_apart(name: str, kind: str) -> None:
    assert recognise(one(name)) == kind


def test_inpainting_checkpoints_are_told_apart() -> None:
    entry = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)}
    assert "inpainting or editing (9 channels)" in recognise(entry)


class Trap:
    """What runs a program when a pickle of it is opened."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.sprung}",)


def old_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, old_pickle])
@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_no_pickle_is_ever_run(tmp_path: Path, save: Callable[..., None], suffix: str) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / f"trap{suffix}"
    save({"state_dict": one("down_blocks.0.motion_modules.0.x"), "x": Trap(sprung)}, path)
    with pytest.raises(EngineError, match=re.escape(str(path))):
        load_motion(path, torch.float32)
    with pytest.raises(EngineError, match=re.escape(str(path))):
        load_control(path, torch.float32)
    assert not sprung.exists()


def test_more_than_weights_is_named(tmp_path: Path) -> None:
    torch.save({"x": types.SimpleNamespace(a=1)}, tmp_path / "odd.ckpt")
    with pytest.raises(EngineError, match=r"holds more than weights \(types\.SimpleNamespace\)"):
        read_weights(tmp_path / "odd.ckpt", "a LoRA")


def test_other_suffixes_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(EngineError, match=r"model\.onnx is not a \.safetensors or \.ckpt file"):
        read_weights(tmp_path / "model.onnx", "a LoRA")
