"""Plans runs from what is open: each with its saved copy, and where its strips belong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import bpy

from ..errors import AnimaticError
from ..link.generate import GenerateSettings, Generation, Host
from ..link.replay import Replay
from ..link.scene_video import TakeMovie, WithMovies
from ..scene.simulations import lend_caches
from ..scene.strip import scene_video
from ..shot.held_frames import per_scene_frame
from ..shot.in_use import ScratchFolder
from ..shot.take_folder import load_take
from ..shot.takes import TakeOnDisk
from . import take_index
from .asked import Target, current_target, generate_settings, guides_settings, output_folder
from .job import Runs
from .kept_queue import Entry, KeptQueue
from .pending import open_file, queues_folder
from .preferences import host, path_of
from .settings_json import from_json, to_json


@dataclass(frozen=True)
class Run:
    """A run that waits for its turn.

    ``title`` is the shot's name; ``guides_only`` makes no take; ``release`` lets go of the saved
    copy; ``scene_uid`` and ``scene_name`` say to which scene the strips belong; ``entry`` is its
    place in the ``queue`` that is kept on disk, where it has one; ``movie_of`` is the take that it
    only writes the video of.
    """

    title: str
    work: Runs
    release: Callable[[], None]
    scene_uid: int
    scene_name: str
    guides_only: bool = False
    queue: KeptQueue | None = None
    entry: Entry | None = None
    movie_of: TakeOnDisk | None = None

    @property
    def makes_takes(self) -> bool:
        """Whether takes come of it."""
        return not self.guides_only and self.movie_of is None


class SavedCopy:
    """The open file as it is now, in a temporary folder, until the last run has released it."""

    def __init__(self, users: int) -> None:
        self._folder = ScratchFolder()
        self._users = users
        self.path = Path(self._folder.name) / "shot.blend"

    def save(self) -> None:
        """Write it. Raises AnimaticError."""
        _save_copy(self.path)

    def release(self) -> None:
        """One run less needs it."""
        self._users -= 1
        if self._users <= 0:
            self._folder.cleanup()

    def discard(self) -> None:
        """Nobody needs it."""
        self._folder.cleanup()


@contextmanager
def _no_thumbnail() -> Iterator[None]:
    """Blender draws the whole scene for a file's thumbnail: seconds that nobody needs here."""
    chosen = bpy.context.preferences
    was, dirty = chosen.filepaths.file_preview_type, chosen.is_dirty
    chosen.filepaths.file_preview_type = "NONE"
    try:
        yield
    finally:
        chosen.filepaths.file_preview_type, chosen.is_dirty = was, dirty


