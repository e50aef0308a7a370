"""How long a job will go on, as the panel says it."""

from __future__ import annotations

from animatic.blender_addon.ui.time_left import TimeLeft


def test_nothing_is_said_before_the_second_step():
    left = TimeLeft()
    for done in (0, 1):
        left.step(0, 1, done, 20, now=10.0 + done)
        assert left.text(now=12.0) == ""
    left.step(0, 1, 2, 20, now=12.0)
    assert left.text(now=12.0) == "about 20 s left"
    assert left.text(now=29.0) == "a moment left"


def test_later_takes_count_with_what_the_first_one_took():
    left = TimeLeft()
    for done in range(1, 21):
        left.step(0, 3, done, 20, now=float(done))
    assert left.text(now=20.0) == "about 40 s left"  # two more of 20 steps
    for done in (1, 2):  # 25 s for the first, its frames included
        left.step(1, 3, done, 20, now=25.0 + done)
    assert left.text(now=27.0) == "about 45 s left"  # 18 s of this one and 25 of the next
