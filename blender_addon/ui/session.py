"""The one job of this Blender: started, pumped and concluded on the main thread.

Everything here is plain Python outside Blender's data, so that undo and File > Open leave a running
job alone. The timer runs only while there is a job.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..errors import AnimaticError
from ..link.generate import GenerateSettings, Generation
from ..scene.shots import find_shots
from ..scene.strip import place_takes
from .job import Job, State, Status
from .output_folder import next_folder
from .preferences import ADDON, host, preferences

TICK_S = 0.1
# Cancelling takes one sampling step and the engine's orderly end; Blender waits no longer.
LEAVE_S = 20.0
_MOST_REASONS = 2  # a panel is no place for one sentence for each of 48 frames


@dataclass(frozen=True)
class Home:
    """Where the strip belongs: the file that was open, and a scene in it."""

    file_number: int
    scene_uid: int
    scene_name: str


@dataclass
class Session:
    """``file_number`` counts the files opened; a job made for an earlier one places no strip."""

    status: Status
    job: Job | None = None
    home: Home | None = None
    file_number: int = 0


_session = Session(Status())


def status() -> Status:
    """What the panel shows."""
    return _session.status


def busy() -> bool:
    """Whether there is a job that is not concluded yet."""
    return _session.job is not None


def start(context: bpy.types.Context) -> None:
    """Save a copy and generate from it in a thread. Raises AnimaticError with a sentence."""
    _prepare(context).start()
    if not bpy.app.timers.is_registered(_tick):
        # persistent: File > Open ends other timers; the interval lets the operator return first
        bpy.app.timers.register(_tick, first_interval=TICK_S, persistent=True)
    _redraw()


def run(context: bpy.types.Context) -> None:
    """Generate and return when it is done: for scripts. Raises AnimaticError with a sentence."""
    job = _prepare(context)
    job.run_here()
    _conclude(job)
    if _session.status.state is not State.DONE:
        raise AnimaticError(_session.status.message)


def cancel() -> None:
    """Ask the job to stop; the panel goes on until it has."""
    if _session.job is not None:
        _session.job.cancel()
        _redraw()


def fail(message: str) -> None:
    """Show a sentence where the artist looks: in the panel, unless a job is shown there."""
    if busy():
        return
    _session.status = Status(State.FAILED, message=message)
    _redraw()


def register() -> None:
    """Begin with nothing to show."""
    _session.status = Status()
    bpy.app.handlers.load_post.append(_on_load)


def unregister() -> None:
    """Cancel a running job, wait for its thread and its processes, and take back the timer."""
    if _session.job is not None:
        _session.job.cancel()
        if not _session.job.wait(LEAVE_S):
            print(f"Animatic: the job did not stop within {LEAVE_S:g} s; it ends with Blender.")
        _session.job = None
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    bpy.app.handlers.load_post.remove(_on_load)


@persistent
def _on_load(*_arguments: object) -> None:
    _session.file_number += 1
    if not busy():
        _session.status = Status()  # the last result belongs to the last file


def _prepare(context: bpy.types.Context) -> Job:
    if busy():
        raise AnimaticError("Animatic is at work already: wait for it or cancel it.")
    scene = context.scene
    scratch = tempfile.TemporaryDirectory(prefix="animatic-")
    try:
        settings = _settings(context, Path(scratch.name) / "shot.blend")
        _save_copy(settings.blend)
    except AnimaticError:
        scratch.cleanup()
        raise
    job = Job(Generation(settings, host(context)), scratch)
    _session.job, _session.status = job, job.status
    _session.home = Home(_session.file_number, scene.session_uid, scene.name)
    return job


def _settings(context: bpy.types.Context, copy: Path) -> GenerateSettings:
    scene = context.scene
    asked = scene.animatic
    if not asked.prompt.strip():
        raise AnimaticError("The prompt is empty: say what the picture shows.")
    shots = find_shots(scene)
    if not shots:
        raise AnimaticError(
            "The scene has no camera: add one and make it the active camera (Ctrl Numpad 0)."
        )
    # With camera markers the scene has several shots; the artist means the one on screen.
    number = next(
        (i for i, shot in enumerate(shots) if shot.start <= scene.frame_current <= shot.end), 0
    )
    names = [shot.name for shot in shots]
    unique = names.count(names[number]) == 1
    return GenerateSettings(
        blend=copy,
        out=_output_folder(context),
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        guide=asked.guide,
        keyframes=asked.keyframes_text(),
        model=asked.model,
        seed=asked.seed,
        takes=asked.takes,
        scene=scene.name,
        shot=names[number] if unique else str(number + 1),
        write_blend=False,  # the strip goes into the file that is open
    )


def _output_folder(context: bpy.types.Context) -> Path:
    saved = bpy.data.filepath
    # An unsaved file has no folder. A temporary one would lose the takes with the session.
    base = (
        Path(saved).parent
        if saved
        else Path(bpy.utils.extension_path_user(ADDON, path="takes", create=True))
    )
    return next_folder(
        preferences(context).output,
        base,
        file=Path(saved).stem if saved else "untitled",
        scene=context.scene.name,
    )


def _save_copy(target: Path) -> None:
    try:
        bpy.ops.wm.save_as_mainfile(
            "EXEC_DEFAULT",
            filepath=str(target),
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


def _tick() -> float | None:
    """Move what the thread has told into the status; end the timer with the job."""
    job = _session.job
    if job is None:
        return None
    if job.pump():
        _redraw()
    if job.status.state.busy or bpy.app.is_job_running("RENDER"):
        return TICK_S  # a scene that is added while Blender renders can crash it
    _conclude(job)
    _redraw()
    return None


def _conclude(job: Job) -> None:
    """Place the strip of a job that is over, where its scene is still open."""
    _session.job = None
    outcome, shown = job.outcome, job.status
    if outcome is None or outcome.shot is None:
        return
    shown.notes += _remarks(outcome.shot)
    scene = _home_scene()
    if scene is None:
        shown.notes.append(
            "The scene it was made for is no longer open: no strip was added, the take is kept."
        )
        return
    try:
        edit, _ = place_takes(scene, outcome.shot["shot"], outcome.frames())
    except AnimaticError as error:
        shown.notes.append(f"No strip was added: {error}")
        return
    subject = "The strip is" if len(outcome.takes) == 1 else "The strips are"
    shown.notes.insert(0, f"{subject} in the scene {edit.name}, for the Video Sequencer.")
    # Without a step of its own the next undo would take the strip away with something else.
    bpy.ops.ed.undo_push(message="Animatic: Add Strip")


def _remarks(result: dict) -> list[str]:
    """What the artist should know about the guides, from the result of the guides task."""
    reasons = [keyframe["reason"] for keyframe in result["keyframes"] if not keyframe["kept"]]
    if len(reasons) > _MOST_REASONS:
        reasons = [
            f"{len(reasons)} of {len(result['keyframes'])} guide frames were left out: the clip "
            f"has only {result['shot']['clip']['frames']} frames."
        ]
    note = result["shot"]["note"]
    return [*([note] if note else []), *reasons, *result["warnings"]]


def _home_scene() -> bpy.types.Scene | None:
    home = _session.home
    if home is None or home.file_number != _session.file_number:
        return None
    for scene in bpy.data.scenes:
        if scene.session_uid == home.scene_uid:
            return scene
    return bpy.data.scenes.get(home.scene_name)


def _redraw() -> None:
    manager = bpy.context.window_manager
    for window in manager.windows if manager is not None else ():
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()