def _save_copy(path: Path) -> None:
    """Write the open file; Blender keeps its name, and whether it was changed.

    What is baked to disk for the file is found from the copy, too.
    """
    try:
        with _no_thumbnail():
            bpy.ops.wm.save_as_mainfile(
                "EXEC_DEFAULT",
                filepath=str(path),
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
    try:
        lend_caches(path)
    except OSError as error:
        raise AnimaticError(
            f"What is baked to disk could not be put beside a copy of the file ({error.strerror}): "
            "free some disk space and try again."
        ) from error


def plan_takes(context: bpy.types.Context, targets: list[Target]) -> list[Run]:
    """Runs that make the takes of ``targets``. Raises AnimaticError with a sentence."""
    tools = host(context)
    copy = SavedCopy(len(targets))
    try:
        settings = generate_settings(context, targets, copy.path)
        copy.save()
    except AnimaticError:
        copy.discard()
        raise
    return [
        _run(context.scene, target.shot.name, _wanted(Generation(asked, tools)), copy.release)
        for target, asked in zip(targets, settings, strict=True)
    ]


def plan_queue(context: bpy.types.Context, targets: list[Target]) -> list[Run]:
    """Runs as of ``plan_takes`` that another Blender can finish: a restart does not lose them.

    Raises AnimaticError with a sentence.
    """
    tools = host(context)
    queue = KeptQueue.create(queues_folder(), open_file(), context.scene.name)
    try:
        settings = generate_settings(context, targets, queue.copy)
        _save_copy(queue.copy)
    except AnimaticError:
        queue.discard()
        raise
    queue.entries = [
        Entry(target.shot.name, to_json(asked))
        for target, asked in zip(targets, settings, strict=True)
    ]
    queue.write()
    return _queued_runs(queue, settings, tools)


def plan_resumed(context: bpy.types.Context, queue: KeptQueue) -> list[Run]:
    """Runs of what is left of ``queue``, from the scene as it was. Raises AnimaticError."""
    tools = host(context)
    try:
        queue.hold()
        out = output_folder(context)
        settings = [
            replace(from_json(GenerateSettings, entry.settings), blend=queue.copy, out=out)
            for entry in queue.left
        ]
    except (ValueError, TypeError) as error:
        queue.close()
        raise AnimaticError(
            "These shots wait since another version of Animatic: press Discard, then "
            "Generate All Shots."
        ) from error
    except AnimaticError:
        queue.close()
        raise
    return _queued_runs(queue, settings, tools)


def _queued_runs(queue: KeptQueue, settings: list[GenerateSettings], tools: Host) -> list[Run]:
    scene = bpy.data.scenes.get(queue.scene)
    return [
        Run(
            title=entry.title,
            work=_wanted(Generation(asked, tools)),
            release=lambda: None,  # the copy goes with the queue
            scene_uid=scene.session_uid if scene is not None else 0,
            scene_name=queue.scene,
            queue=queue,
            entry=entry,
        )
        for entry, asked in zip(queue.left, settings, strict=True)
    ]


def plan_guides(context: bpy.types.Context) -> list[Run]:
    """A run that makes the guides of the shot on screen, and no take."""
    target, tools = current_target(context.scene), host(context)
    copy = SavedCopy(1)
    try:
        settings = guides_settings(context, target, copy.path)
        copy.save()
    except AnimaticError:
        copy.discard()
        raise
    work = Generation(settings, tools)
    return [_run(context.scene, target.shot.name, work, copy.release, guides_only=True)]


def plan_redo(context: bpy.types.Context, take: TakeOnDisk, seed: int | None) -> list[Run]:
    """A run that makes ``take`` again, with another ``seed`` if not None."""
    file = take.folder / "take.json"
    load_take(file)  # whether it is whole
    work = Replay(file, output_folder(context), _host_with_model(context), seed=seed)
    scene, title = take_index.scene_of(take, context), take_index.shot_name(take)
    return [_run(scene, title, _wanted(work), lambda: None)]


def plan_movie(context: bpy.types.Context, take: TakeOnDisk) -> list[Run]:
    """A run that writes the video of ``take`` for its strip; none where it is there already.

    Raises AnimaticError.
    """
    shot = take.request["shot"]
    if scene_video(per_scene_frame(take.frames(), shot), shot) is not None:
        return []
    work = TakeMovie(take.folder, shot, host(context))
    scene = take_index.scene_of(take, context)
    return [Run(shot["name"], work, lambda: None, scene.session_uid, scene.name, movie_of=take)]


def _host_with_model(context: bpy.types.Context) -> Host:
    """The host, knowing also the model whose folder the artist has typed."""
    tools, typed = host(context), path_of(context.scene.animatic.model) or Path()
    return replace(tools, models=(*tools.models, typed.parent)) if typed.is_dir() else tools


def _wanted(work: Runs) -> Runs:
    """``work``, and videos for movie strips where the panel asks for these."""
    return WithMovies(work) if bpy.context.scene.animatic.strip_kind == "movie" else work


def _run(
    scene: bpy.types.Scene,
    title: str,
    work: Runs,
    release: Callable[[], None],
    guides_only: bool = False,
) -> Run:
    return Run(title, work, release, scene.session_uid, scene.name, guides_only)
