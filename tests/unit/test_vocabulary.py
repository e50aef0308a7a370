"""A remark names the words that a small model has never read, before it makes mush of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from animatic.blender_addon.link.catalogue import find_checkpoint
from animatic.blender_addon.shot.vocabulary import Vocabulary

MAKEFILE = Path(__file__).parents[2] / "Makefile"


@pytest.fixture(scope="module")
def mini() -> Vocabulary:
    known = find_checkpoint("blockout-mini", []).vocabulary
    assert known is not None
    return known


def test_what_the_model_was_taught_needs_no_remark(mini: Vocabulary) -> None:
    lines = MAKEFILE.read_text(encoding="utf-8").splitlines()
    ours = [line.split("=")[1] for line in lines if line.startswith("PROMPT")]
    assert ours
    for prompt in [mini.example, *ours, "", "Four orange houses, at NIGHT; three violet people"]:
        assert mini.remark([prompt]) is None, prompt


def test_a_remark_names_strange_words_once_and_counts_the_rest(mini: Vocabulary) -> None:
    assert '"robot", "forest".' in str(mini.remark(["a red robot in a forest", "a red Robot"]))
    many = str(mini.remark(["cyberpunk neon alley, rain, a detective"]))
    assert '"cyberpunk", "neon", "alley" and 2 more' in many
    assert mini.example in many


def test_a_prompt_without_colours_is_told_apart(mini: Vocabulary) -> None:
    assert "no colour" in str(mini.remark(["boxes on sand"]))
    assert mini.remark(["boxes on sand", "green boxes on sand"]) is None
