"""The engine against outputs of the published AnimateDiff and SparseCtrl code.

tests/data/reference.safetensors holds what guoyww/AnimateDiff computed in float64, in its own
layout [b, c, f, h, w]; of the control residuals every 13th value. No weights are stored: each is
drawn from a generator that its name seeds, and the published names and shapes are in
reference.json.gz. They reach the engine as files in the published layout.
"""

import gzip
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from animatic.engine.conditions import Condition, spread
from animatic.engine.motion import use_reference_normalisation
from animatic.engine.original import image_unet, load_control, load_motion, published_schedule
from animatic.engine.parts import join_motion
from animatic.engine.residuals import ControlBranch, ResidualCache
from animatic.engine.sampling import Denoiser, steps_of
from diffusers import SparseControlNetModel, UNetMotionModel
from safetensors.torch import load_file, save_file

DATA = Path(__file__).parents[1] / "data"
STORED = json.loads(gzip.decompress((DATA / "reference.json.gz").read_bytes()))
SETTINGS: dict[str, Any] = STORED["config"]
FRAMES, SIDE, KEYED = SETTINGS["frames"], SETTINGS["latent_size"], SETTINGS["keyframes"]
EXACT = torch.float64
KINDS = ("rgb", "scribble")


def drawn(tag: str, shape: list[int], draw: Callable[..., torch.Tensor] = torch.randn) -> Any:
    """Float32 numbers that follow from ``tag`` alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{SETTINGS['seed']}:{tag}".encode()))
    return draw(shape, generator=generator, dtype=torch.float32)


def weights(scope: str) -> dict[str, torch.Tensor]:
    def weight(name: str, shape: list[int]) -> torch.Tensor:
        numbers = drawn(f"{scope}:{name}", shape)
        if len(shape) == 1:
            return 0.1 * numbers + float("norm" in name and name.endswith("weight"))
        return numbers / math.sqrt(numbers[0].numel())

    return {name: weight(name, shape) for name, shape in STORED["shapes"][scope].items()}


@dataclass(frozen=True)
class Reference:
    unet: UNetMotionModel
    controls: dict[str, SparseControlNetModel]
    expected: dict[str, torch.Tensor]
    text: torch.Tensor

    def denoiser(self, *controls: tuple[str, torch.Tensor, float], **options: Any) -> Denoiser:
        """The engine's denoiser under control of (kind, pictures [1, C, keyframes, h, w], scale);
        in ``kind`` Recorder, one that remembers the latents it was given."""
        branch = self.branch(*controls)
        make = options.get("make", Denoiser)
        scale = SETTINGS["guidance_scale"]
        return make(self.unet, branch, self.text, scale, len(self.text), lambda: None)

    def branch(self, *controls: tuple[str, torch.Tensor, float]) -> ControlBranch:
        conditions = []
        for kind, pictures, scale in controls:
            guides = {frame: pictures[0, :, k] for k, frame in enumerate(KEYED)}
            values, mask = spread(guides, FRAMES)
            condition = Condition(values, mask, torch.full((FRAMES,), scale), (kind,))
            conditions.append((self.controls[kind], condition))
        shape = torch.Size((4, FRAMES, SIDE, SIDE))
        return ControlBranch(conditions, self.text, shape, ResidualCache(0), "reference")


class Recorder(Denoiser):
    """A denoiser that keeps the latents of each step."""

    seen: list[torch.Tensor]

    def __call__(self, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.seen = [*getattr(self, "seen", []), latents]
        return super().__call__(latents, t)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The models, loaded from published-style files in the ways these are found."""
    folder = tmp_path_factory.mktemp("published")
    heads = SETTINGS["attention_heads"]
    unet = weights("unet")
    motion = {name: unet.pop(name) for name in list(unet) if "motion_modules" in name}
    stray = {"animatediff_config": {"a": 1}, "global_step": 3}
    with_prefix = {f"module.{name}": weight for name, weight in motion.items()}
    torch.save({"state_dict": with_prefix | stray}, folder / "mm.ckpt")
    torch.save({"controlnet": weights("sparsectrl_rgb")} | stray, folder / "rgb.ckpt")
    save_file(weights("sparsectrl_scribble"), folder / "scribble.safetensors")
    files = {"rgb": folder / "rgb.ckpt", "scribble": folder / "scribble.safetensors"}
    return Reference(
        join_motion(
            image_unet(unet, folder, EXACT, heads),
            load_motion(folder / "mm.ckpt", EXACT),
            folder,
            folder,
        ),
        {
            kind: use_reference_normalisation(load_control(path, EXACT, heads))
            for kind, path in files.items()
        },
        load_file(DATA / "reference.safetensors"),
        drawn("input:text", [2, 7, SETTINGS["cross_attention_dim"]]).double(),
    )


def latents() -> torch.Tensor:
    return drawn("input:latents", [1, 4, FRAMES, SIDE, SIDE]).double()


def condition(kind: str) -> torch.Tensor:
    if kind == "rgb":
        return drawn("input:condition_rgb", [1, 4, len(KEYED), SIDE, SIDE]).double()
    shape = [1, 3, len(KEYED), 8 * SIDE, 8 * SIDE]
    return drawn("input:condition_scribble", shape, torch.rand).double()


def assert_agrees(ours: torch.Tensor, expected: torch.Tensor) -> None:
    """To 1e-5 of the largest value, everywhere (they agree to 6e-8, what float32 stores)."""
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.inference_mode()
def test_unet(reference: Reference) -> None:
    t = torch.tensor(SETTINGS["timestep"])
    assert_agrees(reference.denoiser().halves(latents(), t), reference.expected["unet"])


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_control_residuals(reference: Reference, kind: str) -> None:
    branch = reference.branch((kind, condition(kind), 1.0))
    residuals = branch.at(torch.tensor(SETTINGS["timestep"]), slice(0, 2))
    assert residuals is not None
    assert len(residuals) == 13
    *skips, middle = (r.unflatten(0, (2, FRAMES)).transpose(1, 2) for r in residuals)
    for k, skip in enumerate(skips):
        assert_agrees(skip.flatten()[::13], reference.expected[f"{kind}.down.{k}"])
    assert_agrees(middle, reference.expected[f"{kind}.mid"])


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_unet_under_control(reference: Reference, kind: str) -> None:
    denoiser = reference.denoiser((kind, condition(kind), 0.3))
    t = torch.tensor(SETTINGS["timestep"])
    assert_agrees(denoiser.halves(latents(), t), reference.expected[f"{kind}.unet"])


@torch.inference_mode()
def test_guided_sampling_under_control(reference: Reference) -> None:
    shape = [1, 3, len(KEYED), 8 * SIDE, 8 * SIDE]
    pictures = drawn("input:pipeline_images", shape, torch.rand).double()
    noise = drawn("input:pipeline_latents", [1, 4, FRAMES, SIDE, SIDE]).double()
    denoiser = reference.denoiser(("scribble", pictures, 1.0), make=Recorder)
    schedule, steps = published_schedule(), SETTINGS["steps"]
    stepping = steps_of(denoiser, schedule, noise, steps, torch.Generator())
    while True:
        try:
            next(stepping)
        except StopIteration as end:
            made = end.value
            break
    assert isinstance(denoiser, Recorder)
    assert len(denoiser.seen) == SETTINGS["steps"]
    assert_agrees(denoiser.seen[1], reference.expected["pipeline.step0"])
    assert_agrees(made, reference.expected["pipeline.latents"])
