"""Checkpoints of the small model, and that training it a little works and loads."""

import copy
import json
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch.nn.functional as F  # noqa: E402
from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.evaluation.estimator import load_estimator  # noqa: E402
from animatic.engine.evaluation.subjects import load_per_frame  # noqa: E402
from animatic.engine.training import architecture, captions, clips, estimator  # noqa: E402
from animatic.engine.training.architecture import SIZES, build_untrained  # noqa: E402
from animatic.engine.training.clips import (  # noqa: E402
    diffusion_loss_of,
    motion_model,
    sparse_control,
)
from animatic.engine.training.data import Shards, cropped  # noqa: E402
from animatic.engine.training.diffusion import (  # noqa: E402
    diffusion_loss,
    noisy_and_target,
    predict,
    tokens,
)
from animatic.engine.training.loop import Loop, LoopConfig  # noqa: E402
from animatic.engine.training.recipe import model_size, read_recipe  # noqa: E402
from animatic.engine.training.run import Run  # noqa: E402
from animatic.engine.training.train import STAGES, render_data  # noqa: E402
from animatic.engine.training.vocabulary import build_tokenizer  # noqa: E402
from diffusers import (  # noqa: E402
    AutoencoderKL,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
)
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel  # noqa: E402
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: E402


def test_steadiness_counts_what_flickers_and_nothing_else():
    target = torch.randn(1, 4, 8, 2, 2)
    steady, flickering = torch.ones_like(target), torch.ones_like(target)
    flickering[:, :, ::2] = -1
    for error, more in ((steady, 0.0), (flickering, 4.0)):
        plain = diffusion_loss(target + error, target).item()
        weighed = diffusion_loss(target + error, target, steadiness=0.5).item()
        assert plain == pytest.approx(1.0, rel=1e-5)
        assert weighed == pytest.approx(1.0 + 0.5 * more, rel=1e-5)


def test_clips_are_covered_with_the_noise_that_sampling_starts_from(monkeypatch):
    seen = []
    monkeypatch.setattr(clips, "predict", lambda model, noisy, *_: seen.append(noisy) or noisy)
    frozen = SimpleNamespace(scheduler=architecture.build_scheduler("epsilon"), shared_noise=2)
    loss = diffusion_loss_of(None, frozen)
    for keyframes in ((0, 3), (1, 2), None):
        batch = {"depth": torch.zeros(1, 4, 32, 32, dtype=torch.uint8)}
        control = sparse_control(None, "depth", batch, keyframes) if keyframes else None
        loss(torch.zeros(1, 4, 4, 4, 4), None, control, torch.Generator().manual_seed(0))
    means = [F.avg_pool3d(noisy, (1, 2, 2)) for noisy in seen]
    for noisy, mean, all_of_it in zip(seen, means, (True, False, False), strict=True):
        assert torch.allclose(mean, mean[:, :, :1].expand_as(mean), atol=1e-5)
        assert torch.allclose(noisy, noisy[:, :, :1].expand_as(noisy), atol=1e-5) == all_of_it


def test_a_crop_shows_one_square_in_latents_guides_and_regions():
    places = torch.arange(6 * 8).reshape(1, 1, 6, 8)
    fields = {"latents": 1, "depth": 8, "regions": 2}
    batch: dict = {
        name: places.repeat_interleave(times, -2).repeat_interleave(times, -1)
        for name, times in fields.items()
    }
    batch["captions"] = ["a box"]
    seen = set()
    for seed in range(20):
        cut = cropped(batch, 32, random.Random(seed))
        assert cut["captions"] == ["a box"]
        assert cut["latents"].shape == (1, 1, 4, 4)
        for name, times in fields.items():
            assert torch.equal(cut[name][..., ::times, ::times], cut["latents"])
            assert cut[name].shape[-1] == 4 * times
        seen.add(int(cut["latents"][0, 0, 0, 0]))
    assert len(seen) > 5
    assert cropped(batch, 0, random.Random(0)) is batch
    assert cropped(batch, 64, random.Random(0)) is batch


@pytest.mark.parametrize(("shift", "median"), [(1.0, 500), (3.0, 750)])
def test_a_shift_brings_noisy_timesteps_more_often(shift, median):
    scheduler = architecture.build_scheduler("v_prediction")
    clean = torch.zeros(1000, 1)
    _, time, _ = noisy_and_target(scheduler, clean, torch.Generator().manual_seed(0), shift)
    assert 0 <= time.min() < 5
    assert 995 < time.max() <= 999
    assert time.float().median().item() == pytest.approx(median, abs=3)


