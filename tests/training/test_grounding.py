"""Which words of a caption speak of which place, and that attention learns it."""

import math
import random

import pytest

torch = pytest.importorskip("torch")

from animatic.engine.training import captions  # noqa: E402
from animatic.engine.training.architecture import SIZES, build_text_encoder, build_unet  # noqa: E402
from animatic.engine.training.diffusion import encode_text  # noqa: E402
from animatic.engine.training.grounding import STRIDE, Grounding, look, regions  # noqa: E402
from animatic.engine.training.guides import render  # noqa: E402
from animatic.engine.training.scenes import make_blockouts  # noqa: E402
from animatic.engine.training.vocabulary import build_tokenizer  # noqa: E402

TWO = "a red box and two blue spheres on snow at noon"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(SIZES["tiny"].vocabulary, SIZES["tiny"].text_length)


def halves():
    """A red box to the left, blue spheres to the right: [1, 16, 16]."""
    made = torch.zeros(1, 16, 16, dtype=torch.uint8)
    made[:, :, :8], made[:, :, 8:] = look("red", "box"), look("blue", "sphere")
    return made


def test_a_caption_names_what_is_in_its_scene():
    rng = random.Random(5)
    for _ in range(300):
        words = captions.random_words(rng)
        text = captions.caption(words, rng)
        named = {(colour, shape) for colour, shape, _, _ in captions.mentions(text)}
        loose = set(words.things[words.walls :])
        # Of two colours that share the noun of a place's walls only the last is found.
        walls = {(colour, "box") for colour, _ in words.things[: words.walls]}
        assert loose <= named <= loose | walls, text
        assert not walls or named & walls, text


def test_regions_show_each_object_where_it_stands():
    blockouts = make_blockouts(11, 4, torch.zeros(1))
    rendered = render(blockouts.scene, 64)
    made = regions(rendered.ident, [words.things for words in blockouts.words])
    assert made.shape == (4, 1, 64 // STRIDE, 64 // STRIDE)
    for clip, words in enumerate(blockouts.words):
        assert set(made[clip].unique().tolist()) - {0} <= {look(*thing) for thing in words.things}
        seen = rendered.ident[clip, 0, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        assert torch.equal(made[clip, 0] > 0, seen > 0)


def test_loss_is_small_where_each_place_attends_to_its_own_words(tokenizer):
    ground = Grounding(build_unet(SIZES["tiny"]), tokenizer)
    spoken = tokenizer.convert_ids_to_tokens(tokenizer(TWO).input_ids)
    box, spheres = (
        next(i for i, t in enumerate(spoken) if t.startswith(w)) for w in ("box", "sph")
    )
    losses = {}
    for name, (left, right) in {"right": (box, spheres), "swapped": (spheres, box)}.items():
        shares = torch.full((1, 8, 8, tokenizer.model_max_length), 0.001)
        shares[:, :, :4, left], shares[:, :, 4:, right] = 0.5, 0.5
        with ground.watching():
            ground._seen.append(shares.flatten(1, 2))
            losses[name] = ground.loss([TWO], halves()).item()
    assert losses["right"] < 0.02
    assert losses["swapped"] > 3
    # One thing has no rival, and an empty caption names nothing.
    with ground.watching():
        ground._seen.append(shares.flatten(1, 2))
        assert ground.loss(["a red box on snow"], halves()) == 0
        assert ground.loss([""], halves()) == 0


def test_attention_learns_its_places_and_watching_changes_nothing(tokenizer):
    torch.manual_seed(0)
    unet, text_encoder = build_unet(SIZES["tiny"]), build_text_encoder(SIZES["tiny"], tokenizer)
    ground = Grounding(unet, tokenizer)
    noisy, time = torch.randn(1, 4, 8, 8), torch.tensor([500])

    def forward():
        return unet(noisy, time, encode_text(text_encoder, tokenizer, [TWO])).sample

    plain = forward()
    with ground.watching():
        assert torch.equal(forward(), plain)
        first = ground.loss([TWO], halves()).item()
    assert first == pytest.approx(math.log(2), abs=0.1)
    optimizer = torch.optim.Adam([*unet.parameters(), *text_encoder.parameters()], 2e-3)
    for _ in range(30):
        with ground.watching():
            forward()
            loss = ground.loss([TWO], halves())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * first
