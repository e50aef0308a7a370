"""That a condition encoder learns to tell shapes apart in its guide."""

import math

import pytest

torch = pytest.importorskip("torch")

from animatic.engine.training.architecture import SIZES, build_sparsectrl, build_unet  # noqa: E402
from animatic.engine.training.captions import SHAPE_NAMES  # noqa: E402
from animatic.engine.training.grounding import look, shapes  # noqa: E402
from animatic.engine.training.recognition import Recognition  # noqa: E402

SIZE = SIZES["tiny"]


def bars_and_ramps():
    """Depth of upright bars to the left, of a ramp to the right: [1, 3, 1, 64, 64], and regions."""
    across = torch.arange(64)
    row = torch.where(across < 32, (across // 4 % 2).float(), (across - 32) / 32)
    regions = torch.zeros(1, 16, 16, dtype=torch.uint8)
    regions[:, :, :8], regions[:, :, 8:] = look("red", "box"), look("blue", "wedge")
    return row.expand(1, 3, 1, 64, 64), regions


def test_shapes_are_the_looks_without_their_colours():
    looks = torch.tensor([0, look("red", "cone"), look("grey", "cone"), look("red", "box")])
    cone, box = (1 + SHAPE_NAMES.index(name) for name in ("cone", "box"))
    assert shapes(looks.to(torch.uint8)).tolist() == [0, cone, cone, box]


def test_all_shapes_count_alike_however_many_places_they_fill():
    encoder = build_sparsectrl(build_unet(SIZE), "depth", SIZE.heads, SIZE.condition_widths)
    recognition = Recognition(encoder)
    for layer in recognition.layers:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    box = 1 + SHAPE_NAMES.index("box")
    with torch.no_grad():
        for layer in recognition.layers:
            layer.bias[box] = 50  # certain that it is a box, everywhere
    # One corner of sixteen, even at the lowest level, is a cone.
    regions = torch.full((1, 16, 16), look("red", "box"), dtype=torch.uint8)
    regions[:, :4, :4] = look("red", "cone")
    recognition._seen = [torch.zeros(1, w, s, s) for w, s in zip(SIZE.widths, (8, 4), strict=True)]
    assert recognition.loss(regions).item() == pytest.approx(25)


def test_an_encoder_learns_what_stands_where_and_watching_changes_nothing():
    torch.manual_seed(0)
    encoder = build_sparsectrl(build_unet(SIZE), "depth", SIZE.heads, SIZE.condition_widths)
    for output in encoder.controlnet_down_blocks:
        torch.nn.init.normal_(output.weight, std=0.1)
    condition, regions = bars_and_ramps()
    inputs = (torch.zeros(1, 4, 1, 8, 8), torch.tensor([999]))
    told = {
        "encoder_hidden_states": torch.randn(1, 5, SIZE.text_width),
        "controlnet_cond": condition,
        "conditioning_mask": torch.ones_like(condition[:, :1]),
        "return_dict": False,
    }
    with torch.no_grad():
        plain = encoder(*inputs, **told)[0]
    recognition = Recognition(encoder)
    recognition.watch(encoder)
    optimizer = torch.optim.Adam([*encoder.parameters(), *recognition.parameters()], 3e-3)
    losses = []
    for step in range(40):
        down = encoder(*inputs, **told)[0]
        if step == 0:
            assert all(torch.equal(a, b) for a, b in zip(down, plain, strict=True))
        loss = recognition.loss(regions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(1 + len(SHAPE_NAMES)), abs=0.5)
    assert losses[-1] < 0.3 * losses[0]
