"""The jobs of this Blender: one at a time, started, pumped and concluded on the main thread.

Everything here is plain Python outside Blender's data, so that undo and File > Open leave a running
job alone. The timer runs only while there is a job.
"""

from __future__ import annotations

import traceback
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..errors import AnimaticError
from . import conclude, estimate, guides_report, pending, previews, shot_states, take_index
from .job import Job, State, Status
from .kept_queue import DONE, FAILED, KeptQueue
from .redraw import in_a_tool, redraw
from .runs import Run
from .shot_states import ShotState

TICK_S = 0.1
# Cancelling takes one sampling step and the engine's orderly end; Blender waits no longer.
LEAVE_S = 20.0
# Some add-ons have a tool that never ends.
TOOL_S = 30.0
_FAULT = (
    "What was made is kept on disk, but a fault of Animatic's own stopped it on its way into this "
    "file. The system console shows it; please report it."
)


@dataclass
class Session:
    """``file_number`` counts the files opened; a job made for an earlier one places no strip.

    ``kept`` is the queue on disk that the runs are from, if they are. ``results`` are the last
    ones by the session_uid of their scenes, ``status`` is the newest of all or that of the job.
    """

    status: Status
    job: Job | None = None
    run: Run | None = None
    waiting: deque[Run] = field(default_factory=deque)
    kept: KeptQueue | None = None
    made_for: int = 0
    told: list[str] = field(default_factory=list)
    file_number: int = 0
    number: int = 0
    total: int = 0
    results: dict[int, Status] = field(default_factory=dict)


_session = Session(Status())


def status() -> Status:
    """The job that is at work, or the last result."""
    return _session.status


def status_in(scene: bpy.types.Scene) -> Status:
    """What the panel shows in ``scene``: the job of any scene, but results of its own alone.

    A result whose scene is not open any more is shown in all.
    """
    if _session.status.state.busy or not _has_home(_session.status):
        return _session.status
    return _session.results.get(scene.session_uid, Status())


def _has_home(result: Status) -> bool:
    homes = {uid for uid, each in _session.results.items() if each is result}
    return any(scene.session_uid in homes for scene in bpy.data.scenes)


def made_elsewhere(scene: bpy.types.Scene) -> str:
    """The name of the scene that a job is at work for, where that is not ``scene``; else ""."""
    run = _session.run if busy() else None
    if run is None or run.scene_uid == scene.session_uid:
        return ""
    return next((s.name for s in bpy.data.scenes if s.session_uid == run.scene_uid), run.scene_name)


def busy() -> bool:
    """Whether there is a job that is not concluded yet."""
    return _session.job is not None


def position() -> tuple[str, int, int]:
    """The name of the shot that is made, its number in the queue from 1, and the queue's length."""
    run = _session.run
    return (run.title if run is not None else "", _session.number, _session.total)


def start(runs: list[Run]) -> None:
    """Do ``runs`` one after another, in threads. Raises AnimaticError when one is at work."""
    _queue(runs)
    _next().start()
    if not bpy.app.timers.is_registered(_tick):
        # persistent: File > Open ends other timers; the interval lets the operator return first
        bpy.app.timers.register(_tick, first_interval=TICK_S, persistent=True)
    redraw()


def run(runs: list[Run]) -> None:
    """Do ``runs`` and return when all are done: for scripts. Raises AnimaticError."""
    _queue(runs)
    try:
        while _session.waiting:
            job = _next()
            job.run_here()
            _finish(job)
            if _session.status.state is not State.DONE:
                _drop_waiting()
                raise AnimaticError(_session.status.message)
    finally:
        _session.job = None  # still there where an error that is not ours came through
        _end_queue()


def cancel() -> None:
    """Ask the job to stop, and forget those that wait; the panel goes on until it has."""
    if _session.job is not None:
        _drop_waiting()
        _session.job.cancel()
        redraw()


def fail(message: str) -> None:
    """Show a sentence where the artist looks: in the panel, unless a job is shown there."""
    if busy():
        return
    _session.status = Status(State.FAILED, message=message)
    _session.results[bpy.context.scene.session_uid] = _session.status
    redraw()


def register() -> None:
    """Begin with nothing to show."""
    _session.status = Status()
    _session.results.clear()
    bpy.app.handlers.load_post.append(_on_load)
    bpy.app.handlers.save_post.append(_on_save)


