"""The queue that an earlier Blender has left unfinished, for the panel to offer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import bpy

from ..errors import AnimaticError
from ..link.install_places import data_folder
from . import shot_states
from .kept_queue import FAILED, KeptQueue, find_kept, sweep
from .preferences import ADDON
from .shot_states import ShotState

_offered: KeptQueue | None = None


def queues_folder() -> Path:
    """Where queues are kept: not beside the .blend, where a project's files are.

    Nor in the extension's own folder, which goes when the extension is removed.
    """
    return data_folder() / "queues"


def _earlier_folder() -> Path:
    """Where they were kept before."""
    return Path(bpy.utils.extension_path_user(ADDON, path="queues"))


def open_file() -> str:
    """The open file as a queue knows it; "" where it was never saved."""
    return str(Path(bpy.data.filepath).resolve()) if bpy.data.filepath else ""


def offered() -> KeptQueue | None:
    """What the panel offers to go on with."""
    return _offered


def look() -> None:
    """Find the unfinished queue of the open file. For file events, not for drawing."""
    global _offered
    shot_states.settle(ShotState.QUEUED)
    name = open_file()
    places = (queues_folder(), _earlier_folder()) if name else ()
    _offered = next((kept for each in places if (kept := find_kept(each, name))), None)
    if _offered is None:
        return
    for entry in _offered.left:
        state = ShotState.FAILED if entry.state == FAILED else ShotState.QUEUED
        shot_states.tell(_offered.scene, entry.title, state)


def discard() -> None:
    """Give up what is left."""
    if _offered is not None:
        with suppress(AnimaticError):  # another Blender is at work on it, or has finished it
            _offered.discard()
    shot_states.settle(ShotState.FAILED)
    look()


def first_look() -> None:
    """When the extension is enabled: clear what nobody can come back to, and look."""
    sweep(queues_folder())
    look()


def forget() -> None:
    """Offer nothing more."""
    global _offered
    _offered = None
