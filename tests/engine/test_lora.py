"""LoRAs: every layout means the same change, scale 0 is none, and taking out leaves no trace."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.run import Engine, EngineError
from diffusers import AnimateDiffPipeline
from safetensors.torch import save_file

from .conftest import Guides
from .published import motion_names

MakeRequest = Callable[..., dict[str, Any]]
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
IMAGE_LAYERS = (f"{BLOCK}.attn1.to_q", f"{BLOCK}.attn2.to_out.0")
OTHER_LAYERS = (
    f"{BLOCK}.ff.net.0.proj",
    "down_blocks.0.attentions.0.proj_in",
    "down_blocks.0.resnets.0.conv1",
)
MOTION_BLOCK = "down_blocks.0.motion_modules.0.transformer_blocks.0"
MOTION_LAYERS = (f"{MOTION_BLOCK}.attn1.to_k", f"{MOTION_BLOCK}.attn2.to_out.0")
TEXT_LAYERS = ("encoder.layers.0.self_attn.q_proj", "encoder.layers.0.mlp.fc1")
RANK = 2
ALPHA = 3.0


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of LoRAs beside a copy of the tiny checkpoint."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(checkpoint, root / "tiny")
    (root / "loras").mkdir()
    return root / "loras"


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    engine = Engine("cpu")
    engine.load(folder.parent / "tiny", lambda event: None)
    return engine


@pytest.fixture(autouse=True)
def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def models(engine: Engine) -> dict[str, torch.nn.Module]:
    return {"unet": engine.parts.unet, "text_encoder": engine.parts.text_encoder}


def factors(model: torch.nn.Module, layers: tuple[str, ...], seed: int = 0) -> Factors:
    """``down`` and ``up`` for each layer, convolutions in kohya's shapes."""
    torch.manual_seed(seed)
    made = {}
    for layer in layers:
        out, *into = model.get_parameter(f"{layer}.weight").shape
        ones = [1] * (len(into) - 1)
        made[layer] = torch.randn(RANK, *into), torch.randn(out, RANK, *ones)
    return made


def named(pairs: Factors, name: str) -> dict[str, torch.Tensor]:
    """Factors under names like ``{layer}.lora.{side}.weight``."""
    return {
        name.format(layer=layer, side=side): tensor
        for layer, pair in pairs.items()
        for side, tensor in zip(("down", "up"), pair, strict=True)
    }


def kohya(pairs: Factors, prefix: str) -> dict[str, torch.Tensor]:
    written = {}
    for layer, (down, up) in pairs.items():
        name = prefix + layer.replace(".", "_")
        written |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        written[f"{name}.alpha"] = torch.tensor(ALPHA)
    return written


def as_processors(pairs: Factors) -> dict[str, torch.Tensor]:
    """The oldest layout, AnimateDiff's too: to_q -> processor.to_q_lora."""
    written = {}
    for layer, (down, up) in pairs.items():
        stem, last = layer.removesuffix(".0").rsplit(".", 1)
        written[f"{stem}.processor.{last}_lora.down.weight"] = down
        written[f"{stem}.processor.{last}_lora.up.weight"] = up
    return written


def write_kohya(path: Path, unet: Factors, text: Factors) -> float:
    prefix = "lora_te_text_model_"
    save_file(kohya(unet, "lora_unet_") | kohya(text, prefix), path)
    return ALPHA / RANK


def write_diffusers(path: Path, unet: Factors, text: Factors) -> float:
    save_file(
        named(unet, "unet.{layer}.lora.{side}.weight")
        | named(text, "text_encoder.text_model.{layer}.lora_linear_layer.{side}.weight"),
        path,
    )
    return 1.0


def write_peft(path: Path, unet: Factors, text: Factors) -> float:
    weights = named(unet, "unet.{layer}.lora_{side}.weight")
    weights |= named(text, "text_encoder.text_model.{layer}.lora_{side}.weight")
    both = {
        k.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): w for k, w in weights.items()
    }
    noted = '{"unet.lora_alpha": 3, "unet.r": 2, "text_encoder.lora_alpha": 3}'
    save_file(both, path, metadata={"lora_adapter_metadata": noted})
    return ALPHA / RANK


WRITERS = {"kohya": write_kohya, "diffusers": write_diffusers, "peft": write_peft}


def use(engine: Engine, *entries: tuple[str, float]) -> None:
    engine.parts.loras.use([{"name": n, "sha256": None, "scale": s} for n, s in entries])


def state(engine: Engine) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": weight.clone()
        for name, model in models(engine).items()
        for key, weight in model.state_dict().items()
    }


