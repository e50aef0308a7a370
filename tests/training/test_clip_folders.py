"""Training beside a base checkpoint, on a folder of clips, as at Stable Diffusion's size."""

import random
import shutil
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.device import default_plan  # noqa: E402
from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.motion import use_reference_normalisation  # noqa: E402
from animatic.engine.parts import load_parts  # noqa: E402
from animatic.engine.training import architecture  # noqa: E402
from animatic.engine.training.architecture import build_untrained  # noqa: E402
from animatic.engine.training.clip_folders import read_clip, read_clips  # noqa: E402
from animatic.engine.training.clips import motion_model, sparse_control  # noqa: E402
from animatic.engine.training.diffusion import (  # noqa: E402
    diffusion_loss,
    noisy_and_target,
    predict,
)
from animatic.engine.training.run import Run  # noqa: E402
from animatic.engine.training.train import STAGES  # noqa: E402


@pytest.fixture
def bare_base(tmp_path):
    """What Stable Diffusion 1.5 has: no motion modules, no control encoders, no animatic.json."""
    base = tmp_path / "base"
    build_untrained(base, tiny=True)
    for name in ("motion_adapter", "sparsectrl_depth", "sparsectrl_lineart", "sparsectrl_rgb"):
        shutil.rmtree(base / name)
    (base / "animatic.json").unlink()
    return base


def test_an_encoder_starts_as_the_base_and_changes_nothing():
    size = architecture.SIZES["tiny"]
    torch.manual_seed(0)
    unet = architecture.build_unet(size).eval()
    before = dict(unet.config)
    encoder = architecture.build_sparsectrl(unet, "depth", 8, (4, 8, 16, 16)).eval()
    assert dict(unet.config) == before
    weights = encoder.state_dict()
    copied = {n: v for n, v in unet.state_dict().items() if n in weights}
    assert any(name.startswith("down_blocks") for name in copied)
    assert all(torch.equal(weights[name], value) for name, value in copied.items())

    batch = {"depth": torch.randint(0, 255, (1, 4, 64, 64), dtype=torch.uint8)}
    control = sparse_control(use_reference_normalisation(encoder), "depth", batch, [0, 2])
    model = motion_model(unet, architecture.build_motion_adapter(unet, heads=8)).eval()
    noisy, time = torch.randn(1, 4, 4, 8, 8), torch.tensor([300])
    text = torch.randn(1, 5, size.text_width)
    with torch.no_grad():
        free, held = (predict(model, noisy, time, text, c) for c in (None, control))
        assert torch.equal(free, held)
        # Down to its zero outputs the encoder computes what the base does on an empty picture.
        for output in encoder.controlnet_down_blocks:
            torch.nn.init.dirac_(output.weight)
        skips, _ = encoder(
            noisy, time, text.repeat_interleave(4, 0), control.condition,
            conditioning_mask=control.mask, return_dict=False,
        )  # fmt: skip
        first = unet.conv_in(torch.zeros(4, 4, 8, 8))
        assert torch.allclose(skips[0], first, atol=1e-6)


def test_clips_are_read_as_written(clip_folder, tmp_path):
    clip = read_clip(clip_folder / "clip1")
    assert clip["colour"].shape == (1, 4, 3, 24, 32)
    assert clip["depth"].shape == clip["lineart"].shape == (1, 4, 24, 32)
    assert clip["depth"].max() == 255
    assert clip["captions"][0].endswith("dolly in")
    assert read_clips(clip_folder, tmp_path) == 3
    assert len(list((tmp_path / "clips").glob("*.pt"))) == 2

    copy = tmp_path / "copy"
    shutil.copytree(clip_folder, copy)
    (copy / "clip1" / "lineart" / "0004.png").unlink()
    with pytest.raises(EngineError, match=r"clip1/lineart and .* differ"):
        read_clips(copy, tmp_path)


def test_depth_encoder_learns_beside_a_base_and_loads(
    bare_base, clip_folder, tmp_path, small_recipe
):
    recipe = small_recipe(30)
    recipe["motion"] |= {"steps": 2, "guides": {}}
    # As for Stable Diffusion 1.5, where memory is short and nobody says what stands where.
    recipe["sparsectrl"] |= {"checkpointing": True, "learning_rate": 2e-3, "blurred_depth": 0.0}
    recipe["sparsectrl"] |= {"optimizer": "adamw", "recognition": 0.0}
    run = Run(tmp_path / "train", recipe, base=bare_base, clips=clip_folder)
    STAGES["data"](run)
    STAGES["encode"](run)
    STAGES["motion"](run)
    stressed = replace(
        run, recipe={**recipe, "sparsectrl": recipe["sparsectrl"] | {"recognition": 0.3}}
    )
    with pytest.raises(FileNotFoundError, match="recognition = 0 in the recipe"):
        STAGES["sparsectrl-depth"](stressed)

    def error() -> float:
        """Of eight noisings of each clip, always the same, with depth on every frame."""
        frozen = run.frozen()
        model = motion_model(frozen.unet, run.part("motion_adapter")).eval()
        encoder = use_reference_normalisation(run.part("sparsectrl_depth", False)).eval()
        batch = run.shards("clips", ("depth",))[0].sample(random.Random(0), 8)
        clean = batch["latents"].float().transpose(1, 2)
        noise = torch.Generator().manual_seed(0)
        noisy, moment, target = noisy_and_target(frozen.scheduler, clean, noise)
        with torch.no_grad():
            control = sparse_control(encoder, "depth", batch, range(4))
            made = predict(model, noisy, moment, frozen.text(batch["captions"]), control)
        return diffusion_loss(made, target).item()

    before = error()
    STAGES["sparsectrl-depth"](run)
    assert error() < 0.95 * before

    run.export(tmp_path / "out")
    parts = load_parts(tmp_path / "out", default_plan("cpu"), lambda done, of: None)
    assert list(parts.info.guides) == ["depth"]
    assert parts.info.native == {"width": 32, "height": 24, "frames": 4, "fps": 8}
    trained = run.part("sparsectrl_depth").state_dict()["conv_in.weight"].half().float()
    assert torch.equal(parts.control("depth").state_dict()["conv_in.weight"], trained)
    # The base is there once, and stays what it is.
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "out" / weights).samefile(bare_base / weights)
    with pytest.raises(FileExistsError):
        run.export(bare_base)
