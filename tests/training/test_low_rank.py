"""LoRAs of the training: MotionLoRA, and the one for few steps."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.lora import find_targets, read_lora  # noqa: E402
from animatic.engine.training import few_steps  # noqa: E402
from animatic.engine.training.architecture import (  # noqa: E402
    SIZES,
    build_motion_adapter,
    build_scheduler,
    build_unet,
    build_untrained,
)
from animatic.engine.training.captions import tells_colours  # noqa: E402
from animatic.engine.training.clips import motion_model  # noqa: E402
from animatic.engine.training.diffusion import Control, Frozen  # noqa: E402
from animatic.engine.training.few_steps import Consistency, levels, own_steps_loss_of  # noqa: E402
from animatic.engine.training.low_rank import add_lora, whole_model, write_lora  # noqa: E402
from animatic.engine.training.recipe import model_size  # noqa: E402
from animatic.engine.training.run import Run, names_move  # noqa: E402
from animatic.engine.training.train import STAGES  # noqa: E402
from diffusers import (  # noqa: E402
    AnimateDiffPipeline,
    DDIMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
)
from safetensors.torch import load_file  # noqa: E402


def test_motion_lora_loads_and_obeys_its_scale(clip_folder, tmp_path, small_recipe):
    base = tmp_path / "base"
    build_untrained(base, tiny=True)
    run = Run(tmp_path, small_recipe(6), base=base, clips=clip_folder)
    with pytest.raises(EngineError, match="--move"):
        STAGES["motionlora"](run)
    run = Run(tmp_path, run.recipe, base=base, clips=clip_folder, move="dolly in")
    for stage in ("data", "encode", "motionlora"):
        STAGES[stage](run)
    path = tmp_path / "motionlora" / "dolly_in.safetensors"
    assert path.stat().st_size < 400_000

    pipeline = AnimateDiffPipeline.from_pretrained(
        base,
        motion_adapter=MotionAdapter.from_pretrained(base / "motion_adapter"),
        scheduler=DDIMScheduler.from_pretrained(base / "scheduler"),
    )
    unet = pipeline.unet
    noisy, time, text = torch.randn(1, 4, 4, 4, 4), torch.tensor([500]), torch.randn(4, 5, 32)

    def prediction() -> torch.Tensor:
        with torch.no_grad():
            return unet(noisy, time, text, return_dict=False)[0]

    without = prediction()
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="move")
    loaded = [name for name, _ in unet.named_parameters() if "lora" in name]
    assert loaded
    assert all("motion_modules" in name for name in loaded)
    pipeline.set_adapters(["move"], 0.0)
    assert torch.equal(prediction(), without)
    pipeline.set_adapters(["move"], 1.0)
    assert not torch.allclose(prediction(), without, atol=1e-4)


def test_a_move_is_known_in_all_its_wordings():
    assert names_move("dolly in")("a red box on snow at noon, slow push in")
    assert not names_move("dolly in")("a red box on snow at noon, slow pull back")
    assert names_move("whip pan")("Whip pan over a street")


def test_few_steps_lora_leaves_the_teacher_and_comes_into_the_checkpoint(
    clip_folder, tmp_path, small_recipe
):
    base = tmp_path / "base"
    build_untrained(base, tiny=True)
    run = Run(tmp_path / "run", small_recipe(6), base=base, clips=clip_folder)
    for stage in ("data", "encode", "few-steps"):
        STAGES[stage](run)
    made = tmp_path / "made"
    run.export(made)
    card = json.loads((made / "animatic.json").read_text())
    assert card["few_steps"]["lora"] == "few-steps"
    assert card["few_steps"]["steps"] == {"draft": 2, "standard": 3, "final": 4}
    assert not (base / "loras").exists()

    path = made / "loras" / "few-steps.safetensors"
    unet = UNetMotionModel.from_unet2d(
        UNet2DConditionModel.from_pretrained(base / "unet"),
        MotionAdapter.from_pretrained(base / "motion_adapter"),
    )
    targets = find_targets({"unet": unet}, read_lora(path), path, "base")
    layers = {layer for _, layer in targets}
    for kind in ("motion_modules", "attentions", "resnets", "downsamplers"):
        assert any(kind in layer for layer in layers)


def test_a_consistent_student_says_a_clip_without_noise_as_it_is():
    """Whatever its weights: LCM, equation 5."""
    size = SIZES["tiny"]
    unet = build_unet(size)
    model = motion_model(unet, build_motion_adapter(unet, size.heads))
    scheduler = build_scheduler("v_prediction")
    text = torch.zeros(2, 5, unet.config.cross_attention_dim)
    clip = torch.randn(2, 4, 3, 8, 8)
    said = Consistency(model, scheduler, text[:1], 3.0).says(
        clip, torch.zeros(2).long(), text, None
    )
    assert torch.allclose(said, clip, atol=0.05)
    noisy = Consistency(model, scheduler, text[:1], 3.0).says(
        clip, torch.full((2,), 999), text, None
    )
    assert not torch.allclose(noisy, clip, atol=0.05)


def test_in_its_own_steps_the_model_learns_from_what_it_said(monkeypatch, small):
    """What it says is compared with the true clip, in noise over what it said before."""
    size = model_size({"model": small})
    unet, scheduler = build_unet(size), build_scheduler("v_prediction")
    model = motion_model(unet, build_motion_adapter(unet, size.heads))
    frozen = Frozen(None, None, unet, None, scheduler)
    control = Control(None, torch.zeros(2, 3, 4, 32, 32), torch.zeros(2, 1, 4, 32, 32), [0])
    clean, said, text = torch.randn(2, 4, 4, 4, 4), torch.randn(2, 4, 4, 4, 4), torch.zeros(2, 5)
    seen = []

    def predict(model, noisy, time, *_):
        seen.append((noisy, time))
        signal, noise = levels(scheduler, time)
        return (signal * noisy - said) / noise

    def otherwise(*_):
        return torch.tensor(7.0)

    monkeypatch.setattr(few_steps, "predict", predict)
    loss = own_steps_loss_of(model, frozen, [3], 1.0, 4.0, 0.0, otherwise)
    noise, told = torch.Generator().manual_seed(0), ["a red box", "a blue box"]
    missed = (said - clean).square().mean().item()
    for _ in range(9):
        assert loss(clean, text, control, noise, told).item() == pytest.approx(missed, rel=1e-3)
    places = sorted({int(time[0]) for _, time in seen}, reverse=True)
    assert len(places) == 3
    for noisy, time in seen:
        signal, covered = levels(scheduler, time)
        assert ((noisy - signal * said) / covered).std().item() == pytest.approx(1, abs=0.2)

    assert loss(clean, text, None, noise, told) == 7
    assert loss(clean, text, control, noise, ["red and blue towers", "a red box"]) == 7


def test_a_caption_tells_colours_or_leaves_them_open():
    assert tells_colours("a red box, two yellow balls and a man on snow")
    assert not tells_colours("a red box and two blue crates on snow")
    assert not tells_colours("a small town of red and blue towers on a lawn at noon")
    assert not tells_colours("")  # as where training leaves the text out


def test_what_learns_beside_the_few_steps_lora_is_kept_without_it(
    clip_folder, tmp_path, small_recipe
):
    base = tmp_path / "base"
    build_untrained(base, tiny=True)
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    model = motion_model(unet, MotionAdapter.from_pretrained(base / "motion_adapter"))
    layers = add_lora(model, whole_model(model), 2, 0)
    for parameter in layers.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    write_lora(model, layers, layers, base / "loras" / "few-steps.safetensors")
    run = Run(tmp_path / "run", small_recipe(1), base=base, clips=clip_folder)
    run.recipe["joint"] |= {"recognition": 0.0, "crop": 0, "learning_rate": 0.0, "own_steps": 1.0}
    for stage in ("data", "encode", "joint"):
        STAGES[stage](run)
    kept = load_file(
        run.folder / "parts" / "motion_adapter" / "diffusion_pytorch_model.safetensors"
    )
    for name, value in MotionAdapter.from_pretrained(base / "motion_adapter").state_dict().items():
        assert torch.allclose(kept[name], value, atol=1e-5), name


def test_a_lora_may_be_written_half_as_strong(tmp_path):
    size = SIZES["tiny"]
    unet = build_unet(size)
    model = motion_model(unet, build_motion_adapter(unet, size.heads))
    layers = add_lora(model, whole_model(model), 2, 0)
    for parameter in layers.parameters():
        torch.nn.init.normal_(parameter)
    changes = []
    for scale in (1.0, 0.5):
        path = tmp_path / f"{scale}.safetensors"
        write_lora(model, layers, layers, path, scale)
        changes.append(load_file(path))
    for name, whole in changes[0].items():
        led_back = "lora_B" in name or ".up." in name
        assert torch.allclose(changes[1][name], whole * (0.5 if led_back else 1), atol=1e-3)
