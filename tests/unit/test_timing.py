"""Timing: which clip frame is on screen when, at any rate and range."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.timing import (
    ClipTiming,
    plan_clip,
    scene_rate,
    snap_keyframes,
)
from hypothesis import given
from hypothesis import strategies as st

NTSC_FILM = Fraction(24000, 1001)
RATES = [Fraction(24), Fraction(25), NTSC_FILM, Fraction(30000, 1001), Fraction(60), Fraction(6)]


@st.composite
def timings(draw: st.DrawFn) -> ClipTiming:
    start = draw(st.integers(-200, 2000))
    length = draw(st.integers(1, 400))
    model_frames = draw(st.integers(1, 32))
    frames = draw(st.none() | st.integers(1, model_frames))
    model_fps = draw(st.sampled_from([Fraction(8), Fraction(12), Fraction(15, 2)]))
    rate = draw(st.sampled_from(RATES))
    return plan_clip(start, start + length - 1, rate, model_frames, model_fps, frames)


@pytest.mark.parametrize(
    ("fps", "base", "rate"),
    [
        (24, 1.0, Fraction(24)),
        (24, 1.001, NTSC_FILM),
        (30, 1.001, Fraction(30000, 1001)),
        (240, 1.001, Fraction(240000, 1001)),
        (25, 2.0, Fraction(25, 2)),
        (2997, 100.0, Fraction(2997, 100)),
    ],
)
def test_scene_rate_is_exact_also_from_single_precision(fps, base, rate):
    assert scene_rate(fps, base) == rate
    assert scene_rate(fps, float(np.float32(base))) == rate


@given(timings())
def test_a_clip_frame_is_on_screen_for_its_own_stretch_of_time(timing):
    clip_map = timing.frame_map()
    assert len(clip_map) == timing.end - timing.start + 1
    assert clip_map[0] == 0
    for index, k in enumerate(clip_map):
        seconds = index / timing.scene_fps
        assert k / timing.clip_fps <= seconds < (k + 1) / timing.clip_fps
    assert clip_map == sorted(clip_map)
    if timing.clip_fps <= timing.scene_fps:
        assert set(clip_map) == set(range(timing.frames))


@given(timings())
def test_scene_time_is_the_inverse_of_clip_frame_at(timing):
    for k in range(timing.frames):
        time = timing.scene_time(k)
        assert timing.start <= time < timing.end + 1
        if time.denominator == 1 and time <= timing.end:
            assert timing.clip_frame_at(int(time)) == k


@given(timings())
def test_a_note_tells_of_every_clip_unlike_the_shot(timing):
    length = timing.end - timing.start + 1
    spread = timing.clip_fps * length == timing.frames * timing.scene_fps
    if "spread" in timing.note:
        assert spread
        assert "--range" in timing.note
    elif not timing.note:
        # Clip and shot are as long to within one clip frame.
        clip = timing.frames / timing.clip_fps
        assert abs(clip - length / timing.scene_fps) < max(
            1 / timing.clip_fps, 1 / timing.scene_fps
        )


def test_two_seconds_fit_the_clip_at_both_film_rates():
    for rate in (Fraction(24), NTSC_FILM):
        timing = plan_clip(1, 48, rate, 16, Fraction(8))
        assert (timing.frames, timing.clip_fps, timing.note) == (16, Fraction(8), "")
        assert timing.frame_map() == [k for k in range(16) for _ in range(3)]
    # At 23.976 the clip frames lie between scene frames.
    assert timing.scene_time(1) == 1 + Fraction(3000, 1001)


def test_a_long_shot_is_spread_and_a_short_one_is_cut():
    long = plan_clip(101, 196, Fraction(24), 16, Fraction(8))
    assert (long.frames, long.clip_fps) == (16, Fraction(4))
    assert [long.scene_time(k) for k in (0, 1, 15)] == [101, 107, 191]
    assert "96 scene frames (4 s)" in long.note
    assert "--range 101:148" in long.note
    short = plan_clip(1, 10, Fraction(24), 16, Fraction(8))
    assert (short.frames, short.clip_fps) == (4, Fraction(8))
    assert "need 4 of the 16" in short.note
    assert plan_clip(7, 7, Fraction(24), 16, Fraction(8)).frame_map() == [0]
    assert plan_clip(1, 48, Fraction(24), 16, Fraction(8), frames=4).clip_fps == 2


def test_bad_ranges_and_counts_are_sentences():
    with pytest.raises(ShotError, match=r"ends at frame 1, before its start at 9"):
        plan_clip(9, 1, Fraction(24), 16, Fraction(8))
    with pytest.raises(ValueError, match=r"500 frames .* 1 to 16"):
        plan_clip(1, 48, Fraction(24), 16, Fraction(8), frames=500)


@given(timings(), st.data())
def test_keyframes_snap_to_the_nearest_and_one_wins_a_clip_frame(timing, data):
    inside = st.fractions(timing.start, timing.end, max_denominator=100)
    asked = data.draw(st.lists(inside, max_size=12))
    snapped = snap_keyframes(asked, timing)
    times = [timing.scene_time(k) for k in range(timing.frames)]
    assert [s.asked for s in snapped] == asked
    for s in snapped:
        assert s.scene_time == times[s.clip_frame]
        assert abs(s.shift) == min(abs(time - s.asked) for time in times)
        rivals = [other for other in snapped if other.clip_frame == s.clip_frame]
        assert sum(rival.kept for rival in rivals) == 1
        if s.kept:
            assert all((abs(s.shift), s.asked) <= (abs(r.shift), r.asked) for r in rivals)
        assert bool(s.reason) != s.kept


def test_ties_go_to_the_earlier():
    timing = plan_clip(0, 47, Fraction(24), 12, Fraction(6))
    # Clip frames lie 4 apart: 2 is between frames 0 and 1, and 3 and 5 are as near to 4.
    between, early, late = snap_keyframes([Fraction(2), Fraction(3), Fraction(5)], timing)
    assert between.clip_frame == 0
    assert (early.kept, late.kept) == (True, False)
    assert late.reason == (
        "Keyframe 5 is left out: its nearest clip frame, 2 (at scene frame 4), already holds "
        "keyframe 3."
    )


def test_keyframes_outside_are_named():
    timing = plan_clip(1, 48, Fraction(24), 16, Fraction(8))
    with pytest.raises(ValueError, match=r"1 to 48: 0\.5, 99\."):
        snap_keyframes([Fraction(12), Fraction(99), Fraction(1, 2)], timing)
