"""Takes: the same bits again, control that does what it says, cancel within one step."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.checkpoint import content_hash, read_info
from animatic.engine.motion import FrameNormMotionModule
from animatic.engine.noise import noise_of, shared_side
from animatic.engine.residuals import ResidualCache
from animatic.engine.run import Cancelled, Engine, EngineError, Take
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from PIL import Image

from .conftest import FRAMES, Guides

MakeRequest = Callable[..., dict[str, Any]]


def generate(
    engine: Engine, request: dict[str, Any], guides: Guides, seed: int = 1, **options: Any
) -> Take:
    return engine.generate(
        request,
        guides,
        seed,
        options.get("on_event", lambda event: None),
        options.get("should_cancel", lambda: False),
        options.get("plan"),
    )


@contextmanager
def counted(module: torch.nn.Module) -> Iterator[list[int]]:
    """The batch size of every call of ``module`` inside the block."""
    batches: list[int] = []
    hook = module.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    try:
        yield batches
    finally:
        hook.remove()


@pytest.fixture
def all_controls(guides: Guides) -> list[dict[str, Any]]:
    return [
        guides.control("depth", {0: 1.0, 3: 0.5}),
        guides.control("lineart", {1: 1.0}, strength=0.7),
        guides.control("render", {0: 1.0}),
    ]


def test_frames_share_the_broad_parts_of_their_noise_and_nothing_else() -> None:
    def drawn(frames: int, shared: int) -> torch.Tensor:
        # The last squares are cut off by the picture's border.
        return noise_of(torch.Generator().manual_seed(3), (2, 4, frames, 10, 8), "cpu", shared)

    before, after = drawn(5, 0), drawn(5, 4)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        for columns in (slice(0, 4), slice(4, 8)):
            own, held = before[..., rows, columns], after[..., rows, columns]
            means = held.mean(dim=(-2, -1), keepdim=True)
            torch.testing.assert_close(means, means[:, :, :1].expand_as(means))
            fine = own - own.mean(dim=(-2, -1), keepdim=True)
            torch.testing.assert_close(held - means, fine)
    assert torch.equal(drawn(1, 4), drawn(1, 0))  # a picture by itself is as it ever was
    many = noise_of(torch.Generator().manual_seed(3), (64, 4, 16, 16, 16), "cpu", 4)
    assert abs(many.std().item() - 1) < 0.01
    assert abs(torch.nn.functional.avg_pool3d(many, (1, 4, 4)).std().item() - 0.25) < 0.01


@pytest.mark.parametrize(
    ("keyed", "side"),
    [((), 4), ((0,), 4), ((0, 1, 2, 3), 4), ((6, 9), 4), ((0, 15), 1), ((4, 12), 1)],
)
def test_frames_share_all_of_their_noise_where_guides_say_how_things_move(
    keyed: tuple[int, ...], side: int
) -> None:
    assert shared_side(4, keyed, 16) == side
    assert shared_side(0, keyed, 16) == 0  # AnimateDiff's noise is independent, and stays so


def test_a_card_may_ask_for_shared_noise(
    checkpoint: Path, request_for: MakeRequest, guides: Guides, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint, tmp_path / "sharing")
    card = tmp_path / "sharing" / "animatic.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"shared_noise": 4}))
    seen = []
    for folder in (checkpoint, tmp_path / "sharing"):
        each = Engine("cpu")
        each.load(folder, lambda event: None)
        hook = each.parts.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        generate(each, request_for(), guides)
        hook.remove()
    as_drawn, shared = (torch.nn.functional.avg_pool3d(seen[k], (1, 4, 4)) for k in (0, 2))
    infos = [read_info(folder) for folder in (checkpoint, tmp_path / "sharing")]
    assert len({content_hash(info) for info in infos}) == 2  # a take knows which it was made with
    assert as_drawn.diff(dim=2).abs().max() > 0.1
    assert shared.diff(dim=2).abs().max() < 1e-5

    assert seen[2].diff(dim=2).abs().max() > 0.1
    hook = each.parts.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for strength, alike in ((1.0, True), (0.0, False)):
        seen.clear()
        control = guides.control("depth", {0: 1.0, FRAMES - 1: 1.0}, strength)
        generate(each, request_for(control), guides)
        assert (seen[0].diff(dim=2).abs().max() < 1e-5) == alike
    hook.remove()


def test_same_seed_and_plan_same_bytes(
    engine: Engine, request_for: MakeRequest, guides: Guides, all_controls: list[dict[str, Any]]
) -> None:
    request = request_for(*all_controls)
    first = generate(engine, request, guides)
    torch.rand(7)
    again = generate(engine, request, guides, plan=first.plan)
    assert np.array_equal(again.frames, first.frames)
    assert again.plan == first.plan
    assert not np.array_equal(generate(engine, request, guides, seed=2).frames, first.frames)
    assert first.frames.shape == (4, 32, 32, 3)
    assert first.frames.dtype == np.uint8
    assert first.frames.std() > 1


def test_another_process_makes_the_same_bytes(
    engine: Engine, request_for: MakeRequest, guides: Guides, checkpoint: Path, tmp_path: Path
) -> None:
    request = request_for(guides.control("render", {0: 1.0}))
    take = generate(engine, request, guides)
    program = f"""