def assert_only_changed(
    engine: Engine, before: dict[str, torch.Tensor], added: dict[str, torch.Tensor]
) -> None:
    for name, weight in state(engine).items():
        if name in added:
            expected = before[name] + added[name].reshape(weight.shape)
            torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-6)
            assert not torch.equal(weight, before[name])
        else:
            assert torch.equal(weight, before[name])


def products(model: str, pairs: Factors, scale: float) -> dict[str, torch.Tensor]:
    return {
        f"{model}.{layer}.weight": scale * (up.flatten(1) @ down.flatten(1))
        for layer, (down, up) in pairs.items()
    }


@pytest.mark.parametrize("layout", WRITERS)
def test_a_style_lora_in_every_layout(engine: Engine, folder: Path, layout: str) -> None:
    before = state(engine)
    unet = factors(engine.parts.unet, IMAGE_LAYERS + OTHER_LAYERS)
    text = factors(engine.parts.text_encoder, TEXT_LAYERS)
    inner = WRITERS[layout](folder / "toon.safetensors", unet, text)
    use(engine, ("toon", 0.7))
    added = products("unet", unet, 0.7 * inner) | products("text_encoder", text, 0.7 * inner)
    assert_only_changed(engine, before, added)
    use(engine)
    assert_only_changed(engine, before, {})


@pytest.mark.parametrize("layout", ["published", "diffusers"])
def test_a_motion_lora(engine: Engine, folder: Path, layout: str) -> None:
    before = state(engine)
    pairs = factors(engine.parts.unet, MOTION_LAYERS)
    if layout == "published":
        torch.save({"state_dict": motion_names(as_processors(pairs))}, folder / "v2_lora_Pan.ckpt")
    else:
        layers = named(pairs, "{layer}.lora.{side}.weight")
        AnimateDiffPipeline.save_lora_weights(
            folder, unet_lora_layers=layers, weight_name="v2_lora_Pan.safetensors"
        )
    use(engine, ("v2_lora_Pan", -1.0))
    assert_only_changed(engine, before, products("unet", pairs, -1.0))
    use(engine)
    assert_only_changed(engine, before, {})


