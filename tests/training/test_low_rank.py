"""LoRAs of the training: MotionLoRA, and the one for few steps."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.lora import find_targets, read_lora  # noqa: E402
from animatic.engine.training.architecture import (  # noqa: E402
    SIZES,
    build_motion_adapter,
    build_scheduler,
    build_unet,
    build_untrained,
)
from animatic.engine.training.clips import motion_model  # noqa: E402
from animatic.engine.training.few_steps import Consistency  # noqa: E402
from animatic.engine.training.low_rank import add_lora, whole_model, write_lora  # noqa: E402
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