import numpy as np
from pathlib import Path
from animatic.engine.run import Engine
engine = Engine("cpu")
engine.load(Path({str(checkpoint)!r}), lambda event: None)
guides = {{sha: Path(path) for sha, path in { ({k: str(v) for k, v in guides.items()})!r}.items()}}
take = engine.generate({request!r}, guides, 1, lambda event: None, lambda: False, {take.plan!r})
np.save({str(tmp_path / "frames.npy")!r}, take.frames)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert np.array_equal(np.load(tmp_path / "frames.npy"), take.frames)


def test_kept_residuals_give_the_same_bits_and_save_the_encoder(
    engine: Engine, request_for: MakeRequest, guides: Guides, all_controls: list[dict[str, Any]]
) -> None:
    request = request_for(*all_controls)
    engine._cache = ResidualCache(1)  # keeps nothing
    with counted(engine._parts.control("depth").mid_block) as calls:
        uncached = [generate(engine, request, guides, seed) for seed in (1, 2)]
    assert len(calls) == 4
    engine._cache = ResidualCache(10**9)
    with counted(engine._parts.control("depth").mid_block) as calls:
        cached = [generate(engine, request, guides, seed) for seed in (1, 2)]
    assert len(calls) == 2
    for one, other in zip(uncached, cached, strict=True):
        assert np.array_equal(one.frames, other.frames)


