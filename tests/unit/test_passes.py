"""Noise schedule and upscale pass, as they are asked for; quality levels."""

import pytest
from animatic.blender_addon.link.quality import read_qualities
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.passes import SCHEDULES, Passes


def test_what_is_asked_for_and_nothing_else() -> None:
    assert Passes().sampling() == {}
    asked = Passes("dpm", (2, 0.5))
    asked.check()
    assert asked.sampling() == {"schedule": "dpm", "upscale": {"scale": 2.0, "share": 0.5}}
    for wrong, sentence in (
        (Passes("ddim"), "'ddim' is no schedule"),
        (Passes(upscale=(3, 0.5)), "upscale is 3: set it from 1.25 to 2"),
        (Passes(upscale=(1.5, 1.0)), "share of the steps is 1: set it from 0.1 to 0.9"),
    ):
        with pytest.raises(ShotError, match=sentence):
            wrong.check()


def test_quality_levels_name_schedules_that_there_are() -> None:
    levels = read_qualities()
    assert [level.steps for level in levels.values()] == sorted(q.steps for q in levels.values())
    assert levels["standard"].schedule is None
    assert all(q.schedule in (None, *SCHEDULES) for q in levels.values())