def test_untrained_checkpoint_loads_with_plain_classes(tmp_path):
    state = torch.get_rng_state()
    build_untrained(tmp_path / "a", seed=1, tiny=True)
    assert torch.equal(state, torch.get_rng_state())
    folder = tmp_path / "a"
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    adapter = MotionAdapter.from_pretrained(folder / "motion_adapter")
    UNetMotionModel.from_unet2d(unet, adapter)
    AutoencoderKL.from_pretrained(folder / "vae")
    DDIMScheduler.from_pretrained(folder / "scheduler")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text = CLIPTextModel.from_pretrained(folder / "text_encoder")
    assert text.config.vocab_size == len(tokenizer) <= 4000
    about = json.loads((folder / "animatic.json").read_text())
    assert set(about["guides"]) == {"depth", "lineart", "render"}
    for name in about["guides"].values():
        SparseControlNetModel.from_pretrained(folder / name)

    build_untrained(tmp_path / "b", seed=1, tiny=True)
    for file in folder.rglob("*.safetensors"):
        same = tmp_path / "b" / file.relative_to(folder)
        assert file.read_bytes() == same.read_bytes(), f"{file.name} is not a function of the seed"


def test_tokenizer_knows_the_captions_and_spells_the_rest():
    size = SIZES["mini"]
    tokenizer = build_tokenizer(size.vocabulary, size.text_length)
    for text in captions.vocabulary_corpus(seed=99, captions=200):
        pieces = tokenizer.tokenize(text)
        words = text.replace("3d", "3 d").replace(",", " , ").replace("-", " - ").split()
        assert len(pieces) == len(words), f"a word of {text!r} is not a token of its own"
        assert len(pieces) + 2 <= size.text_length
    assert tokenizer.decode(tokenizer("zebra é").input_ids, skip_special_tokens=True) == "zebra é"


def test_mini_model_fits_its_limits():
    size = SIZES["mini"]
    tokenizer = build_tokenizer(size.vocabulary, size.text_length)
    parts = architecture.build_parts(size, tokenizer)
    assert sum(p.numel() for part in parts.values() for p in part.parameters()) * 2 <= 50e6


def test_a_recipe_says_only_what_it_changes(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'extends = "blockout-mini"\n[motion]\nbatch = 3\n[shares]\nmotion = 1\n', encoding="utf-8"
    )
    told, whole = read_recipe(str(mine)), read_recipe("blockout-mini")
    assert told.pop("shares") == {"motion": 1}
    assert told.pop("motion") == whole.pop("motion") | {"batch": 3}
    del whole["shares"]
    assert told == whole


@pytest.mark.parametrize(
    "name", ["blockout-mini", "blockout-mini-256", "blockout-mini-gpu", "sd15"]
)
def test_recipes_say_all_that_their_stages_ask(name, tmp_path):
    run = Run(tmp_path, read_recipe(name))
    assert run.size.native in (128, 256, 512)
    own_guides = {"sparsectrl": {"depth": 1.0}, "motionlora": {}}
    for stage in {"image", "motion", "sparsectrl", "joint", "motionlora"} & set(run.recipe):
        run.config(stage)
        run.teaching(stage, own_guides.get(stage))
    assert set(run.recipe["shares"]) <= set(STAGES)


def test_silent_motion_modules_leave_the_image_model_alone(small):
    torch.manual_seed(0)
    unet = architecture.build_unet(model_size({"model": small})).eval()
    video = motion_model(unet, architecture.build_motion_adapter(unet, heads=2)).eval()
    noisy, text = torch.randn(1, 4, 4, 4, 4), torch.randn(1, 5, 32)
    time = torch.tensor([500])
    with torch.no_grad():
        clip = predict(video, noisy, time, text, None)
        frames = [predict(unet, noisy[:, :, k : k + 1], time, text, None) for k in range(4)]
    assert torch.allclose(clip, torch.cat(frames, dim=2), atol=1e-5)


def test_frames_without_keyframe_are_empty_and_masked(small):
    unet = architecture.build_unet(model_size({"model": small}))
    encoder = architecture.build_sparsectrl(unet, "depth", 2, (4, 8, 16, 16))
    batch = {"depth": torch.full((2, 4, 32, 32), 200, dtype=torch.uint8)}
    control = sparse_control(encoder, "depth", batch, [0, 3])
    assert control.condition.shape == (2, 3, 4, 32, 32)
    assert control.mask[:, :, [0, 3]].eq(1).all()
    assert control.mask[:, :, [1, 2]].eq(0).all()
    assert control.condition[:, :, [1, 2]].eq(0).all()


def test_loop_goes_on_where_it_stopped(tmp_path):
    data = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    target = data @ torch.tensor([[1.0], [2.0], [3.0]])

    def train(steps: int) -> tuple[Loop, float]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        config = LoopConfig(minutes=5, learning_rate=0.1, batch=1, warmup=1, steps=steps)
        loop = Loop(tmp_path, "line", {"line": model}, config)
        return loop, loop.run(lambda _: (model(data) - target).square().mean())

    _, early = train(5)
    loop, late = train(60)
    assert loop.step == 60
    assert late < early / 2