def unregister() -> None:
    """Cancel a running job, wait for its thread and its processes, and take back the timer."""
    if _session.job is not None:
        _drop_waiting()
        _session.job.cancel()
        if not _session.job.wait(LEAVE_S):
            print(f"Animatic: the job did not stop within {LEAVE_S:g} s; it ends with Blender.")
        _session.job = None
    _end_queue()
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    bpy.app.handlers.save_post.remove(_on_save)
    bpy.app.handlers.load_post.remove(_on_load)


@persistent
def _on_load(*_arguments: object) -> None:
    _session.file_number += 1
    guides_report.forget()
    shot_states.forget()
    pending.look()
    if not busy():
        _session.status = Status()  # the last result belongs to the last file
        _session.results.clear()


@persistent
def _on_save(*_arguments: object) -> None:
    """The queue goes with the file that it was made for to another name."""
    kept, name = _session.kept, pending.open_file()
    if kept is not None and _session.made_for == _session.file_number and name != kept.blend:
        kept.blend = name
        kept.write()
    if not busy():
        pending.look()


def _queue(runs: list[Run]) -> None:
    if busy():
        raise AnimaticError("Animatic is at work already: wait for it or cancel it.")
    _session.waiting = deque(runs)
    _session.number, _session.total, _session.told = 0, len(runs), []
    _session.made_for = _session.file_number
    _session.kept = runs[0].queue if runs else None
    for run in runs:
        _tell(run, ShotState.QUEUED)


def _next() -> Job:
    run = _session.waiting.popleft()
    _tell(run, ShotState.RUNNING)
    job = Job(run.work, run.release, Path(bpy.app.tempdir) / "animatic_preview.jpg")
    _session.run, _session.job, _session.status = run, job, job.status
    _session.number += 1
    return job


def _drop_waiting() -> None:
    while _session.waiting:
        _session.waiting.popleft().release()


def _tick() -> float | None:
    """Move what the thread has told into the status; end the timer with the last job."""
    job = _session.job
    if job is None:
        return None
    changed = job.pump()
    # A picture is taken in over several ticks, none of which may hold the artist up.
    if not previews.go_on():
        preview = job.take_preview()
        if preview is not None:
            previews.begin(preview)
    if changed or previews.has_clip():
        redraw(status_bar=changed)
    if job.status.state.busy or bpy.app.is_job_running("RENDER"):
        return TICK_S  # a scene that is added while Blender renders can crash it
    if in_a_tool() and job.since_over() < TOOL_S:
        return TICK_S  # an undo step inside a brush stroke crashes it, too
    _finish(job)
    if _session.waiting:
        _next().start()
    else:
        _end_queue()
    take_index.refresh()
    redraw()
    return TICK_S if busy() else None


def _finish(job: Job) -> None:
    """Place what a job has made. After a failed one the others still get their turn."""
    run, _session.job = _session.run, None
    assert run is not None
    _session.results[run.scene_uid] = job.status
    _place(run, job)
    failed = job.status.state is State.FAILED
    _tell(run, ShotState.FAILED if failed else ShotState.DONE)
    if run.queue is not None and run.entry is not None and job.status.state is not State.CANCELLED:
        run.queue.mark(run.entry, FAILED if failed else DONE)
    shot_states.settle(ShotState.DONE)
    if run.makes_takes:
        estimate.learn(run.work.host, job)
    take_index.refresh()
    # The panel shows the last job: what became of the others of its queue is told beneath.
    job.status.message = conclude.in_panel_words(job.status.message)
    job.status.notes += _session.told
    _session.told.append(f"{run.title}: {job.status.message}")
    if job.status.state is State.CANCELLED:
        _drop_waiting()


def _place(run: Run, job: Job) -> None:
    """Conclude a job, whatever comes of it: an error would end the timer, and with it the queue."""
    try:
        previews.forget()
        conclude.conclude(run, job, _session.made_for == _session.file_number)
    except Exception:
        traceback.print_exc()
        if job.status.message:
            job.status.notes.insert(0, _FAULT)
        else:
            job.status.message = _FAULT
        take_index.read_disk()  # the take is listed, and its eye gives it a strip


def _tell(run: Run, state: ShotState) -> None:
    if run.makes_takes and _session.made_for == _session.file_number:
        shot_states.tell(run.scene_name, run.title, state)


def _end_queue() -> None:
    """Let go of the queue on disk; what is left of it is offered."""
    kept, _session.kept = _session.kept, None
    shot_states.settle(ShotState.QUEUED)
    if kept is not None:
        kept.close()
        pending.look()
        take_index.refresh()
