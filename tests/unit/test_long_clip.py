"""What may be asked for long clips, and what of it goes into a request."""

import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.long_clip import LongClip


def test_nothing_asked_is_nothing_in_the_request() -> None:
    assert LongClip().sampling(16) == {}
    assert LongClip().most_frames(16) == 16


def test_windows_and_a_causal_span_make_longer_clips() -> None:
    windows = LongClip(context=(16, 4, "uniform"), free_noise=True)
    windows.check()
    assert windows.most_frames(16) == LongClip(span=8).most_frames(16) == 128
    assert windows.sampling(16) == {
        "context": {"length": 16, "overlap": 4, "schedule": "uniform"},
        "noise": "free",
    }


def test_a_loop_without_windows_of_its_own_has_the_models() -> None:
    looped = {"context": {"length": 16, "overlap": 4, "schedule": "looped"}}
    assert LongClip(loop=True).sampling(16) == looped
    assert LongClip(loop=True).most_frames(16) == 16


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (LongClip(context=(8, 8, "static")), "8 frames sharing 8"),
        (LongClip(context=(8, 2, "spiral")), "'spiral' is no schedule"),
        (LongClip(loop=True, span=4), "A loop has no first frame"),
        (LongClip(free_noise=True), "set a context"),
        (LongClip(span=33), "The span is 33"),
    ],
)
def test_what_cannot_be_gets_a_sentence(asked: LongClip, sentence: str) -> None:
    with pytest.raises(ShotError, match=sentence):
        asked.check()
