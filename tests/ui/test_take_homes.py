"""To which shot a take belongs: by its names, and by camera and frames where these have changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from animatic.blender_addon.scene.shots import Shot
from animatic.blender_addon.shot.takes import TakeOnDisk
from animatic.blender_addon.ui.output_folder import is_one_files
from animatic.blender_addon.ui.take_homes import Home, find_homes

WIDE, CLOSE, LAST = (
    Shot("Wide", 1, 12, "A"),
    Shot("Close", 13, 24, "B"),
    Shot("Last", 25, 36, "C"),
)
FOLDER = Path("/film/animatic/shot_001")


def made(shot: Shot, scene: str = "Scene") -> TakeOnDisk:
    """A take of a shot, as it was when the take was made."""
    asked = {"name": shot.name, "scene": scene, **vars(shot)}
    return TakeOnDisk(FOLDER, "001", 7, scene, shot.name, {"shot": asked})


def home(take: TakeOnDisk, scenes: dict, edited: str = "", own: bool = True) -> tuple:
    """Where it is listed."""
    strips = {edited: {FOLDER}} if edited else {}
    found = find_homes([take], scenes, strips, {FOLDER} if own else ())
    return (found[FOLDER].scene, found[FOLDER].number)


@pytest.mark.parametrize(
    ("shots", "number"),
    [
        ([WIDE, CLOSE, LAST], 1),
        # renamed, with its camera too, and cut shorter meanwhile
        ([WIDE, Shot("Street", 13, 24, "B"), LAST], 1),
        ([WIDE, Shot("Street", 13, 24, "Street Camera"), LAST], 1),
        ([WIDE, Shot("Street", 13, 20, "B"), Shot("Last", 21, 36, "C")], 1),
        # moved in time: the name says it, and what lies on its frames now does not
        ([WIDE, Shot("New", 13, 24, "B"), Shot("Close", 25, 36, "B"), LAST], 2),
        # numbered anew after one was put in before: its name is another's now
        ([WIDE, Shot("Last", 13, 24, "B"), Shot("Close", 25, 36, "C")], 1),
        # a marker that was duplicated has the name, too
        ([WIDE, CLOSE, Shot("Close", 25, 36, "B")], 1),
        ([Shot("Close", 1, 12, "B"), CLOSE], 1),
        # on no frames of a shot
        ([WIDE, Shot("Last", 25, 36, "B")], -1),
        ([], -1),
    ],
)
def test_a_take_goes_with_its_shot(shots: list[Shot], number: int) -> None:
    assert home(made(CLOSE), {"Scene": shots}) == ("Scene", number)


def test_another_files_takes_go_by_their_names_alone() -> None:
    renamed = {"Scene": [WIDE, Shot("Street", 13, 24, "B")]}
    assert home(made(CLOSE), renamed, own=False) == ("Scene", -1)
    assert home(made(CLOSE), {"City": [WIDE, CLOSE]}, own=False) == ("Scene", -1)
    assert home(made(CLOSE), {"Scene": [CLOSE]}, own=False) == ("Scene", 0)
    # a strip in the scene's own edit makes it this file's, as after Save As
    assert home(made(CLOSE), renamed, "Scene", own=False) == ("Scene", 1)
    assert home(made(CLOSE), {"City": [WIDE, CLOSE]}, "City", own=False) == ("City", 1)


def test_a_scene_that_was_renamed() -> None:
    assert home(made(CLOSE), {"City": [WIDE, CLOSE], "Other": [LAST]}) == ("City", 1)
    # its old name is another scene's now, which has no such shot
    anew = {"Scene": [Shot("Intro", 1, 36, "D")], "City": [WIDE, CLOSE]}
    assert home(made(CLOSE), anew) == ("City", 1)
    assert home(made(CLOSE), anew, "City", own=False) == ("City", 1)
    # moved in time, with a copy of the scene as it was: the name still decides
    moved = {"Scene": [Shot("Close", 41, 52, "B")], "Scene.001": [WIDE, CLOSE]}
    assert home(made(CLOSE), moved) == ("Scene", 0)
    # two scenes film these frames by that camera: neither is claimed, unless its edit shows it
    twice = {"City": [WIDE, CLOSE], "City.001": [WIDE, CLOSE]}
    assert home(made(CLOSE), twice) == ("Scene", -1)
    assert home(made(CLOSE), twice, "City.001") == ("City.001", 1)
    # a strip cut into another scene's edit does not make it that scene's
    assert home(made(CLOSE), {"Scene": [CLOSE], "Film": [CLOSE]}, "Film") == ("Scene", 0)
    # a scene without markers is a shot of its own name
    whole = made(Shot("Scene", 1, 36, "A"))
    assert home(whole, {"City": [Shot("City", 1, 36, "A")]}) == ("City", 0)


def test_a_damaged_request_is_matched_by_its_names() -> None:
    take = TakeOnDisk(FOLDER, "001", 7, "Scene", "Close", {"shot": {"start": "x"}})
    assert find_homes([take], {"Scene": [WIDE, CLOSE]}, {}, {FOLDER}) == {
        FOLDER: Home("Scene", "Close", 1)
    }
    assert home(take, {"Scene": [WIDE]}) == ("Scene", -1)


@pytest.mark.parametrize(
    ("pattern", "own"),
    [
        ("//animatic/{file}", True),
        ("", True),
        ("takes/{file}/{scene}", True),
        ("//animatic/take", False),
        ("//animatic/{scene}", False),
        ("//../takes/{file}", False),
        ("/takes/{file}", False),
        ("~/takes/{file}", False),
    ],
)
def test_only_some_folders_can_be_of_one_file_alone(pattern: str, own: bool) -> None:
    assert is_one_files(pattern) is own
