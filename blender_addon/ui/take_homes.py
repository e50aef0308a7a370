"""To which shot of the open file a take belongs, also where that has another name now. No bpy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..shot.takes import TakeOnDisk

if TYPE_CHECKING:
    from ..scene.shots import Shot

_NOWHERE = -1


@dataclass(frozen=True)
class Home:
    """The shot of a take: its ``scene`` and its ``number`` there, from 0.

    Two shots of a scene may have one name. A shot that is no longer there has the number -1.
    """

    scene: str
    shot: str
    number: int


def find_homes(
    takes: Iterable[TakeOnDisk],
    shots: Mapping[str, Sequence[Shot]],
    edited: Mapping[str, Collection[Path]],
    own: Collection[Path],
) -> dict[Path, Home]:
    """Return the home of each of ``takes`` by its folder.

    ``shots`` are those of all scenes by the scene's name, ``edited`` the folders of the takes with
    a strip in the edit of a scene, by its name; ``own`` are the folders of takes that can be of no
    other file. A take of this file, by its folder or by its strip in the edit, goes on with a shot
    that was renamed: the same camera films the same frames. All others go by their names alone,
    since another file's camera may film these frames, too.
    """
    return {take.folder: _home(take, shots, edited, own) for take in takes}


def _home(
    take: TakeOnDisk,
    shots: Mapping[str, Sequence[Shot]],
    edited: Mapping[str, Collection[Path]],
    own: Collection[Path],
) -> Home:
    certain = take.folder in own
    editors = [scene for scene, folders in edited.items() if take.folder in folders]
    scene = _scene_of(take, shots, editors, certain)
    listed = shots.get(scene, ())
    number = _shot_of(take, listed, certain or scene in editors)
    if number is None:
        return Home(take.scene, take.shot, _NOWHERE)
    return Home(scene, listed[number].name, number)


def _scene_of(
    take: TakeOnDisk, shots: Mapping[str, Sequence[Shot]], editors: Sequence[str], certain: bool
) -> str:
    """The scene of its name, unless that is another one now: none of its shots is the take's."""
    if any(shot.name == take.shot or _films(take, shot) for shot in shots.get(take.scene, ())):
        return take.scene
    if len(editors) == 1:  # the edit knows its scene by more than the name
        return editors[0]
    films = [scene for scene, listed in shots.items() if any(_films(take, s) for s in listed)]
    return films[0] if certain and len(films) == 1 else take.scene


def _shot_of(take: TakeOnDisk, shots: Sequence[Shot], certain: bool) -> int | None:
    """The shot with the most in common of name, camera and frames; the name breaks a tie."""
    best: tuple[int, bool, int] = (0, False, 0)
    found = None
    for number, shot in enumerate(shots):
        named, frames = shot.name == take.shot, _common(take, shot)
        if named or (certain and _covers(take, shot)):
            marks = named + _covers(take, shot) + _same_camera(take, shot)
            if (marks, named, frames) > best:
                best, found = (marks, named, frames), number
    return found


def _films(take: TakeOnDisk, shot: Shot) -> bool:
    return _same_camera(take, shot) and _covers(take, shot)


def _same_camera(take: TakeOnDisk, shot: Shot) -> bool:
    return bool(take.request["shot"].get("camera") == shot.camera)


def _covers(take: TakeOnDisk, shot: Shot) -> bool:
    """Whether most of the take's frames are the shot's, which is true of one shot of a scene."""
    span = _span(take)
    return span is not None and 2 * _common(take, shot) > span[1] - span[0] + 1


def _common(take: TakeOnDisk, shot: Shot) -> int:
    """How many scene frames the two have in common."""
    span = _span(take)
    return max(0, min(span[1], shot.end) - max(span[0], shot.start) + 1) if span else 0


def _span(take: TakeOnDisk) -> tuple[int, int] | None:
    """The scene frames of a take; None where its request, which may be damaged, has none."""
    start, end = (take.request["shot"].get(name) for name in ("start", "end"))
    return (start, end) if isinstance(start, int) and isinstance(end, int) else None
