"""The data generator: exact where it can be checked by hand, the same for the same seed."""

import math
import random

import pytest

torch = pytest.importorskip("torch")

from animatic.engine.training import captions  # noqa: E402
from animatic.engine.training.arrangements import HELD_OUT_PAIRS  # noqa: E402
from animatic.engine.training.guides import draw_lines, encode_depth, find_lines, render  # noqa: E402
from animatic.engine.training.raycast import (  # noqa: E402
    BOX,
    CONE,
    CYLINDER,
    GROUND,
    NOTHING,
    SPHERE,
    WEDGE,
    Scene,
    camera_rays,
    shade,
    trace,
)
from animatic.engine.training.scenes import make_blockouts  # noqa: E402

SIDE = 33  # odd, so that one pixel lies on the axis


def scene_of(kind: int, half=(1.0, 1.0, 1.0), focal: float = 18.0) -> Scene:
    """One solid on the ground, seen from (0, -10, 1) along +Y."""
    return Scene(
        kind=torch.tensor([[kind]]),
        centre=torch.tensor([[[[0.0, 0.0, half[2]]]]]),
        half=torch.tensor([[half]]),
        rotation=torch.eye(3)[None, None],
        object_colour=torch.full((1, 1, 3), 0.5),
        ground_colour=torch.full((1, 3), 0.2),
        ground_size=torch.tensor([50.0]),
        sun=torch.tensor([[0.0, -1.0, 0.0]]),
        sun_colour=torch.ones(1, 3),
        sky_light=torch.full((1, 3), 0.1),
        horizon=torch.ones(1, 3),
        zenith=torch.ones(1, 3),
        fog=torch.zeros(1),
        camera=torch.tensor([[[0.0, -10.0, 1.0]]]),
        # Columns: right is +X, up is +Z, back is -Y.
        camera_rotation=torch.tensor([[[[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]]]),
        focal=torch.tensor([[focal]]),
    )


@pytest.mark.parametrize(
    ("kind", "depth", "normal"),
    [
        (BOX, 9.0, (0, -1, 0)),
        (SPHERE, 9.0, (0, -1, 0)),
        (CYLINDER, 9.0, (0, -1, 0)),
        # Half way up, the cone's radius is a half; its side leans back.
        (CONE, 9.5, (0, -2 / math.sqrt(5), 1 / math.sqrt(5))),
        (WEDGE, 9.0, (0, -1, 0)),
    ],
)
def test_depth_and_normal_on_the_axis(kind, depth, normal):
    scene = scene_of(kind)
    if kind == WEDGE:
        scene.camera[..., 0] = -0.5  # the axis itself only grazes the slope
    hits = trace(scene, camera_rays(scene, SIDE))
    middle = SIDE * SIDE // 2
    assert hits.distance[0, 0, middle].item() == pytest.approx(depth, abs=1e-4)
    assert hits.normal[0, 0, middle].tolist() == pytest.approx(normal, abs=1e-4)
    assert hits.ident[0, 0, middle] == 1


def test_depth_is_planar_and_the_ground_ends():
    scene = scene_of(BOX, half=(3.0, 1.0, 3.0))
    hits = trace(scene, camera_rays(scene, SIDE))
    depth = hits.distance.reshape(SIDE, SIDE)
    ident = hits.ident.reshape(SIDE, SIDE)
    front = depth[SIDE // 2][ident[SIDE // 2] == 1]
    assert len(front) > 5
    assert torch.allclose(front, torch.full_like(front, 9.0), atol=1e-4)
    # At 18 mm the view is 90 degrees wide: the lowest row's centre looks down by (SIDE-1)/SIDE.
    assert depth[-1, 0].item() == pytest.approx(SIDE / (SIDE - 1), rel=1e-4)
    assert ident[-1, 0] == GROUND
    assert ident[0, 0] == NOTHING
    assert depth[0, 0] == torch.inf


def test_a_long_lens_enlarges():
    widths = []
    for focal in (18.0, 36.0):
        scene = scene_of(BOX, focal=focal)
        ident = trace(scene, camera_rays(scene, 101)).ident.reshape(101, 101)
        widths.append(int((ident[50] == 1).sum()))
    assert widths[1] == pytest.approx(2 * widths[0], abs=2)


def test_shadow_falls_away_from_the_sun():
    scene = scene_of(BOX)
    scene.sun = torch.tensor([[0.0, 0.6, 0.8]])  # behind the box, above
    scene.camera[..., 2] = 4.0
    colour = shade(scene, trace(scene, camera_rays(scene, SIDE))).reshape(SIDE, SIDE, 3)
    ident = trace(scene, camera_rays(scene, SIDE)).ident.reshape(SIDE, SIDE)
    column = SIDE // 2
    base = int((ident[:, column] == 1).nonzero().max()) + 1
    assert colour[base, column].mean() < 0.7 * colour[base, 0].mean()


def test_depth_code_is_disparity_over_the_whole_clip():
    z = torch.tensor([[[[2.0, 4.0]], [[8.0, torch.inf]]]])  # one clip, two frames of 1x2
    codes = encode_depth(z)[0, :, 0]
    share = (1 / 4 - 1 / 8) / (1 / 2 - 1 / 8)
    assert codes.tolist() == [[65535, 1 + round(65534 * share)], [1, 0]]


def test_lines_are_at_borders_and_creases_only():
    scene = scene_of(BOX, half=(3.0, 1.0, 3.0))
    lines = find_lines(trace(scene, camera_rays(scene, 128)), 128)
    drawn = draw_lines(lines, 1.5)[0, 0]
    assert drawn.shape == (64, 64)
    assert drawn.max() == 255
    left, right = 32 - round(32 * 3 / 9), 32 + round(32 * 3 / 9)
    assert drawn[20, left - 2 : left + 2].max() == 255
    assert drawn[20, right - 2 : right + 2].max() == 255
    assert drawn[20, left + 4 : right - 4].max() == 0


def test_the_seed_names_the_data():
    times = torch.linspace(0, 1, 3)
    first, again, other = (make_blockouts(seed, 6, times) for seed in (5, 5, 6))
    assert first.captions == again.captions
    assert all(
        torch.equal(value, getattr(again.scene, name)) for name, value in vars(first.scene).items()
    )
    assert first.captions != other.captions


def test_held_out_pairs_are_in_no_training_scene():
    def pairs(held_out: bool, **places: float) -> list[set]:
        made = make_blockouts(1, 60, torch.zeros(1), places, held_out)
        return [set(words.things) for words in made.words]

    unseen = {(colour, captions.SHAPE_NAMES[kind]) for colour, kind in HELD_OUT_PAIRS}
    assert not any(things & unseen for things in pairs(False))
    assert not any(things & unseen for things in pairs(False, street=0.4, room=0.3, figures=0.3))
    assert all(things & unseen for things in pairs(True))


@pytest.mark.parametrize("place", ["street", "room"])
def test_a_camera_inside_a_place_stays_inside(place):
    """Walls are on both sides of it and none of them around it, wherever its move takes it."""
    made = make_blockouts(3, 60, torch.linspace(0, 1, 5), {place: 1.0})
    scene = made.scene
    eye = scene.camera[:, :, None] - scene.centre
    # A camera in a solid would see through it, and Blender's would not.
    local = torch.einsum("bfni,bnij->bfnj", eye, scene.rotation).abs() / scene.half[:, None]
    inside = (local < 1).all(dim=-1) & (scene.kind >= 0)[:, None]
    walls = torch.tensor([words.walls for words in made.words])
    is_wall = torch.arange(inside.shape[-1])[None] < walls[:, None]
    assert not (inside & is_wall[:, None]).any()
    assert all(words.place == place and words.walls for words in made.words)
    seen = render(scene.select(slice(0, 20)), 32).ident
    walled = ((seen > 0) & (seen <= walls[:20, None, None, None])).flatten(1).any(dim=-1)
    assert walled.float().mean() > 0.9


def test_captions_say_what_is_there():
    for seed in range(40):
        rng = random.Random(seed)
        words = captions.random_words(rng)
        text = captions.caption(words, rng)
        assert any(phrase in text for phrase in captions.GROUNDS[words.ground])
        assert any(phrase in text for phrase in captions.LIGHTS[words.light])
        for colour, _ in words.things:
            assert any(name in text for name in captions.COLOURS[colour])
