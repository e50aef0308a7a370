"""The HTTP interface: every route of the protocol. Faults are ``{"error": sentence}``."""

import asyncio
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .. import __version__
from .catalogue import UnknownCheckpoint
from .guard import PROTOCOL
from .store import ENDED, BlobWriter, Store, disk_sentence
from .supervisor import Supervisor
from .validate import RequestError, canonical_sha256, check_request, parse_json
from .worker_process import WorkerDied

MAX_BLOB = 64 << 20
MAX_REQUEST = 4 << 20
HEARTBEAT_SECONDS = 2.0
# Guides are PNG; the artist's own pictures may be JPEG, WebP, TIFF (of two kinds) or BMP too.
PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"II*\0", b"MM\0*", b"BM")


class Listeners:
    """Wakes the event streams of a job when the store has something new."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.stopping = False

    def notify(self, job: str) -> None:
        """There is a new event of this job."""
        for event in self._waiting.get(job, ()):
            event.set()

    def stop(self) -> None:
        """End all streams, so that the service can stop."""
        self.stopping = True
        for job in self._waiting:
            self.notify(job)

    def add(self, job: str) -> asyncio.Event:
        """A new listener's event; give it back with ``remove``."""
        event = asyncio.Event()
        self._waiting.setdefault(job, set()).add(event)
        return event

    def remove(self, job: str, event: asyncio.Event) -> None:
        """The listener has gone."""
        self._waiting[job].discard(event)
        if not self._waiting[job]:
            del self._waiting[job]


