"""Plans runs from what is open: each with its saved copy, and where its strips belong."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import bpy

from ..errors import AnimaticError
from ..link.generate import Generation, Host
from ..link.replay import Replay
from ..shot.take_folder import load_take
from .asked import Target, current_target, generate_settings, guides_settings, output_folder
from .job import Runs
from .preferences import host


@dataclass(frozen=True)
class Run:
    """A run that waits for its turn.

    ``title`` is the shot's name; ``guides_only`` makes no take; ``release`` lets go of the saved
    copy; ``scene_uid`` and ``scene_name`` say to which scene the strips belong.
    """

    title: str
    work: Runs
    release: Callable[[], None]
    scene_uid: int
    scene_name: str
    guides_only: bool = False


class SavedCopy:
    """The open file as it is now, in a temporary folder, until the last run has released it."""

    def __init__(self, users: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="animatic-")
        self._users = users
        self.path = Path(self._folder.name) / "shot.blend"

    def save(self) -> None:
        """Write it; Blender keeps the name of the open file, and whether it was changed."""
        try:
            bpy.ops.wm.save_as_mainfile(
                "EXEC_DEFAULT",
                filepath=str(self.path),
                check_existing=False,
                copy=True,
                relative_remap=True,
                compress=False,
            )
        except RuntimeError as error:
            raise AnimaticError(
                f"Blender could not save a copy of the file to work from: {error} "
                "Free some disk space, or remove what the message names, and try again."
            ) from error

    def release(self) -> None:
        """One run less needs it."""
        self._users -= 1
        if self._users <= 0:
            self._folder.cleanup()

    def discard(self) -> None:
        """Nobody needs it."""
        self._folder.cleanup()


def plan_takes(context: bpy.types.Context, targets: list[Target]) -> list[Run]:
    """Runs that make the takes of ``targets``. Raises AnimaticError with a sentence."""
    copy = SavedCopy(len(targets))
    try:
        settings = generate_settings(context, targets, copy.path)
        copy.save()
    except AnimaticError:
        copy.discard()
        raise
    return [
        _run(context.scene, target.shot.name, Generation(asked, host(context)), copy.release)
        for target, asked in zip(targets, settings, strict=True)
    ]


def plan_guides(context: bpy.types.Context) -> list[Run]:
    """A run that makes the guides of the shot on screen, and no take."""
    target = current_target(context.scene)
    copy = SavedCopy(1)
    try:
        settings = guides_settings(context, target, copy.path)
        copy.save()
    except AnimaticError:
        copy.discard()
        raise
    work = Generation(settings, host(context))
    return [_run(context.scene, target.shot.name, work, copy.release, guides_only=True)]


def plan_redo(context: bpy.types.Context, take: Path, seed: int | None) -> list[Run]:
    """A run that makes the take in the folder ``take`` again, with another ``seed`` if not None."""
    file = take / "take.json"
    _, request, _ = load_take(file)
    shot = request["shot"]
    work = Replay(file, output_folder(context, []), _host_with_model(context), seed=seed)
    scene = bpy.data.scenes.get(shot["scene"], context.scene)
    return [_run(scene, shot["name"], work, lambda: None)]


def _host_with_model(context: bpy.types.Context) -> Host:
    """The host, knowing also the model whose folder the artist has typed."""
    tools, typed = host(context), Path(context.scene.animatic.model).expanduser()
    return replace(tools, models=(*tools.models, typed.parent)) if typed.is_dir() else tools


def _run(
    scene: bpy.types.Scene,
    title: str,
    work: Runs,
    release: Callable[[], None],
    guides_only: bool = False,
) -> Run:
    return Run(title, work, release, scene.session_uid, scene.name, guides_only)
