"""Talks to the engine service, on this machine or over TLS, with the standard library only.

Every call opens its own connection, so that a client may be used from several threads.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shutil
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..errors import AnimaticError

PROTOCOL = 1
PNG = "image/png"


class EngineGone(AnimaticError):
    """Nobody answers any more."""


class EngineRefused(AnimaticError):
    """The engine answered that it will not; the text is its own sentence, ``status`` HTTP's."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class ProtocolMismatch(EngineRefused):
    """The engine and this add-on are of different versions."""


class EngineClient:
    """One engine service.

    Args:
        host: loopback address, or another machine's name where ``tls`` is given.
        port: where it listens.
        token: the secret it was started with.
        why_gone: says in a sentence why the engine's process has ended, or None while it lives.
        heartbeat_limit: seconds of silence after which a connection counts as dead; the engine
            sends something every 2.
        slow_limit: seconds to wait for calls for which the engine may have to load its libraries
            or hash a checkpoint.
        tls: how to encrypt and whom to trust; without it the connection is plain HTTP.

    Every call raises EngineGone, EngineRefused or ProtocolMismatch.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        why_gone: Callable[[], str | None] = lambda: None,
        heartbeat_limit: float = 10.0,
        slow_limit: float = 300.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._headers = {
            "Authorization": f"Bearer {token}",
            "X-Animatic-Protocol": str(PROTOCOL),
        }
        self._why_gone = why_gone
        self._heartbeat_limit = heartbeat_limit
        self._slow_limit = slow_limit
        self._tls = tls

    def health(self) -> dict[str, Any]:
        """Protocol, version, pid, worker (starting, idle, busy or dead), device, queue length."""
        names = ("protocol", "version", "worker", "device", "queue")
        return self._json("GET", "/v1/health", names=names)

    def models(self) -> list[dict[str, Any]]:
        """The checkpoints that the engine can use: name, sha256, native, guides, defaults."""
        answer = self._models()
        models: list[dict[str, Any]] = answer["models"]
        return models

    def model(self, name: str) -> dict[str, Any]:
        """One checkpoint by name; EngineRefused says why it cannot be used, or which there are."""
        answer = self._models()
        for model in answer["models"]:
            if model["name"] == name:
                found: dict[str, Any] = model
                return found
        for broken in answer["broken"]:
            if broken["name"] == name:
                raise EngineRefused(http.client.NOT_FOUND, broken["error"])
        known = ", ".join(model["name"] for model in answer["models"]) or "none"
        raise EngineRefused(
            http.client.NOT_FOUND,
            f'The engine has no checkpoint "{name}". It has: {known}.',
        )

    def _models(self) -> dict[str, Any]:
        limit, names = self._slow_limit, ("models", "broken")
        return self._json("GET", "/v1/models", timeout=limit, names=names)

    def upload(self, path: Path) -> str:
        """Send a guide (PNG) unless the engine has it; returns its SHA-256."""
        data = Path(path).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        address = f"/v1/blobs/{sha256}"
        try:
            with self._request("HEAD", address):
                pass
        except EngineRefused as error:
            if error.status != http.client.NOT_FOUND:
                raise
            self._json("PUT", address, data, {"Content-Type": PNG})
        return sha256

    def submit(self, request: dict[str, Any], plan: dict[str, Any] | None = None) -> str:
        """Queue a request; returns the job. ``plan``, an earlier take's, gives its bits again."""
        body = json.dumps({"request": request, "plan": plan}).encode()
        headers = {"Content-Type": "application/json"}
        limit = self._slow_limit
        answer = self._json("POST", "/v1/jobs", body, headers, timeout=limit, names=("job",))
        return str(answer["job"])

    def job(self, job: str) -> dict[str, Any]:
        """State, error, queue position, request and finished takes of a job."""
        return self._json("GET", f"/v1/jobs/{job}")

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that the engine remembers, oldest first, without their requests."""
        jobs: list[dict[str, Any]] = self._json("GET", "/v1/jobs")["jobs"]
        return jobs

    def cancel(self, job: str) -> dict[str, Any]:
        """Stop one job. ``{"cancelled": False, "message": ...}`` says that it was not running."""
        return self._json("POST", f"/v1/jobs/{job}/cancel", b"")

    def delete(self, job: str) -> None:
        """Have the engine forget an ended job, with its takes."""
        self._json("DELETE", f"/v1/jobs/{job}")

    def shutdown(self) -> None:
        """Ask the service to end."""
        self._json("POST", "/v1/shutdown", b"")

    def events(self, job: str, since: int = 0) -> Iterator[dict[str, Any]]:
        """What happens to a job after event ``since``, until it has ended.

        Yields ``{"id": int, "event": "state|phase|preview|take|end", "data": ...}``; data is a
        dict, for a preview JPEG bytes. Connects again when the connection breaks, and misses
        nothing but previews that were overtaken.
        """
        heard = time.monotonic()
        while True:
            try:
                headers = {"Last-Event-ID": str(since)}
                address = f"/v1/jobs/{job}/events"
                with self._request("GET", address, None, headers, self._heartbeat_limit) as stream:
                    for event in _parse_events(stream):
                        heard = time.monotonic()
                        if event is None or event["id"] <= since:
                            continue
                        since = event["id"]
                        yield event
                        if event["event"] == "end":
                            return
            except EngineGone:
                if self._why_gone() or time.monotonic() - heard > self._heartbeat_limit:
                    raise
            time.sleep(0.2)

    def download(self, job: str, take: int, folder: Path) -> dict[str, Any]:
        """Fetch a take into ``folder``: frames/0001.png ..., video.mp4 and, last, take.json.

        Files appear under these names only when all of them are there and the frames have the
        hashes that take.json tells. Returns take.json. Raises AnimaticError if the folder holds a
        take already, if a file arrived damaged, or if the disk is full.
        """
        folder = Path(folder)
        names = ("frames", "video.mp4", "take.json")
        for name in names:
            if (folder / name).exists():
                raise AnimaticError(
                    f"{folder / name} exists already. Choose another folder: a take is never "
                    "written over."
                )
        address = f"/v1/jobs/{job}/takes/{take}"
        part = folder / f".part-{uuid.uuid4().hex}"
        (part / "frames").mkdir(parents=True)
        try:
            self._fetch(f"{address}/take.json", part / "take.json")
            content: dict[str, Any] = json.loads((part / "take.json").read_text(encoding="utf-8"))
            for number, expected in enumerate(content["frames"]):
                file = part / "frames" / f"{number + 1:04d}.png"
                if self._fetch(f"{address}/frames/{number}", file) != expected:
                    raise AnimaticError(
                        f"Frame {number} of take {take} arrived damaged. Download it again."
                    )
            self._fetch(f"{address}/video", part / "video.mp4")
            for name in names:
                os.replace(part / name, folder / name)
        except OSError as error:
            raise AnimaticError(
                f"The take could not be written ({error.strerror}): free some space on its disk, "
                "or choose another folder for takes, then generate again."
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return content

    def _fetch(self, address: str, file: Path) -> str:
        with self._request("GET", address) as answer:
            data = answer.read()
        file.write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def _json(
        self,
        method: str,
        address: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,
        names: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """The answer's JSON object, which has at least these ``names``."""
        with self._request(method, address, body, headers, timeout) as answer:
            body_text = answer.read()
        try:
            content: dict[str, Any] = json.loads(body_text)
            for name in names:
                content[name]
        except (ValueError, KeyError, TypeError) as error:
            raise EngineRefused(answer.status, self._not_ours(answer)) from error
        return content

    @contextmanager
    def _request(
        self,
        method: str,
        address: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Iterator[http.client.HTTPResponse]:
        """The engine's answer; reading it is covered by the same errors as asking for it."""
        connection = self._connection(timeout)
        try:
            connection.request(method, address, body, {**self._headers, **(headers or {})})
            answer = connection.getresponse()
            if answer.status >= http.client.BAD_REQUEST:
                raise self._refusal(answer)
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise EngineGone(self._why_gone() or self._silence(error)) from error
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self._tls)

    def _silence(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"{self.host} shows a certificate that this machine does not trust "
                f"({error.verify_message}): check the address, or make this machine trust it."
            )
        if isinstance(error, ssl.SSLError):
            return (
                f"{self.host}:{self.port} does not speak TLS: check the address and the port, or "
                "use an SSH tunnel and http."
            )
        reason = str(error) or type(error).__name__
        return f"The engine at {self.host}:{self.port} does not answer ({reason}). Start it again."

    def _not_ours(self, answer: http.client.HTTPResponse) -> str:
        return (
            f"Port {self.port} answered {answer.status} {answer.reason}, but not as the engine "
            "does: another program may hold the port, or the engine has a fault (see its log)."
        )

    def _refusal(self, answer: http.client.HTTPResponse) -> EngineRefused:
        body = answer.read()
        try:
            sentence = str(json.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            sentence = self._not_ours(answer)
        if answer.status == http.client.UPGRADE_REQUIRED:
            return ProtocolMismatch(answer.status, sentence)
        return EngineRefused(answer.status, sentence)


def _parse_events(stream: IO[bytes]) -> Iterator[dict[str, Any] | None]:
    """Server-Sent Events; None for each heartbeat."""
    fields: dict[str, str] = {}
    for raw in stream:
        line = raw.decode("utf-8").rstrip("\r\n")
        if line.startswith(":"):
            yield None
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            data = json.loads(fields["data"])
            if fields["event"] == "preview":
                data = base64.b64decode(data["jpeg"])
            yield {"id": int(fields["id"]), "event": fields["event"], "data": data}
            fields = {}