def build_app(
    store: Store, supervisor: Supervisor, listeners: Listeners, shut_down: Callable[[], None]
) -> FastAPI:
    """The service's routes, without the guard; ``shut_down`` begins the end of the process."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    store.on_event = listeners.notify

    def known_job(job: str) -> dict[str, Any]:
        entry = store.job(job)
        if entry is None:
            raise HTTPException(404, f"There is no job {job}.")
        return entry

    def take_file(job: str, index: int, name: str) -> Path:
        if not any(take["index"] == index for take in known_job(job)["takes"]):
            raise HTTPException(404, f"Job {job} has no take {index} (yet).")
        return store.takes_folder(job) / str(index) / name

    @app.exception_handler(HTTPException)
    async def refuse(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.exception_handler(RequestError)
    @app.exception_handler(UnknownCheckpoint)
    async def unusable(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)

    @app.exception_handler(WorkerDied)
    async def no_worker(_: Request, error: WorkerDied) -> JSONResponse:
        return JSONResponse({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.Error)
    async def disk_fault(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": disk_sentence(error)}, HTTPStatus.INTERNAL_SERVER_ERROR)

    @app.get("/v1/health")
    async def health() -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "version": __version__,
            "pid": os.getpid(),
            "worker": supervisor.worker_state,
            "worker_pid": supervisor.worker_pid,
            "device": supervisor.device,
            "queue": store.queue_length(),
        }

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return await supervisor.models()

    @app.head("/v1/blobs/{sha256}")
    async def has_blob(sha256: str) -> Response:
        _check_hash(sha256)
        return Response(status_code=200 if store.has_blob(sha256) else 404)

    @app.put("/v1/blobs/{sha256}")
    async def put_blob(sha256: str, request: Request) -> JSONResponse:
        _check_hash(sha256)
        writer = store.new_blob()
        try:
            await _receive_picture(request, writer)
            if not writer.publish(sha256):
                raise HTTPException(
                    422, f"The guide's content does not have the hash {sha256}. Send it again."
                )
        finally:
            writer.discard()
        return JSONResponse({"sha256": sha256}, HTTPStatus.CREATED)

    @app.post("/v1/jobs")
    async def submit(request: Request) -> JSONResponse:
        body = parse_json(await _receive(request, MAX_REQUEST))
        if not isinstance(body, dict) or "request" not in body or not body.keys() <= _JOB_KEYS:
            raise RequestError('A job is an object with "request" and, for a replay, "plan".')
        wanted, plan = body["request"], body.get("plan")
        if plan is not None and not isinstance(plan, dict):
            raise RequestError("plan must be the plan object of a take.json, or null.")
        check_request(wanted)
        job = await supervisor.submit(wanted, canonical_sha256(wanted), plan)
        return JSONResponse({"job": job}, HTTPStatus.CREATED)

    @app.get("/v1/jobs")
    async def jobs() -> dict[str, Any]:
        return {"jobs": store.jobs()}

    @app.get("/v1/jobs/{job}")
    async def one_job(job: str) -> dict[str, Any]:
        return known_job(job)

    @app.delete("/v1/jobs/{job}")
    async def delete(job: str) -> dict[str, Any]:
        if known_job(job)["state"] not in ENDED:
            raise HTTPException(409, "The job is not over. Cancel it first.")
        store.delete_job(job)
        return {"deleted": job}

    @app.post("/v1/jobs/{job}/cancel")
    async def cancel(job: str) -> dict[str, Any]:
        known_job(job)
        return await supervisor.cancel(job)

    @app.get("/v1/jobs/{job}/events")
    async def events(job: str, request: Request, since: int = 0) -> StreamingResponse:
        known_job(job)
        last = request.headers.get("last-event-id", "")
        if last:
            if not re.fullmatch(r"[0-9]{1,18}", last):
                raise HTTPException(422, "Last-Event-ID must be the number of an event.")
            since = int(last)
        elif not 0 <= since < 10**18:  # SQLite counts to 2**63
            raise HTTPException(422, "since must be the number of an event.")
        stream = _event_stream(store, listeners, job, since)
        return StreamingResponse(stream, media_type="text/event-stream")

    @app.get("/v1/jobs/{job}/takes/{index}/frames/{frame}")
    async def frame(job: str, index: int, frame: int) -> FileResponse:
        file = take_file(job, index, f"frames/{frame + 1:04d}.png")
        if not file.is_file():
            raise HTTPException(404, f"Take {index} has no frame {frame}.")
        return FileResponse(file, media_type="image/png")

    @app.get("/v1/jobs/{job}/takes/{index}/video")
    async def video(job: str, index: int) -> FileResponse:
        return FileResponse(take_file(job, index, "video.mp4"), media_type="video/mp4")

    @app.get("/v1/jobs/{job}/takes/{index}/take.json")
    async def take(job: str, index: int) -> FileResponse:
        return FileResponse(take_file(job, index, "take.json"), media_type="application/json")

    @app.post("/v1/shutdown")
    async def shutdown() -> dict[str, Any]:
        shut_down()
        return {"stopping": True}

    return app


_JOB_KEYS = {"request", "plan"}


def _check_hash(sha256: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise HTTPException(422, "A guide is named by its SHA-256 in 64 small hexadecimal digits.")


async def _receive(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"The request is larger than {limit >> 20} MB.")
    return bytes(body)


async def _receive_picture(request: Request, writer: BlobWriter) -> None:
    head = b""
    try:
        async for chunk in request.stream():
            head = head if len(head) >= 8 else (head + chunk)[:8]
            writer.write(chunk)
            if writer.size > MAX_BLOB:
                raise HTTPException(413, f"The guide is larger than {MAX_BLOB >> 20} MB.")
    except ClientDisconnect as error:
        raise HTTPException(400, "The upload broke off.") from error
    if not head.startswith(PICTURES):
        raise HTTPException(
            422, "The picture is not a PNG file (as guides are), nor JPEG, WebP, TIFF or BMP."
        )


async def _event_stream(
    store: Store, listeners: Listeners, job: str, since: int
) -> AsyncIterator[str]:
    news = listeners.add(job)
    try:
        while not listeners.stopping:
            news.clear()
            state = store.state(job)
            for number, kind, data in store.events(job, since):
                since = number
                yield f"id: {number}\nevent: {kind}\ndata: {data}\n\n"
            if state is None or state in ENDED:
                return  # deleted, or the last event was just sent
            try:
                await asyncio.wait_for(news.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield ": heartbeat\n\n"
    finally:
        listeners.remove(job, news)
