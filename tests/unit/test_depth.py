"""Depth codes keep disparity to half a code, and ranges hold for the whole shot."""

from __future__ import annotations

import numpy as np
import pytest
from animatic.blender_addon.shot.depth import (
    DepthError,
    decode_depth,
    depth_range,
    encode_depth,
)
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.floats(1e-2, 1e3),
    st.floats(1.001, 1e4),
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
)
def test_a_round_trip_is_within_half_a_code(near, ratio, places):
    far = near * ratio
    z = np.clip(near + np.array([places]) * (far - near), near, far)
    codes = encode_depth(z, near, far)
    assert codes.dtype == np.uint16
    assert codes.min() >= 1
    back = decode_depth(codes, near, far).astype(np.float64)
    d, again = ((1 / x - 1 / far) / (1 / near - 1 / far) for x in (z, back))
    # Half a code, and what float32 cannot hold of the decoded z.
    slack = 2**-23 / back / (1 / near - 1 / far)
    assert np.all(np.abs(d - again) <= 0.5 / 65534 + slack)


def test_codes_of_near_far_beyond_and_nothing():
    z = np.array([[2.0, 8.0, 1.0, 9.0, 1e10, np.inf, 0.0, np.nan, -1.0]], np.float32)
    codes = encode_depth(z, 2.0, 8.0)
    assert codes.tolist() == [[65535, 1, 65535, 1, 0, 0, 0, 0, 0]]
    assert decode_depth(codes, 2.0, 8.0).tolist() == [[2, 8, 2, 8, *[np.inf] * 5]]


def test_the_range_is_of_all_frames_and_of_geometry_only():
    frames = [np.array([[3.0, 1e10]], np.float32), np.array([[np.inf, 7.5]], np.float32)]
    assert depth_range(iter(frames)) == (3.0, 7.5)


def test_nothing_and_flat_are_sentences():
    with pytest.raises(DepthError, match="nothing in view"):
        depth_range([np.full((2, 2), 1e10, np.float32)])
    with pytest.raises(DepthError, match="flat: everything in view is 4 units"):
        depth_range([np.full((2, 2), 4.0, np.float32)])
