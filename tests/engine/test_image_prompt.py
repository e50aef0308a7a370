"""A reference picture through an IP-Adapter: beside the text, in the image layers alone."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.image_prompt import load_image_prompt
from animatic.engine.motion import use_reference_normalisation
from animatic.engine.pictures import read_picture
from animatic.engine.residuals import ControlBranch, ResidualCache
from animatic.engine.run import Engine, EngineError
from animatic.engine.sampling import Denoiser
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKL,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPImageProcessorPil, CLIPTextModel, CLIPTokenizer
from transformers import CLIPVisionModelWithProjection as VisionModel

from .conftest import FRAMES, SIZE, Guides
from .image_parts import SIDE, add_image_parts

MakeRequest = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "plus"])
def each_folder(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny checkpoint with either kind of IP-Adapter."""
    copy = tmp_path_factory.mktemp("with_prompt") / "tiny"
    shutil.copytree(checkpoint, copy)
    add_image_parts(copy, plus=request.param)
    return copy


@pytest.fixture(scope="module")
def reference(guides: Guides) -> str:
    """A JPEG that is neither square nor of the clip's size."""
    noise = np.random.default_rng(7).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return guides.add("reference.jpg", Image.fromarray(noise).resize((90, 60)))


def generate(engine: Engine, request: dict[str, Any], guides: Guides) -> np.ndarray:
    return engine.generate(request, guides, 1, lambda event: None, lambda: False).frames


@torch.inference_mode()
def test_one_forward_is_diffusers_own(each_folder: Path, reference: str, guides: Guides) -> None:
    engine = Engine("cpu")
    engine.load(each_folder, lambda event: None)
    parts = engine.parts

    def load(cls: Any, part: str) -> Any:
        return cls.from_pretrained(each_folder / part, torch_dtype=torch.float32)

    pipeline = AnimateDiffPipeline(
        vae=load(AutoencoderKL, "vae"),
        text_encoder=load(CLIPTextModel, "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(each_folder / "tokenizer"),
        unet=load(UNet2DConditionModel, "unet"),
        motion_adapter=load(MotionAdapter, "motion_adapter"),
        scheduler=DDIMScheduler.from_pretrained(each_folder / "scheduler"),
        image_encoder=load(VisionModel, "image_encoder"),
        feature_extractor=CLIPImageProcessorPil(size=SIDE, crop_size=SIDE),
    )
    use_reference_normalisation(pipeline.unet)
    pipeline.load_ip_adapter(
        str(each_folder), subfolder="", weight_name="ip_adapter.safetensors",
        image_encoder_folder=None,
    )  # fmt: skip
    pipeline.set_ip_adapter_scale(0.7)
    picture = read_picture(reference, guides, "reference picture")
    embeds = pipeline.prepare_ip_adapter_image_embeds(picture, None, torch.device("cpu"), 1, True)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, FRAMES, 4, 4, generator=generator)
    text = torch.randn(2, 5, 32, generator=generator)
    t = torch.tensor(501)
    theirs = pipeline.unet(
        latents.expand(2, -1, -1, -1, -1),
        t,
        encoder_hidden_states=text.repeat_interleave(FRAMES, dim=0),
        added_cond_kwargs={"image_embeds": embeds},
    ).sample

    branch = ControlBranch([], text, latents.shape[1:], ResidualCache(0), "test")
    prompt = parts.image_prompt()
    before = dict(parts.unet.attn_processors)
    tokens = prompt.tokens(picture, 2)
    for batch in (1, 2):
        denoiser = Denoiser(parts.unet, branch, text, 7.5, batch, lambda: None, image=tokens)
        with prompt.applied(parts.unet, 0.7):
            ours = denoiser.halves(latents, t)
            changed = [k for k, p in parts.unet.attn_processors.items() if p is not before[k]]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    # Text and image go apart in the image layers' cross attention, and nowhere else.
    assert changed == [k for k in before if ".attentions." in k and "attn2" in k]
    assert parts.unet.attn_processors == before
    without = Denoiser(parts.unet, branch, text, 7.5, 2, lambda: None).halves(latents, t)
    assert (without - theirs).abs().max() > 0.01


