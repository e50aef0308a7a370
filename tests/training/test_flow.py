"""Optical flow: what it must do whatever the scene, and one case that is known by hand."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from animatic.engine.training.flow import optical_flow  # noqa: E402
from animatic.engine.training.guides import render  # noqa: E402
from animatic.engine.training.raycast import camera_rays, trace  # noqa: E402
from animatic.engine.training.scenes import make_blockouts  # noqa: E402

SIDE, CLIPS = 64, 8


@pytest.fixture(scope="module")
def scene():
    """Clips in which cameras dolly, turn and zoom, and objects move."""
    blockouts = make_blockouts(16, CLIPS, torch.tensor([0.4, 0.5]))
    assert any(words.moving is not None for words in blockouts.words)
    assert {words.place for words in blockouts.words} >= {"street", "room", "figures"}
    assert {words.move.split(" ")[0] for words in blockouts.words} >= {"zoom", "pan", "truck"}
    return blockouts.scene


@pytest.fixture(scope="module")
def flow(scene):
    return optical_flow(scene, SIDE)


def fetch(picture, flow):
    """What ``picture`` [b, c, h, w] shows where ``flow`` [b, 2, h, w] leads, bilinear."""
    grid = torch.arange(SIDE, dtype=torch.float32)
    x = grid[None, None, :] + flow[:, 0]
    y = grid[None, :, None] + flow[:, 1]
    place = torch.stack([x, y], dim=-1) * 2 / (SIDE - 1) - 1
    return torch.nn.functional.grid_sample(
        picture, place, align_corners=True, padding_mode="border"
    )


def test_colours_follow_the_flow(scene, flow):
    colour = render(scene, SIDE).colour.float() / 255
    first, second = colour[:, 0], colour[:, 1]
    for here, there, way, visible in (
        (first, second, flow.forward, flow.forward_visible),
        (second, first, flow.backward, flow.backward_visible),
    ):
        seen = visible[:, 0]
        warped = (fetch(there, way[:, 0]) - here).abs().mean(1)
        plain = (there - here).abs().mean(1)
        assert seen.float().mean() > 0.8
        assert warped[seen].mean() < 0.3 * plain[seen].mean()
        # What cannot be seen there is not found there either.
        assert warped[~seen].mean() > 3 * warped[seen].mean()


def test_forward_and_backward_are_inverse(scene, flow):
    ident = trace(scene, camera_rays(scene, SIDE)).ident.unflatten(2, (SIDE, SIDE)).float()
    back = fetch(flow.backward[:, 0], flow.forward[:, 0])
    # Between four pixels of one object, from which the object is also seen.
    both = torch.cat([ident[:, 1:], flow.backward_visible.float()], dim=1)
    there = fetch(both, flow.forward[:, 0])
    whole = (there[:, 0] == ident[:, 0]) & (there[:, 1] == 1) & flow.forward_visible[:, 0]
    apart = (back + flow.forward[:, 0]).norm(dim=1)[whole]
    assert whole.float().mean() > 0.6
    assert flow.forward[:, 0].norm(dim=1)[whole].mean() > 1
    assert apart.quantile(0.99) < 0.02


def test_nothing_flows_where_nothing_moves():
    still = make_blockouts(4, CLIPS, torch.tensor([0.5, 0.5, 0.5])).scene
    flow = optical_flow(still, SIDE)
    assert flow.forward.shape == (CLIPS, 2, 2, SIDE, SIDE)
    assert flow.forward.abs().max() < 1e-2
    assert flow.backward.abs().max() < 1e-2
    assert flow.forward_visible.float().mean() > 0.999


def test_a_longer_lens_spreads_everything_and_the_sky_with_it(scene):
    zoomed = replace(
        scene,
        camera=scene.camera[:, :1].expand(-1, 2, -1),
        camera_rotation=scene.camera_rotation[:, :1].expand(-1, 2, -1, -1),
        centre=scene.centre[:, :1].expand(-1, 2, -1, -1),
        focal=torch.tensor([30.0, 36.0]).expand(CLIPS, 2),
    )
    flow = optical_flow(zoomed, SIDE).forward[:, 0]
    out = 0.2 * (torch.arange(SIDE) - (SIDE - 1) / 2)
    assert torch.allclose(flow[:, 0], out[None, None, :].expand_as(flow[:, 0]), atol=1e-2)
    assert torch.allclose(flow[:, 1], out[None, :, None].expand_as(flow[:, 1]), atol=1e-2)
