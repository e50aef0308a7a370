"""Runs the queue: one job after the other in a worker that may crash, hang or run out of memory."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from .catalogue import Catalogue, UnknownCheckpoint
from .store import ENDED, Store, disk_sentence
from .validate import RequestError, guide_hashes
from .worker_process import Message, WorkerDied, WorkerProcess

RETRY_SECONDS = 2.0
"""Between two tries to use a job list whose disk fails."""

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds."""

    stall: float = 1800.0
    """For the next sign of life of a running job. One step of a large model on a CPU is minutes."""
    cancel: float = 60.0
    """For a cancelled job to stop by itself; then the worker is killed and started again."""


class Supervisor:
    """The queue and its worker.

    Args:
        store: where jobs come from and results are entered.
        catalogue: the checkpoints.
        worker_arguments: command line of the worker (device, engine).
        limits: when a job counts as hung.
    """

    def __init__(
        self, store: Store, catalogue: Catalogue, worker_arguments: Sequence[str], limits: Limits
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._arguments = list(worker_arguments)
        self._limits = limits
        self._worker: WorkerProcess | None = None
        self._starting = asyncio.Lock()
        self._queue_changed = asyncio.Event()
        self._running: str | None = None
        self._cancel_asked: float | None = None

    @property
    def worker_state(self) -> str:
        """starting, idle, busy or dead."""
        if self._worker is None or self._worker.ended.is_set():
            return "dead"
        if not self._worker.ready:
            return "starting"
        return "busy" if self._running else "idle"

    @property
    def worker_pid(self) -> int | None:
        """Process id of the living worker."""
        return None if self.worker_state == "dead" or not self._worker else self._worker.pid

    @property
    def device(self) -> str | None:
        """What the engine computes on; None until a worker is ready."""
        return self._worker.device if self._worker else None

    async def worker(self) -> WorkerProcess:
        """The living worker; starts one if there is none.

        Only called when there is something to do, so that an engine that cannot start does not
        start over and over.
        """
        async with self._starting:
            if self._worker is None or self._worker.ended.is_set():
                self._worker = await WorkerProcess.start(self._arguments)
            return self._worker

    async def models(self) -> dict[str, list[dict[str, Any]]]:
        """The catalogue; ``WorkerDied`` if the engine cannot answer."""
        return await self._catalogue.models(await self.worker())

    async def submit(self, request: dict[str, Any], request_sha256: str, plan: Any) -> str:
        """Queue a checked request; returns the job.

        Raises:
            UnknownCheckpoint: if its checkpoint is not there.
            RequestError: if one of its guides is not there.
            WorkerDied: if the engine cannot answer.
        """
        await self._catalogue.find(request["checkpoint"], await self.worker())
        # Not sooner: meanwhile another client may delete the job that the guides came with.
        missing = [sha for sha in guide_hashes(request) if not self._store.has_blob(sha)]
        if missing:
            raise RequestError(
                f"{len(missing)} of the request's guides are not here ({min(missing)[:12]}...). "
                "Upload them first."
            )
        job = self._store.add_job(request, request_sha256, plan)
        self._queue_changed.set()
        return job

    async def cancel(self, job: str) -> dict[str, Any]:
        """Cancel one job: at once if it is queued, at its next step if it is running.

        Returns:
            ``{"cancelled": bool, "state": ..., "message": sentence}``; False if it was not running.
        """
        state = self._store.state(job)
        if state == "queued":
            self._store.end_job(job, "cancelled")
            message = "The job was waiting and is cancelled."
            return {"cancelled": True, "state": "cancelled", "message": message}
        if state == "running":
            if self._cancel_asked is None:
                self._cancel_asked = time.monotonic()
            if self._worker is not None:
                self._worker.messages.put_nowait({"type": "cancel asked"})
                await self._worker.send({"type": "cancel", "job": job})
            message = "The job stops at its next step."
            return {"cancelled": True, "state": "running", "message": message}
        message = f"The job is not running: it is {state}."
        return {"cancelled": False, "state": state, "message": message}

    async def run(self) -> None:
        """Work through the queue until cancelled."""
        await self._warm_up()
        while True:
            self._queue_changed.clear()
            while (job := await self._insist(self._store.next_queued)) is not None:
                await self._run(job)
            await self._queue_changed.wait()

    async def stop(self) -> None:
        """End the worker. A job that was running is marked failed, and says so."""
        job = self._running
        with contextlib.suppress(sqlite3.Error):  # the next start enters it (Store.recover)
            if job is not None and self._store.state(job) not in ENDED:
                self._store.end_job(job, "failed", self._store.interrupted_sentence(job))
        if self._worker is not None:
            await self._worker.stop()

    async def _run(self, job: str) -> None:
        self._running, self._cancel_asked = job, None
        try:
            self._store.set_running(job)
            state, error = await self._attempt(job)
        except (WorkerDied, UnknownCheckpoint) as error_before_work:
            state, error = "failed", str(error_before_work)
        except (OSError, sqlite3.Error) as fault:
            state, error = "failed", disk_sentence(fault)
        self._running = None
        await self._insist(partial(self._store.end_job, job, state, error))
        if self._worker is not None and self._worker.ended.is_set():
            await self._warm_up()

    async def _warm_up(self) -> None:
        """Have a worker load its libraries before the next job comes."""
        with contextlib.suppress(WorkerDied):  # that job will be told
            await self.worker()

    async def _insist(self, act: Callable[[], T]) -> T:
        """What ``act`` of the store returns: while the disk fails, the queue waits for it."""
        while True:
            try:
                return act()
            except sqlite3.Error as error:
                logging.getLogger(__name__).warning("%s", disk_sentence(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _attempt(self, job: str) -> tuple[str, str | None]:
        """See the job through with a worker; its state and error sentence."""
        worker = await self.worker()
        try:
            return await self._hand(job, worker)
        except WorkerDied:
            # It died while it waited: not this job's fault. A fresh worker that does the same
            # has another reason, which its death sentence tells.
            return await self._hand(job, await self.worker())

    async def _hand(self, job: str, worker: WorkerProcess) -> tuple[str, str | None]:
        """Hand the job to a worker; WorkerDied if that one ends before it has begun with it."""
        try:
            await asyncio.wait_for(self._send(job, worker), self._limits.stall)
        except TimeoutError:
            await worker.kill()
            return "failed", self._stall_sentence()
        try:
            return await self._follow(job, worker)
        except sqlite3.Error:
            await worker.kill()  # it is at work on a job that nobody follows any more
            raise

    async def _send(self, job: str, worker: WorkerProcess) -> None:
        await worker.send(await self._task(job, worker))
        if self._cancel_asked is not None:
            await worker.send({"type": "cancel", "job": job})

    async def _task(self, job: str, worker: WorkerProcess) -> Message:
        """Everything the worker needs to know about the job."""
        entry = self._store.job(job)
        assert entry is not None
        request = entry["request"]
        guides = {sha256: str(self._store.blob_path(sha256)) for sha256 in guide_hashes(request)}
        return {
            "type": "job",
            "job": job,
            "request": request,
            "request_sha256": entry["request_sha256"],
            "plan": entry["plan"],
            "checkpoint": await self._catalogue.find(request["checkpoint"], worker),
            "folder": str(self._store.takes_folder(job)),
            "guides": guides,
        }

    async def _follow(self, job: str, worker: WorkerProcess) -> tuple[str, str | None]:
        """Enter what the worker reports until the job ends; its state and error sentence."""
        heard = time.monotonic()
        started = False
        while True:
            deadline = heard + self._limits.stall
            if self._cancel_asked is not None:
                deadline = min(deadline, self._cancel_asked + self._limits.cancel)
            try:
                left = max(deadline - time.monotonic(), 0.01)
                message = await asyncio.wait_for(worker.messages.get(), left)
            except TimeoutError:
                await worker.kill()
                cancelled = self._cancel_asked is not None
                return ("cancelled", None) if cancelled else ("failed", self._stall_sentence())
            if message["type"] == "died":
                if self._cancel_asked is not None:
                    return "cancelled", None
                if not started:
                    raise WorkerDied(worker.death_sentence())
                return "failed", worker.death_sentence()
            if message["type"] != "cancel asked":
                heard = time.monotonic()
            started = started or message["type"] == "started"
            if message["type"] == "event":
                event = dict(message["event"])
                self._store.add_event(job, event.pop("type"), event)
            elif message["type"] == "take":
                self._store.add_take(job, message["index"], message["take"])
            elif message["type"] == "end":
                if message.get("leaving"):
                    await worker.kill()
                return message["state"], message.get("error")

    def _stall_sentence(self) -> str:
        return (
            f"The engine gave no sign of life for {self._limits.stall:g} seconds and was started "
            "again. Try fewer frames or a smaller size; if the computer is only slow, raise "
            "--stall-seconds."
        )
