"""What --keyframes means."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.keyframes import KeyframeSpec, choose_frames, parse_keyframes
from animatic.blender_addon.shot.timing import plan_clip, snap_keyframes
from hypothesis import given
from hypothesis import strategies as st

TIMING = plan_clip(1, 48, Fraction(24000, 1001), 16, Fraction(8))


@pytest.mark.parametrize("kind", ["camera", "objects", "markers", "all"])
def test_kinds(kind):
    assert parse_keyframes(f" {kind.upper()} ") == KeyframeSpec(kind)


def test_lists_are_sorted_and_each_frame_is_taken_once():
    spec = parse_keyframes("24, 1, 12.5,-3,24.0")
    assert spec.listed == (Fraction(-3), Fraction(1), Fraction(25, 2), Fraction(24))


def test_a_listed_frame_may_have_a_strength():
    spec = parse_keyframes("24@0.5, 1, 12.5@1")
    assert spec.listed == (Fraction(1), Fraction(25, 2), Fraction(24))
    assert spec.strengths == ((Fraction(24), 0.5),)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("sometimes", "'sometimes' is not a frame number"),
        ("1,,3", "''"),
        ("1,b", "'b' in the keyframes '1,b'"),
        ("1/2", "every:N"),
        ("1e3", "1e3"),
        ("", "No keyframes"),
        ("1@", "'1@'"),
        ("1@2.5", "over 2"),
        ("every:0", "from 1 on"),
        ("every:x", "every:8"),
        ("every", "every:8"),
        ("1\u00b2", "not a frame number"),
    ],
)
def test_what_cannot_be_read_is_named(text, word):
    with pytest.raises(ShotError, match=word):
        parse_keyframes(text)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ShotError):
        parse_keyframes(text)


def test_all_holds_every_clip_frame_without_a_shift():
    snapped = snap_keyframes(choose_frames(parse_keyframes("all"), TIMING), TIMING)
    assert [s.clip_frame for s in snapped] == list(range(16))
    assert all(s.kept and s.shift == 0 for s in snapped)


def test_every_counts_from_the_start():
    assert choose_frames(parse_keyframes("every:20"), TIMING) == [1, 21, 41]
    assert choose_frames(parse_keyframes("every:999"), TIMING) == [1]


def test_found_frames_outside_are_passed_over_but_some_must_be_left():
    camera = parse_keyframes("camera")
    found = [Fraction(24), Fraction(0), Fraction(1), Fraction(24), Fraction(49)]
    assert choose_frames(camera, TIMING, found) == [1, 24]
    with pytest.raises(ShotError, match=r"camera has no keys inside .*2 outside.* every:8"):
        choose_frames(camera, TIMING, [Fraction(0), Fraction(60)])
    with pytest.raises(ShotError, match=r"no timeline marker, frames 1 to 48"):
        choose_frames(parse_keyframes("markers"), TIMING)


def test_listed_frames_outside_are_left_for_snapping_to_refuse():
    assert choose_frames(parse_keyframes("1,99"), TIMING) == [1, 99]
