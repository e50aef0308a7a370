"""Training beside a base checkpoint, on a folder of clips, as at Stable Diffusion's size."""

import random
import shutil
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch.nn.functional as F  # noqa: E402
from animatic.engine.device import default_plan  # noqa: E402
from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.motion import use_reference_normalisation  # noqa: E402
from animatic.engine.parts import load_parts  # noqa: E402
from animatic.engine.training import architecture, clips  # noqa: E402
from animatic.engine.training.architecture import build_untrained  # noqa: E402
from animatic.engine.training.clip_folders import read_clip, read_clips  # noqa: E402
from animatic.engine.training.clips import motion_model, sparse_control  # noqa: E402
from animatic.engine.training.data import add_latents  # noqa: E402
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


def test_pictures_belong_together_by_their_numbers(clip_folder, tmp_path):
    copy = shutil.copytree(clip_folder, tmp_path / "clips")
    clip = copy / "clip1"
    before = read_clip(clip)
    # As other programs number them: by their names 10 comes before 7.
    for number in range(1, 5):
        for part in ("frames", "lineart"):
            (clip / part / f"{number:04d}.png").rename(clip / part / f"shot_{number + 6}.png")
    with pytest.raises(EngineError, match=r"clip1/depth and .* differ in the numbers"):
        read_clip(clip)
    shutil.rmtree(clip / "depth")
    after = read_clip(clip)
    for field in ("colour", "lineart"):
        assert torch.equal(before[field], after[field])
    shutil.copy(clip / "frames" / "shot_7.png", clip / "frames" / "shot_0007.png")
    with pytest.raises(EngineError, match="the same number"):
        read_clip(clip)


def test_a_clip_whose_caption_is_missing_or_strange_is_named(clip_folder, tmp_path):
    copy = shutil.copytree(clip_folder, tmp_path / "clips")
    caption = copy / "clip1" / "caption.txt"
    caption.write_bytes("a café".encode("latin-1"))
    with pytest.raises(EngineError, match=r"clip1/caption.txt is not UTF-8 text"):
        read_clips(copy, tmp_path)
    caption.unlink()
    with pytest.raises(EngineError, match=r"clip1/caption.txt is missing"):
        read_clips(copy, tmp_path)


def test_other_clips_take_the_place_of_those_before(clip_folder, tmp_path):
    def latents(pictures):
        return F.avg_pool2d(pictures, 8)

    def bring_in(source):
        count = read_clips(source, tmp_path)
        for kind in ("clips", "held_out/clips"):
            add_latents(tmp_path / kind, latents, False, torch.device("cpu"))
        return count

    copy = shutil.copytree(clip_folder, tmp_path / "source")
    assert bring_in(copy) == 3
    # One that comes first gives all others another number; one that is gone leaves a number over.
    (copy / "clip2").rename(copy / "a_clip")
    shutil.rmtree(copy / "clip1")
    broken = copy / "clip0" / "caption.txt"
    broken.rename(copy / "elsewhere")
    with pytest.raises(EngineError, match="caption"):
        read_clips(copy, tmp_path)
    assert len(list((tmp_path / "clips" / "latents").glob("*.pt"))) == 2
    (copy / "elsewhere").rename(broken)
    assert bring_in(copy) == 2
    for kind, clip in (("clips", "clip0"), ("held_out/clips", "a_clip")):
        (path,) = (tmp_path / kind).glob("*.pt")
        shard = torch.load(path)
        assert torch.equal(shard["colour"], read_clip(copy / clip)["colour"])
        (path,) = (tmp_path / kind / "latents").glob("*.pt")
        own = latents(shard["colour"][0].float() / 255).half()
        assert torch.equal(torch.load(path)[0], own)


def test_a_stage_that_goes_on_draws_other_batches(clip_folder, tmp_path, small_recipe, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        clips,
        "noisy_and_target",
        lambda *inputs: drawn.append(noisy_and_target(*inputs)) or drawn[-1],
    )
    build_untrained(tmp_path / "base", tiny=True)
    for steps in (2, 4):
        run = Run(
            tmp_path / "train", small_recipe(steps), base=tmp_path / "base", clips=clip_folder
        )
        run.recipe["sparsectrl"]["recognition"] = 0.0
        for stage in ("data", "encode", "sparsectrl-depth"):
            STAGES[stage](run)
    times = [time.item() for _, time, _ in drawn]
    assert len(set(times)) == 4
    # From its beginning a stage draws what it always drew.
    (tmp_path / "train" / "sparsectrl_depth.pt").unlink()
    STAGES["sparsectrl-depth"](run)
    assert [time.item() for _, time, _ in drawn[4:6]] == times[:2]


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