def test_scale_0_is_to_the_bit_without_a_picture(
    equipped: Engine, engine: Engine, request_for: MakeRequest, guides: Guides, reference: str
) -> None:
    request = request_for(guides.control("depth", {0: 1.0}))
    plain = generate(engine, request, guides)

    def at(scale: float, **more: Any) -> np.ndarray:
        asked = {"sha256": reference, "scale": scale}
        return generate(equipped, request | {"image_prompt": asked} | more, guides)

    whole = at(1.0)
    assert not np.array_equal(whole, plain)
    assert not np.array_equal(at(0.5), whole)
    assert np.array_equal(at(0.0), plain)
    assert np.array_equal(generate(equipped, request, guides), plain)
    take = equipped.generate(
        request | {"image_prompt": {"sha256": reference, "scale": 1.0}},
        guides, 1, lambda event: None, lambda: False,
    )  # fmt: skip
    assert np.array_equal(take.frames, whole)
    assert take.plan["parts"].keys() == {"image_encoder", "ip_adapter.safetensors"}


def test_beside_what_else_changes_attention(
    equipped: Engine, request_for: MakeRequest, guides: Guides, reference: str
) -> None:
    """A first picture stays to the bit, causal frames do not see later ones, windows are exact."""
    asked = {"image_prompt": {"sha256": reference, "scale": 1.0}}
    depth = guides.control("depth", {0: 1.0})
    first = {"sha256": guides.sha["render", 0], "share": True}
    causal = {"kind": "causal", "span": 4}
    both = {"first_frame": first, "attention": causal}
    with_picture, without = (
        generate(equipped, request_for(depth, sampling=both) | more, guides) for more in (asked, {})
    )
    assert np.array_equal(with_picture[0], without[0])
    assert not np.array_equal(with_picture[1], without[1])
    later = guides.control("depth", {0: 1.0, 3: 1.0})
    changed = generate(equipped, request_for(later, sampling=both) | asked, guides)
    assert np.array_equal(changed[:3], with_picture[:3])
    assert not np.array_equal(changed[3], with_picture[3])
    fits = {"context": {"length": FRAMES, "overlap": 1, "schedule": "uniform"}}
    whole, windowed, many = (
        generate(equipped, request_for(depth, **more) | asked, guides)
        for more in (
            {},
            {"sampling": fits},
            {"sampling": {"context": {"length": 3, "overlap": 1, "schedule": "uniform"},
                          "temporal": 0.5}},
        )
    )  # fmt: skip
    assert np.array_equal(whole, windowed)
    assert not np.array_equal(whole, many)


def test_an_adapters_pickle_is_the_same_adapter(equipped_folder: Path, tmp_path: Path) -> None:
    groups: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(equipped_folder / "ip_adapter.safetensors").items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    torch.save(groups, tmp_path / "ip_adapter.bin")
    engine = Engine("cpu")
    engine.load(equipped_folder, lambda event: None)
    parts = engine.parts
    encoder = equipped_folder / "image_encoder"
    made = [
        load_image_prompt({"encoder": encoder, "adapter": path}, parts.unet, parts.plan)
        for path in (equipped_folder / "ip_adapter.safetensors", tmp_path / "ip_adapter.bin")
    ]
    picture = Image.new("RGB", (SIZE, SIZE), "red")
    with torch.inference_mode():
        assert torch.equal(*(prompt.tokens(picture, 2) for prompt in made))
    groups["ip_adapter"].popitem()
    torch.save(groups, tmp_path / "ip_adapter.bin")
    with pytest.raises(EngineError, match=r"ip_adapter.bin does not fit the image model"):
        load_image_prompt(
            {"encoder": encoder, "adapter": tmp_path / "ip_adapter.bin"}, parts.unet, parts.plan
        )
    wrong = equipped_folder / "unet" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(EngineError, match=r"is an image UNet .*; expected an IP-Adapter"):
        load_image_prompt({"encoder": encoder, "adapter": wrong}, parts.unet, parts.plan)


def test_refusals(
    engine: Engine, equipped: Engine, request_for: MakeRequest, guides: Guides, reference: str
) -> None:
    def asked(sha256: str) -> dict[str, Any]:
        return request_for() | {"image_prompt": {"sha256": sha256, "scale": 1.0}}

    with pytest.raises(EngineError, match="takes no reference picture"):
        generate(engine, asked(reference), guides)
    floats = guides.add("floats.tif", Image.new("F", (8, 8)))
    with pytest.raises(EngineError, match="of the kind F; expected PNG, JPEG"):
        generate(equipped, asked(floats), guides)
    huge = guides.add("huge.png", Image.new("L", (8193, 1)))
    with pytest.raises(EngineError, match="8193x1 pixels"):
        generate(equipped, asked(huge), guides)
    with pytest.raises(EngineError, match="is missing"):
        generate(equipped, asked("0" * 64), guides)