def test_kept_residuals_serve_other_strengths_but_no_other_prompt_or_keyframe(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    engine._cache = ResidualCache(10**9)
    encoder = engine._parts.control("depth").mid_block
    generate(engine, request_for(guides.control("depth", {0: 1.0})), guides)
    weaker = request_for(guides.control("depth", {0: 1.0}, strength=0.5))
    with counted(encoder) as calls:
        kept = generate(engine, weaker, guides)
    assert not calls
    engine._cache = ResidualCache(1)
    assert np.array_equal(generate(engine, weaker, guides).frames, kept.frames)
    stronger = request_for(guides.control("depth", {0: 1.0}))
    assert not np.array_equal(generate(engine, stronger, guides).frames, kept.frames)
    engine._cache = ResidualCache(10**9)
    for other in (
        request_for(guides.control("depth", {0: 1.0}), prompt="a blue box"),
        request_for(guides.control("depth", {1: 1.0})),
        request_for(guides.control("depth", {0: 1.0}), clip={"frames": 3}),
    ):
        generate(engine, weaker, guides)
        with counted(encoder) as calls:
            generate(engine, other, guides)
        assert len(calls) == 2


def test_strength_zero_is_no_control_bit_for_bit(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    free = generate(engine, request_for(), guides).frames
    off = request_for(guides.control("depth", {0: 1.0}, strength=0.0))
    unkeyed = request_for(guides.control("depth", {0: 0.0}))
    assert np.array_equal(generate(engine, off, guides).frames, free)
    assert np.array_equal(generate(engine, unkeyed, guides).frames, free)
    held = generate(engine, request_for(guides.control("depth", {0: 1.0})), guides).frames
    assert not np.array_equal(held, free)


def test_every_motion_module_normalises_per_frame(engine: Engine) -> None:
    parts = engine._parts
    models = [parts.unet, *(parts.control(guide) for guide in parts.info.guides)]
    for model in models:
        found = [m for m in model.modules() if isinstance(m, AnimateDiffTransformer3D)]
        assert found
        assert all(isinstance(m, FrameNormMotionModule) for m in found)


def test_guidance_one_skips_the_negative_prompt(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    with counted(engine._parts.unet.conv_in) as batches:
        generate(engine, request_for(), guides)
        generate(engine, request_for(sampling={"guidance": 1.0}), guides)
    assert batches == [8, 8, 4, 4]  # four frames; two steps each


def test_a_forced_plan_is_followed(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    request = request_for(guides.control("depth", {0: 1.0}))
    whole = generate(engine, request, guides)
    plan = whole.plan | {"batch": {"guidance": 1, "decode": 1}, "dtype": "bfloat16"}
    plan["threads"] = 2
    threads: list[int] = []
    split = generate(
        engine,
        request,
        guides,
        plan=plan,
        on_event=lambda event: threads.append(torch.get_num_threads()),
    )
    assert threads[-1] == 2
    assert torch.get_num_threads() == 1
    assert split.plan["batch"] == {"guidance": 1, "decode": 1}
    assert engine._parts.unet.dtype == torch.bfloat16
    assert np.abs(split.frames.astype(int) - whole.frames).mean() < 20
    assert np.array_equal(generate(engine, request, guides).frames, whole.frames)
    other = whole.plan | {"versions": whole.plan["versions"] | {"torch": "1.0"}}
    assert "torch 1.0 then" in generate(engine, request, guides, plan=other).notes[0]
    with pytest.raises(EngineError, match="'tpu' is no device"):
        generate(engine, request, guides, plan=whole.plan | {"device": "tpu"})


@pytest.mark.parametrize("after", ["sampling", "decode"])
def test_cancel_takes_effect_within_one_step(
    engine: Engine, request_for: MakeRequest, guides: Guides, after: str
) -> None:
    seen: list[dict[str, Any]] = []
    request = request_for(guides.control("depth", {0: 1.0}), sampling={"steps": 6})
    plan = generate(engine, request, guides).plan
    plan["batch"]["decode"] = 1
    with (
        counted(engine._parts.unet.conv_in) as steps,
        pytest.raises(Cancelled),
    ):
        generate(
            engine,
            request,
            guides,
            plan=plan,
            on_event=seen.append,
            should_cancel=lambda: any(event.get("phase") == after for event in seen),
        )
    assert len(steps) == (1 if after == "sampling" else 6)
    assert [event["done"] for event in seen if event.get("phase") == after] == [1]


def test_progress_and_previews(engine: Engine, request_for: MakeRequest, guides: Guides) -> None:
    seen: list[dict[str, Any]] = []
    request = request_for(guides.control("depth", {0: 1.0}), sampling={"steps": 3})
    take = generate(engine, request, guides, on_event=seen.append)
    steps = [(e["done"], e["of"]) for e in seen if e.get("phase") == "sampling"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    previews = [event for event in seen if event["type"] == "preview"]
    assert [event["step"] for event in previews] == [1, 2, 3]
    picture = Image.open(io.BytesIO(previews[0]["jpeg"]))
    assert (picture.format, picture.size) == ("JPEG", (4 * 64, 64))
    assert set(take.seconds) == {"load", "control", "sampling", "decode"}


@pytest.mark.parametrize(("width", "height", "frames"), [(40, 24, 3), (8, 8, 1), (32, 32, 32)])
def test_any_multiple_of_eight(
    engine: Engine, request_for: MakeRequest, guides: Guides, width: int, height: int, frames: int
) -> None:
    codes = np.full((height, width), 30000, np.uint16)
    codes[0] = 100
    guides.sha["depth", 9] = guides.add(f"{width}x{height}.png", Image.fromarray(codes))
    control = guides.control("depth", {0: 1.0})
    control["keyframes"][0]["sha256"] = guides.sha["depth", 9]
    clip = {"width": width, "height": height, "frames": frames}
    take = generate(engine, request_for(control, clip=clip, sampling={"steps": 1}), guides)
    assert take.frames.shape == (frames, height, width, 3)


REFUSED = {
    "too many frames": ({"clip": {"frames": 33}}, "33 frames; blockout-tiny makes 1 to 32"),
    "odd size": ({"clip": {"width": 36}}, "36x32 pixels: both sides must be multiples of 8"),
    "another version": ({"checkpoint": {"sha256": "0" * 64}}, "another version of blockout-tiny"),
    "guidance": ({"sampling": {"guidance": 0.5}}, "Guidance and the number of steps start at 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_model_cannot_do_gets_a_sentence(
    engine: Engine, request_for: MakeRequest, guides: Guides, name: str
) -> None:
    changes, sentence = REFUSED[name]
    with pytest.raises(EngineError, match=sentence):
        generate(engine, request_for(**changes), guides)


@pytest.mark.parametrize(
    ("keyframes", "sentence"),
    [
        ({}, "has no keyframes"),
        ({4: 1.0}, "keyframe at clip frame 4; the clip's frames are 0 to 3"),
    ],
)
def test_wrong_keyframes_get_a_sentence(
    engine: Engine,
    request_for: MakeRequest,
    guides: Guides,
    keyframes: dict[int, float],
    sentence: str,
) -> None:
    with pytest.raises(EngineError, match=sentence):
        generate(engine, request_for(guides.control("depth", keyframes)), guides)


def test_running_out_of_memory_says_what_to_lower(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    def exhaust(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        torch.empty(10**16)

    hook = engine._parts.unet.conv_in.register_forward_pre_hook(exhaust)
    control = guides.control("depth", {0: 1.0})
    try:
        with pytest.raises(EngineError, match=r"out of memory at 32x32 with 4 frames\. Lower"):
            generate(engine, request_for(control), guides)
    finally:
        hook.remove()
    assert not engine._parts.controls  # encoders load again for whoever needs them


def test_a_prompt_cut_short_is_told(
    engine: Engine, request_for: MakeRequest, guides: Guides
) -> None:
    assert not generate(engine, request_for(prompt="a red box"), guides).notes
    take = generate(engine, request_for(prompt="1 " * 50), guides)
    assert "50 tokens and the model reads the first 38" in take.notes[0]