def test_all_stages_train_and_export(tmp_path, small_recipe):
    run = Run(tmp_path, small_recipe(4))
    render_data(run)
    (tmp_path / "stills").symlink_to(tmp_path / "held_out" / "stills")
    STAGES["vae"](run)
    STAGES["encode"](run)
    coded = copy.deepcopy(run.part("vae").state_dict())
    STAGES["decoder"](run)
    moved = {n for n, p in run.part("vae").state_dict().items() if not torch.equal(p, coded[n])}
    assert moved
    assert all(name.startswith("decoder.") for name in moved), "latents stay what they are"
    run.recipe["image"] |= {"steps": 30, "warmup": 6, "batch": 8, "learning_rate": 4e-3}
    STAGES["image"](run)
    for stage in ("motion", "sparsectrl-depth", "sparsectrl-render"):
        STAGES[stage](run)
    together = ("motion_adapter", "sparsectrl_depth", "sparsectrl_lineart")
    before = [copy.deepcopy(run.part(name).state_dict()) for name in together]
    STAGES["joint"](run)
    for name, old in zip(together, before, strict=True):
        moved = [n for n, p in run.part(name).state_dict().items() if not torch.equal(p, old[n])]
        assert any("motion_modules" in n for n in moved), name
    assert torch.load(tmp_path / "image.pt", weights_only=True)["step"] == 30

    # The image stage has learned something: on the same noise its error is below the start's.
    latents = Shards(tmp_path / "stills", ("latents",)).sample(random.Random(0), 32)["latents"]
    tokenizer, scheduler = run.tokenizer(), run.scheduler()
    losses = []
    for folder in (tmp_path / "nothing", tmp_path):
        stage = replace(run, folder=folder)
        unet, encoder = stage.part("unet", False), stage.part("text_encoder", False)
        with torch.no_grad():
            text = encoder(tokens(tokenizer, [""])).last_hidden_state.expand(32, -1, -1)
            clean = latents[:, 0].float()[:, :, None]
            noise = torch.Generator().manual_seed(0)
            noisy, time, target = noisy_and_target(scheduler, clean, noise)
            losses.append(diffusion_loss(predict(unet, noisy, time, text, None), target).item())
    assert losses[1] < 0.8 * losses[0]

    run.export(tmp_path / "out", guidance=4.0)
    about = json.loads((tmp_path / "out" / "animatic.json").read_text())
    assert about["guides"] == {
        "depth": "sparsectrl_depth",
        "lineart": "sparsectrl_lineart",
        "render": "sparsectrl_rgb",
    }
    assert about["defaults"]["guidance"] == 4.0
    assert about["shared_noise"] == run.size.shared_noise > 0
    beside = replace(run, base=tmp_path / "out")
    (tmp_path / "out" / "animatic.json").write_text(json.dumps(about | {"shared_noise": 7}))
    assert beside.shared_noise == 7  # what its motion modules were trained with
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet")
    adapter = MotionAdapter.from_pretrained(tmp_path / "out" / "motion_adapter")
    UNetMotionModel.from_unet2d(unet, adapter)

    # One guide's encoder alone, dense on stills, everything else as it is.
    dense = replace(beside, folder=tmp_path / "dense", recipe=copy.deepcopy(run.recipe))
    dense.folder.mkdir()
    for kind in ("stills", "held_out"):
        (dense.folder / kind).symlink_to(tmp_path / kind)
    dense.recipe["image"] |= {"guides": {"render": 1.0}, "learns": ["sparsectrl_rgb"], "steps": 4}
    STAGES["image"](dense)
    assert [part.name for part in (dense.folder / "parts").iterdir()] == ["sparsectrl_rgb"]
    untouched = replace(dense, folder=tmp_path / "nothing")
    before, after = (each.part("sparsectrl_rgb").state_dict() for each in (untouched, dense))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("motion_modules" in name for name in moved)
    dense.recipe["image"]["learns"] = ["sparsectrl_depth"]
    with pytest.raises(EngineError, match="sparsectrl_depth learn, which takes no part"):
        STAGES["image"](dense)


def test_the_estimator_learns_and_goes_with_the_checkpoint(tmp_path, small_recipe, monkeypatch):
    monkeypatch.setattr(estimator, "STILLS", 8)
    run = Run(tmp_path / "train", small_recipe(2))
    run.recipe["estimator"] |= {"lessons": 2, "batch": 4, "warmup": 1, "steps": 2}
    run.keep({name: run.part(name, False) for name in ("vae", "unet", "text_encoder")})
    STAGES["estimator"](run)
    depth = run.part("sparsectrl_depth", False)
    architecture.silence_motion(depth)
    run.keep({"evaluation/per_frame_depth": depth})
    run.export(tmp_path / "model")
    made = tmp_path / "model" / "evaluation"
    load_estimator(made / "depth_estimator")
    loaded = load_per_frame(made / "per_frame_depth")
    kept = {n: p for n, p in depth.state_dict().items() if "motion" not in n}
    for name, weight in kept.items():
        found = loaded.state_dict()[name]
        if weight.dim() < 2:
            assert torch.equal(found, weight.half().float())
        else:  # eight bits a number
            largest = weight.flatten(1).abs().amax(dim=1)
            apart = (found - weight).flatten(1).abs().amax(dim=1)
            assert (apart <= 0.005 * largest + 1e-6).all()
