"""Training on a graphics card, without one: tensors that say they are on it, and mix with no other.

What the card would refuse is refused here: an operation on tensors of both devices.
"""

import copy
import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.training import estimator, loop  # noqa: E402
from animatic.engine.training.clips import motion_model  # noqa: E402
from animatic.engine.training.guides import render  # noqa: E402
from animatic.engine.training.run import Run  # noqa: E402
from animatic.engine.training.scenes import make_blockouts  # noqa: E402
from animatic.engine.training.train import STAGES  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._python_dispatch import (  # noqa: E402
    TorchDispatchMode,
    return_and_correct_aliasing,
)
from torch.utils._pytree import tree_leaves, tree_map_only  # noqa: E402


class OnCard(torch.Tensor):
    """A CPU tensor that says it is on a graphics card."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device="meta"
        )
        made.inner = inner
        return made

    # Down in torch it is on "meta", the one device that asks for no driver.
    device = property(lambda self: torch.device("cuda"))

    def __repr__(self):
        return f"OnCard({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        others = [x for x in tensors if not isinstance(x, cls) and x.dim()]
        copies = func in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
        if others and not copies:
            raise RuntimeError(f"{func} mixes devices: {[tuple(x.shape) for x in others]}")
        asked = kwargs.get("device")
        away = asked is not None and torch.device(asked).type == "cpu"
        if asked is not None:
            kwargs["device"] = "cpu"
        inner = tree_map_only(cls, lambda x: x.inner, (args, kwargs))
        out = func(*inner[0], **inner[1])
        if away:
            return out
        out = tree_map_only(torch.Tensor, cls, out)
        return return_and_correct_aliasing(func, args, kwargs, out)


class Card(TorchFunctionMode):
    """Makes tensors that are asked for on the card, or moved to it, ``OnCard``."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.tolist and isinstance(args[0], OnCard):
            return args[0].inner.tolist()
        if func is torch.Tensor.to and any(_is_card(x) for x in (*args[1:], kwargs.get("device"))):
            moved = args[0] if isinstance(args[0], OnCard) else OnCard(args[0].detach())
            dtypes = [x for x in (*args[1:], kwargs.get("dtype")) if isinstance(x, torch.dtype)]
            return moved.to(*dtypes) if dtypes else moved
        if func is not torch._C._nn._parse_to and _is_card(kwargs.get("device")):
            kwargs["device"] = "cpu"
            return OnCard(func(*args, **kwargs))
        return func(*args, **kwargs)


class CardFactories(TorchDispatchMode):
    """Catches what torch itself makes on the card: numbers that meet tensors."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        asked = kwargs.get("device")
        if asked is not None and torch.device(asked).type == "meta":
            return OnCard.__torch_dispatch__(func, types, args, kwargs)
        return func(*args, **kwargs)


def _is_card(value) -> bool:
    return isinstance(value, (str, torch.device)) and torch.device(value).type == "cuda"


@pytest.fixture
def card(monkeypatch):
    """The card; what would need its drivers is left out."""
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": generator())
    monkeypatch.setattr(loop, "save_atomically", lambda content, path: None)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with Card(), CardFactories():
        yield torch.device("cuda")
    torch.__future__.set_overwrite_module_params_on_conversion(False)


def test_ray_casting_stays_on_its_device(card):
    blockouts = make_blockouts(1, 8, torch.linspace(0, 1, 2))
    here = render(blockouts.scene, 16)
    there = render(blockouts.scene.to(card), 16)
    for name in ("colour", "depth", "lineart"):
        made = getattr(there, name)
        assert made.device.type == "cuda"
        assert torch.equal(made.cpu(), getattr(here, name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_all_stages_stay_on_their_device(card, tmp_path, small_recipe, monkeypatch):
    kept = {}
    monkeypatch.setattr(Run, "keep", lambda self, models: kept.update(models))
    part = Run.part

    def kept_part(run, name, required=True):
        if name not in kept:
            return part(run, name, False)
        # As read from a file: a stage's averaged weights take no gradient.
        return copy.deepcopy(kept[name]).requires_grad_(True)

    monkeypatch.setattr(Run, "part", kept_part)
    monkeypatch.setattr(estimator, "STILLS", 8)
    run = Run(tmp_path, small_recipe(2), device=card, move="a")
    run.recipe["estimator"] |= {"lessons": 2, "batch": 4}
    run.recipe["motion"]["guides"] = {"depth": 1.0}
    STAGES["data"](run)
    (tmp_path / "stills").symlink_to(tmp_path / "held_out" / "stills")
    for stage in list(STAGES)[1:]:
        STAGES[stage](run)
    data, _ = run.shards("clips")
    assert all(part["latents"].device.type == "cpu" for part in data.parts)
    assert all(
        value.device == card
        for n, value in data.sample(random.Random(0), 3).items()
        if n != "captions"
    )
    # Nothing lies in its memory that no step uses.
    unet = run.part("unet")
    motion_model(unet, run.part("motion_adapter"))
    assert not any(isinstance(p, OnCard) for p in unet.parameters())
    for model in kept.values():
        assert all(isinstance(p, OnCard) for p in model.parameters())
