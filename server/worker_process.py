"""The service's end of the worker: starts the child, talks to it, tells how it died."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).with_name("__main__.py")
LINE_LIMIT = 64 << 20
"""Longest message of a worker in bytes; previews are the long ones."""
KILL_SECONDS = 10.0
"""For a killed worker to be gone; one that the system does not let go is given up."""
LAST_WORDS_SECONDS = 2.0
"""For the rest of an ended worker's log."""
KILL_SIGNAL = getattr(signal, "SIGKILL", signal.SIGTERM)
_ERROR_LINE = re.compile(r"[\w.]*(Error|Exception)\b")

Message = dict[str, Any]


class WorkerDied(RuntimeError):
    """The worker ended; the text says why, as far as is known."""


class WorkerProcess:
    """One run of the worker. Use ``start``; when ``ended`` is set, make another."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tail: deque[str] = deque(maxlen=40)
        self._descriptions: dict[str, list[asyncio.Future[Message]]] = {}
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        """Everything about jobs, then one ``{"type": "died"}``."""
        self.ready = False
        self.device: str | None = None
        self.ended = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._read_messages()),
            asyncio.create_task(self._read_log()),
        ]

    @classmethod
    async def start(cls, arguments: Sequence[str]) -> "WorkerProcess":
        """Start a worker; returns before it has loaded its libraries.

        Raises:
            WorkerDied: if the process cannot be started.
        """
        offline = {"HF_HUB_OFFLINE": "1", "DIFFUSERS_DISABLE_REMOTE_CODE": "true"}
        try:
            # The event loop runs in the main thread, which outlives the worker: Linux ties the
            # death signal that the worker asks for to the thread that started it.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(LAUNCHER), "worker", "--parent", str(os.getpid())),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **offline},
                limit=LINE_LIMIT,
            )
        except OSError as error:
            raise WorkerDied(f"The worker process cannot be started: {error}.") from error
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    async def send(self, message: Message) -> None:
        """Send one command; a dead worker is told by ``messages``, not here."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(message).encode("ascii") + b"\n")
            await self._process.stdin.drain()

    async def describe(self, folder: Path) -> Message:
        """The engine's description of a checkpoint: ``{"description": ...}`` or ``{"error": ...}``.

        Raises:
            WorkerDied: if the worker ends before it has answered.
        """
        if self.ended.is_set():
            raise WorkerDied(self.death_sentence())
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        waiting = self._descriptions.setdefault(str(folder), [])
        waiting.append(answer)
        if len(waiting) == 1:
            await self.send({"type": "describe", "folder": str(folder)})
        return await answer

    def death_sentence(self) -> str:
        """How the worker ended: the signal or exit code, and the last thing it said."""
        code = self._process.returncode
        if code is None:
            return (
                "The engine's worker hangs in the system and cannot be ended; it was given up. If "
                "the next one fails too, restart the computer."
            )
        if code < 0:
            name = signal.Signals(-code).name
            if -code == KILL_SIGNAL:
                return (
                    f"The engine's worker was killed by the system ({name}), most often because "
                    "memory ran out. Use fewer frames, a smaller size or one guide less."
                )
            return f"The engine's worker crashed ({name}). {self._last_words()}"
        return f"The engine's worker stopped with exit code {code}. {self._last_words()}"

    async def kill(self) -> None:
        """End the process now and wait until it is gone, or ``KILL_SECONDS``; then it is given up.

        Either way ``ended`` is set after it.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        try:
            await asyncio.wait_for(self.ended.wait(), KILL_SECONDS)
        except TimeoutError:  # a driver or a share holds it: the queue goes on without it
            self._end()

    async def stop(self) -> None:
        """End the process by closing its input; kill it if that does not help."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self.ended.wait(), 2)
        except TimeoutError:
            await self.kill()
        await asyncio.wait(self._tasks)

    def _last_words(self) -> str:
        said = [line for line in self._tail if line.strip()]
        # After its first line an error of CUDA goes on with advice to programmers.
        errors = [line for line in said if _ERROR_LINE.match(line)]
        return f"It said last: {(errors or said)[-1].strip()}" if said else "It said nothing."

    async def _read_messages(self) -> None:
        assert self._process.stdout is not None
        try:
            # A worker that is killed while it writes leaves half a line.
            while (line := await self._process.stdout.readline()).endswith(b"\n"):
                self._receive(json.loads(line))
        except ValueError:  # no JSON, or too long: what follows cannot be understood either
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        finally:
            if not self.ended.is_set():  # else it was given up
                # Not process.wait(): in Python 3.11 that waits until all pipes are closed, and a
                # child of the worker's own may hold the log open for as long as it lives.
                while self._process.returncode is None:
                    await asyncio.sleep(0.02)
                await asyncio.wait([self._tasks[1]], timeout=LAST_WORDS_SECONDS)
                self._end()

    def _end(self) -> None:
        """Tell everyone who waits that there is no worker any more."""
        if self.ended.is_set():
            return
        self.ended.set()
        for answers in self._descriptions.values():
            for answer in filter(lambda answer: not answer.done(), answers):
                answer.set_exception(WorkerDied(self.death_sentence()))
        self.messages.put_nowait({"type": "died"})
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def _receive(self, message: Message) -> None:
        if message["type"] == "described":
            for answer in self._descriptions.pop(message["folder"], []):
                if not answer.done():  # whoever asked may have hung up
                    answer.set_result(message)
            return
        if message["type"] == "ready":
            self.ready, self.device = True, message["device"]
        self.messages.put_nowait(message)

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            text = line.decode("utf-8", "replace").rstrip("\n")
            self._tail.append(text)
            with contextlib.suppress(OSError):  # whoever read our log may be gone
                print(text, file=sys.stderr, flush=True)
