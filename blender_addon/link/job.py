"""Sends one request to the engine, follows its job and brings its takes home."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from ..errors import AnimaticError, Cancelled
from ..shot.take_folder import OutputFolder
from .client import EngineClient, EngineGone
from .progress import Progress


def run_job(
    client: EngineClient,
    request: dict,
    guides: list[Path],
    folder: OutputFolder,
    progress: Progress,
    plan: dict | None = None,
) -> list[dict]:
    """Run ``request`` with its guide files; each take is downloaded as soon as it is done.

    ``plan`` forces an earlier take's execution plan. Returns the takes (their take.json). When
    ``progress.cancelled`` is set the job is cancelled, and Cancelled is raised once the engine has
    stopped it. Raises AnimaticError with the engine's own sentence when the job failed.
    """
    for guide in guides:
        progress.check()
        client.upload(guide)
    job = client.submit(request, plan)
    takes: list[dict] = []
    over = threading.Event()
    watcher = threading.Thread(
        target=_cancel_on_request, args=(client, job, progress.cancelled, over), daemon=True
    )
    watcher.start()
    try:
        for event in client.events(job):
            _pass_on(event, len(takes), request, progress)
            if event["event"] == "take":
                takes.append(client.download(job, len(takes), folder.take(len(takes))))
    except BaseException:
        with suppress(AnimaticError):
            client.cancel(job)  # nobody waits for the rest of it
        raise
    finally:
        over.set()
        watcher.join()
    state = client.job(job)
    with suppress(AnimaticError):
        client.delete(job)  # all is here: an engine that goes on running would keep it for ever
    if progress.cancelled.is_set() or state["state"] == "cancelled":
        raise Cancelled
    if state["state"] != "done":
        raise AnimaticError(state["error"])
    return takes


def _cancel_on_request(
    client: EngineClient, job: str, cancelled: threading.Event, over: threading.Event
) -> None:
    while not over.is_set():
        if cancelled.wait(0.05):
            try:
                client.cancel(job)
            except EngineGone:
                over.wait(1.0)  # a network may come back
            else:
                return


def _pass_on(event: dict, take: int, request: dict, progress: Progress) -> None:
    takes = len(request["seeds"])
    text = f"take {take + 1} of {takes}" if takes > 1 else ""
    if event["event"] == "phase":
        data = dict(event["data"])
        if together := data.pop("together", 0):
            # Their steps are counted as one take's: so is the time that is left.
            take, takes, text = 0, 1, f"{together} takes"
        progress.emit({**data, "text": text, "take": take, "takes": takes})
    elif event["event"] == "preview":
        progress.emit({"preview": event["data"], "frames": request["clip"]["frames"]})
