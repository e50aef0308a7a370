"""Noise schedule and upscale pass, as they are asked for; quality levels."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from animatic.blender_addon.link.catalogue import Checkpoint, FewSteps
from animatic.blender_addon.link.quality import Level, level_for, needs_guidance, read_qualities
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.passes import SCHEDULES, Passes


def test_what_is_asked_for_and_nothing_else() -> None:
    assert Passes().sampling() == {}
    asked = Passes("dpm", (2, 0.5))
    asked.check()
    assert asked.sampling() == {"schedule": "dpm", "upscale": {"scale": 2.0, "share": 0.5}}
    for wrong, sentence in (
        (Passes("plms"), "'plms' is no schedule"),
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


def test_weights_for_few_steps_are_used_where_the_card_says_so_and_nothing_needs_guidance() -> None:
    draft = read_qualities()["draft"]
    plain = Checkpoint(Path(), "m", 128, 16, Fraction(8), ("depth",), 20, 3.0, 1.5)
    quick = replace(plain, few_steps=FewSteps("few-steps", {"draft": 4}))
    assert level_for(draft, plain) == Level(8, 3.0, "dpm")
    assert level_for(draft, quick) == Level(4, 1.0, "lcm", (("few-steps", 1.0),))
    assert level_for(draft, quick, steps=6).steps == 6
    assert level_for(draft, quick, guided=needs_guidance("fog", 1.0)) == Level(8, 3.0, "dpm")
    assert level_for(draft, quick, guided=needs_guidance("", 1.5)) == Level(8, 3.0, "dpm")
    assert level_for(draft, quick, guided=needs_guidance("", 1.0, guess=True)).guidance == 3.0
    assert needs_guidance("", 1.0, reference=True)
    assert not needs_guidance(" ", 1.0)
    assert level_for(draft, quick, guidance=2.0) == Level(8, 2.0, "dpm")
    assert level_for(draft, quick, schedule="lcm") == Level(8, 3.0, "lcm")
    assert level_for(draft, quick, guidance_end=0.5) == Level(8, 3.0, "dpm", guidance_end=0.5)
    standard = read_qualities()["standard"]
    assert level_for(standard, quick) == Level(20, 3.0, None)
    better = replace(quick, few_steps=FewSteps("few-steps", {"draft": 4, "standard": 8}))
    assert level_for(standard, better) == Level(8, 1.0, "lcm", (("few-steps", 1.0),))
    assert level_for(standard, better, guided=True) == Level(20, 3.0, None)
    assert level_for(read_qualities()["final"], better) == Level(40, 3.0, None)
    named = replace(better, schedule="lcm")
    assert level_for(draft, named, guided=True) == Level(8, 3.0, "lcm")
    assert level_for(standard, named, guidance=2.0) == Level(20, 2.0, "lcm")
    assert level_for(standard, named, schedule="dpm") == Level(20, 3.0, "dpm")
    settled = replace(quick, guidance_end=0.4)
    assert level_for(standard, settled).guidance_end == 0.4
    assert level_for(standard, settled, guidance_end=0.7).guidance_end == 0.7
    assert level_for(draft, settled).guidance_end == 1.0
    assert level_for(draft, settled, guidance=1.0).guidance_end == 1.0
