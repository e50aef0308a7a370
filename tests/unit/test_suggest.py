"""Which clip frames a camera's movement suggests."""

from __future__ import annotations

import numpy as np
import pytest
from animatic.blender_addon.shot.suggest import suggest_frames


def _path(values):
    return np.asarray(values, float)[:, None]


def test_an_even_or_still_camera_is_held_at_even_steps():
    for path in (np.linspace(0, 1, 16), np.zeros(16)):
        assert suggest_frames(_path(path)) == [0, 4, 8, 11, 15]


def test_the_turning_point_is_held():
    there_and_back = np.concatenate([np.linspace(0, 1, 7), np.linspace(1, 0, 10)[1:]])
    assert 6 in suggest_frames(_path(there_and_back))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 16, 32])
def test_the_ends_are_held_and_gaps_are_neither_long_nor_nothing(count):
    wild = np.random.default_rng(0).normal(size=(count, 3))
    frames = suggest_frames(wild)
    assert frames[0] == 0
    assert frames[-1] == count - 1
    gaps = np.diff(frames)
    assert (gaps <= max(3, count / 4 + 1)).all()
    assert (gaps >= min(2, count - 1)).all()
