"""The guide's size keeps the film's shape and the model's area."""

from __future__ import annotations

import math

import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.framing import guide_size
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.floats(1, 10_000),
    st.floats(0.26, 3.9),
    st.sampled_from([128, 256, 512, 1024]),
    st.sampled_from([8, 16, 64]),
)
def test_size_is_within_rounding_of_aspect_and_area(height, aspect, native, multiple):
    width, tall = guide_size(height * aspect, height, native, multiple)
    assert width % multiple == 0
    assert tall % multiple == 0
    ideal = native * math.sqrt(aspect), native / math.sqrt(aspect)
    assert abs(width - ideal[0]) < multiple + 1e-6 or width == 64
    assert abs(tall - ideal[1]) < multiple + 1e-6 or tall == 64


@pytest.mark.parametrize(
    ("film", "native", "size"),
    [
        ((1920, 1080), 128, (168, 96)),
        ((1080, 1920), 128, (96, 168)),
        ((1920, 1080), 512, (680, 384)),
        ((100, 100), 128, (128, 128)),
        ((2048, 858), 512, (784, 328)),
        # Six to one: the short side stops at 64 and the area grows.
        ((600, 100), 128, (384, 64)),
    ],
)
def test_known_films(film, native, size):
    assert guide_size(*film, native) == size


def test_impossible_films_are_refused():
    with pytest.raises(ShotError, match="border"):
        guide_size(0, 100, 128)
    with pytest.raises(ShotError, match="2048"):
        guide_size(10_000, 100, 128)
