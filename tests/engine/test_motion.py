"""Motion modules normalise each frame by itself, as the published code does."""

import copy

import pytest
import torch
from animatic.engine import motion
from animatic.engine.motion import set_motion_scale, use_reference_normalisation
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

FRAMES = 3


@pytest.fixture
def module() -> AnimateDiffTransformer3D:
    torch.manual_seed(0)
    return AnimateDiffTransformer3D(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=8,
        norm_num_groups=2,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=8,
    ).double()


def without_attention(module: AnimateDiffTransformer3D) -> AnimateDiffTransformer3D:
    """The module with nothing left that mixes frames on purpose."""
    module.transformer_blocks = nn.ModuleList()
    return module


def change_in_other_frames(module: AnimateDiffTransformer3D) -> float:
    """How far frame 0's output moves when the other frames' contrast is raised."""
    torch.manual_seed(1)
    clip = torch.randn(FRAMES, 8, 4, 4, dtype=torch.float64)
    louder = clip.clone()
    louder[1:] *= 10
    with torch.no_grad():
        here, there = module(clip, num_frames=FRAMES), module(louder, num_frames=FRAMES)
    return (here[0] - there[0]).abs().max().item()


def test_a_frame_is_unaffected_by_other_frames_statistics(
    module: AnimateDiffTransformer3D,
) -> None:
    module = without_attention(module)
    assert change_in_other_frames(module) > 0.1  # stock diffusers pools them
    assert change_in_other_frames(use_reference_normalisation(module)) == 0


def test_only_the_normalisation_differs_from_diffusers(module: AnimateDiffTransformer3D) -> None:
    torch.manual_seed(1)
    one = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    # Where all frames are alike, pooled statistics are each frame's own.
    clip = one.repeat(2 * FRAMES, 1, 1, 1)
    with torch.no_grad():
        stock = module(clip, num_frames=FRAMES)
        ours = use_reference_normalisation(module)(clip, num_frames=FRAMES)
    torch.testing.assert_close(ours, stock, rtol=1e-12, atol=1e-12)


def test_at_scale_0_a_module_costs_nothing(module: AnimateDiffTransformer3D) -> None:
    use_reference_normalisation(module)
    clip = torch.randn(FRAMES, 8, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.equal(module(clip, num_frames=FRAMES), clip)
        set_motion_scale(module, 0)
        module.norm.register_forward_pre_hook(lambda *_: pytest.fail("computed for nothing"))
        assert torch.equal(module(clip, num_frames=FRAMES), clip)


def test_a_copy_computes_with_its_own_weights(module: AnimateDiffTransformer3D) -> None:
    use_reference_normalisation(module)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(1)
        clip = torch.randn(FRAMES, 8, 4, 4, dtype=torch.float64)
        assert not torch.equal(other(clip, num_frames=FRAMES), module(clip, num_frames=FRAMES))


def test_checkpointing_keeps_less_for_the_same_gradients(module: AnimateDiffTransformer3D) -> None:
    use_reference_normalisation(module)
    clip = torch.randn(FRAMES, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    gradients, kept = [], []
    for module.gradient_checkpointing in (False, True):
        saved: list[torch.Tensor] = []
        with saved_tensors_hooks(lambda x, saved=saved: saved.append(x) or x, lambda x: x):
            made = module(clip, num_frames=FRAMES)
        gradients.append(torch.autograd.grad(made.square().sum(), [clip, *module.parameters()]))
        kept.append(len(saved))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    assert kept[1] < kept[0] / 10


def test_more_pixels_than_attention_takes_at_once_go_in_parts(
    module: AnimateDiffTransformer3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_reference_normalisation(module)
    clips = torch.randn(2 * FRAMES, 8, 4, 4, dtype=torch.float64)  # 32 places
    rows: list[int] = []
    module.transformer_blocks[0].register_forward_pre_hook(
        lambda _, args, named: rows.append(len(named["hidden_states"])), with_kwargs=True
    )
    with torch.no_grad():
        whole = module(clips, num_frames=FRAMES)
        monkeypatch.setattr(motion, "MOST_ROWS", 31)
        monkeypatch.setattr(motion, "ROWS", 12)
        parts = module(clips, num_frames=FRAMES)
    assert rows == [32, 12, 12, 8]
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_a_model_without_motion_modules_is_refused() -> None:
    with pytest.raises(ValueError, match="no AnimateDiff motion module"):
        use_reference_normalisation(nn.Linear(1, 1))