def test_several_are_weighted_and_added(engine: Engine, folder: Path) -> None:
    before = state(engine)
    one = factors(engine.parts.unet, IMAGE_LAYERS, seed=1)
    two = factors(engine.parts.unet, IMAGE_LAYERS, seed=2)
    write_diffusers(folder / "one.safetensors", one, {})
    write_diffusers(folder / "two.safetensors", two, {})
    use(engine, ("one", 1.0))
    use(engine, ("one", 0.5), ("two.safetensors", -2.0))
    sums = products("unet", one, 0.5)
    added = {name: sums[name] + more for name, more in products("unet", two, -2.0).items()}
    assert_only_changed(engine, before, added)
    use(engine, ("two", 0.0))
    assert_only_changed(engine, before, {})


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
def test_as_diffusers_own_loader(engine: Engine, folder: Path, layout: str) -> None:
    use(engine)
    unet = factors(engine.parts.unet, IMAGE_LAYERS + OTHER_LAYERS)
    WRITERS[layout](folder / "toon.safetensors", unet, {})
    latents, text = torch.randn(1, 4, 2, 4, 4), torch.randn(2, 5, unet_text_width(engine))

    def forward(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model(latents, torch.tensor(601), encoder_hidden_states=text).sample

    use(engine, ("toon", 0.7))
    ours = forward(engine.parts.unet)
    use(engine)
    state_dict, alphas = AnimateDiffPipeline.lora_state_dict(folder / "toon.safetensors")
    theirs = engine.parts.unet
    theirs.load_lora_adapter(state_dict, prefix="unet", network_alphas=alphas, adapter_name="toon")
    theirs.set_adapters(["toon"], [0.7])
    expected = forward(theirs)
    theirs.unload_lora()
    assert (ours - forward(theirs)).abs().max() > 0.01
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def unet_text_width(engine: Engine) -> int:
    return engine.parts.unet.config.cross_attention_dim


def test_takes_with_and_without(
    engine: Engine, folder: Path, request_for: MakeRequest, guides: Guides
) -> None:
    """The same request gives the same bits after another one with LoRAs, which kept residuals of
    the control branch must not cross."""

    def take(*entries: tuple[str, float]) -> np.ndarray:
        sha = {n: hashlib.sha256((folder / f"{n}.safetensors").read_bytes()) for n, _ in entries}
        loras = [{"name": n, "sha256": sha[n].hexdigest(), "scale": s} for n, s in entries]
        request = request_for(guides.control("depth", {0: 1.0}), loras=loras)
        return engine.generate(request, guides, 1, lambda event: None, lambda: False).frames

    layers = factors(engine.parts.text_encoder, TEXT_LAYERS)
    write_diffusers(folder / "words.safetensors", {}, layers)
    pairs = factors(engine.parts.unet, IMAGE_LAYERS)
    write_diffusers(folder / "style.safetensors", pairs, {})
    plain = take()
    assert np.array_equal(take(("words", 0.0), ("style", 0.0)), plain)
    styled = take(("style", 1.0))
    worded = take(("words", 2.0))
    assert not np.array_equal(styled, plain)
    assert not np.array_equal(worded, plain)
    assert np.array_equal(take(), plain)
    fresh = Engine("cpu")
    fresh.load(folder.parent / "tiny", lambda event: None)
    request = request_for(
        guides.control("depth", {0: 1.0}), loras=[{"name": "words", "sha256": None, "scale": 2.0}]
    )
    again = fresh.generate(request, guides, 1, lambda event: None, lambda: False).frames
    assert np.array_equal(again, worded)


def test_a_lora_that_does_not_fit_is_refused_before_anything_changes(
    engine: Engine, folder: Path
) -> None:
    use(engine)
    before = state(engine)
    pairs = factors(engine.parts.unet, IMAGE_LAYERS)
    write_diffusers(folder / "good.safetensors", pairs, {})
    layer = IMAGE_LAYERS[0]
    wide = {layer: (torch.zeros(2, 640), torch.zeros(640, 2))}
    write_diffusers(folder / "wide.safetensors", wide, {})
    elsewhere = {"down_blocks.7.attn1.to_q": pairs[layer]}
    write_diffusers(folder / "deep.safetensors", elsewhere, {})
    use(engine, ("good", 1.0))
    with pytest.raises(
        EngineError, match=r"wide\.safetensors was made for another base than block"
    ):
        use(engine, ("good", 1.0), ("wide", 1.0))
    with pytest.raises(EngineError, match=r"which has no layer down_blocks\.7\.attn1\.to_q\."):
        use(engine, ("deep", 0.0))
    assert_only_changed(engine, before, products("unet", pairs, 1.0))
    use(engine)
    assert_only_changed(engine, before, {})


REFUSED: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "half of it": (
        {f"unet.{IMAGE_LAYERS[0]}.lora.up.weight": torch.zeros(2, 2)},
        r"is not whole: one of the two factors of .*to_q is missing",
    ),
    "for SDXL": (
        {"lora_te2_text_model_x.lora_down.weight": torch.zeros(2, 2)},
        "is a LoRA for Stable Diffusion XL; expected a LoRA for Stable Diffusion 1",
    ),
    "another kind": (
        {"lora_unet_x.hada_w1_a": torch.zeros(2, 2)},
        r"is a LyCORIS file \(LoHa\); expected a LoRA",
    ),
    "no LoRA": ({"ip_adapter.1.to_k_ip.weight": torch.zeros(2, 2)}, "is an IP-Adapter; expected"),
    "strange layers": (
        {"lora_unet_x.lora_mid.weight": torch.zeros(2, 2)},
        "has layers that no Stable Diffusion 1 has",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_lora_file_is_named(engine: Engine, folder: Path, name: str) -> None:
    weights, sentence = REFUSED[name]
    save_file(weights, folder / "odd.safetensors")
    with pytest.raises(EngineError, match=sentence) as caught:
        use(engine, ("odd", 1.0))
    assert str(folder / "odd.safetensors") in str(caught.value)


def test_a_lora_is_found_by_name_and_content(engine: Engine, folder: Path) -> None:
    before = state(engine)
    with pytest.raises(EngineError, match=r"There is no LoRA 'toon'; there are: none \(searched:"):
        use(engine, ("toon", 1.0))
    pairs = factors(engine.parts.unet, IMAGE_LAYERS)
    write_diffusers(folder / "toon.safetensors", pairs, {})
    with pytest.raises(EngineError, match=r"There is no LoRA '\.\./tiny/unet'; there are: toon"):
        use(engine, ("../tiny/unet", 1.0))
    wrong = {"name": "toon", "sha256": "0" * 64, "scale": 1.0}
    with pytest.raises(
        EngineError, match=r"toon\.safetensors has the content .*asks for 000000000"
    ):
        engine.parts.loras.use([wrong])
    inside = folder.parent / "tiny" / "loras"
    inside.mkdir()
    write_diffusers(inside / "own.safetensors", pairs, {})
    use(engine, ("own", 1.0))
    assert_only_changed(engine, before, products("unet", pairs, 1.0))
    use(engine)
    shutil.rmtree(inside)
