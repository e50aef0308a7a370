"""MotionLoRA: the file is one that AnimateDiff's pipeline takes."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from animatic.engine.errors import EngineError  # noqa: E402
from animatic.engine.training.architecture import build_untrained  # noqa: E402
from animatic.engine.training.run import Run, names_move  # noqa: E402
from animatic.engine.training.train import STAGES  # noqa: E402
from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter  # noqa: E402


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
