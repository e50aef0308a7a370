"""The worker: a child process of the service that owns the engine, and with it torch and the GPU.

It reads one JSON object a line on standard input and answers the same way on standard output
(``worker_process.py`` is the other end). It may die at any time: everything that must be kept is
published by a rename, and the service notices, tells and starts another.
"""

import argparse
import base64
import ctypes
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from .store import disk_sentence
from .take_files import publish_take

DEFAULT_ENGINE = "animatic.engine.run"
OUT_OF_MEMORY_EXIT = 70

Message = dict[str, Any]


class Worker:
    """One engine and the thread that feeds it.

    Args:
        engine: module or namespace with ``describe``, ``Engine``, ``Cancelled``, ``EngineError``
            and ``out_of_memory``.
        device: torch device name, or None for the engine's own choice.
        send: writes one message to the service; called from several threads.
    """

    def __init__(self, engine: Any, device: str | None, send: Callable[[Message], None]) -> None:
        self._api = engine
        self._engine = engine.Engine(device)
        self._send = send
        self.jobs: queue.Queue[Message] = queue.Queue()
        self._cancelled: set[str] = set()

    @property
    def device(self) -> str:
        """The device that the engine chose, for people to read."""
        return str(getattr(self._engine, "device", "auto"))

    def cancel(self, job: str) -> None:
        """Stop this job at its next step, and no other."""
        self._cancelled.add(job)

    def describe(self, folder: str) -> None:
        """Answer with the description of a checkpoint folder, or why there is none."""
        try:
            answer: Message = {"description": self._api.describe(Path(folder))}
        except self._api.EngineError as error:
            answer = {"error": str(error)}
        except Exception as error:
            # A checkpoint folder is a user's file: whatever is wrong in it is told, not fatal.
            answer = {"error": f"The checkpoint {folder} cannot be read: {error!r}."}
        self._send({"type": "described", "folder": folder, **answer})

    def run(self, task: Message) -> None:
        """Make all takes of one job, publish each as it is done, and say how it ended.

        An exception that is neither the engine's own sentence nor a lack of memory goes up and
        ends the process: nobody knows what state torch is in after it.
        """
        job = task["job"]
        self._send({"type": "started", "job": job})
        try:
            self._make_takes(task)
        except self._api.Cancelled:
            self._send({"type": "end", "job": job, "state": "cancelled"})
        except self._api.EngineError as error:
            self._send({"type": "end", "job": job, "state": "failed", "error": str(error)})
        except OSError as error:
            end = {"type": "end", "job": job, "state": "failed", "error": disk_sentence(error)}
            self._send(end)
        except (MemoryError, RuntimeError) as error:
            if not self._api.out_of_memory(error):
                raise
            sentence = (
                "The engine ran out of memory. Use fewer frames, a smaller size or one guide less, "
                f"or close other programs that use the {self.device} device."
            )
            end = {"type": "end", "job": job, "state": "failed", "error": sentence}
            self._send({**end, "leaving": True})
            # What the failed step held may stay allocated in this process: begin again.
            sys.exit(OUT_OF_MEMORY_EXIT)
        else:
            self._send({"type": "end", "job": job, "state": "done"})
        finally:
            self._cancelled.discard(job)

    def _make_takes(self, task: Message) -> None:
        job, request = task["job"], task["request"]
        seeds = request["seeds"]
        loading = 0.0

        def on_event(event: Message) -> None:
            if event["type"] == "preview":
                event = {**event, "jpeg": base64.b64encode(event["jpeg"]).decode("ascii")}
            self._send({"type": "event", "job": job, "event": {"take": 0, **event}})

        def on_take(index: int, made: Any) -> None:
            if index == 0:
                made.seconds["load"] = made.seconds.get("load", 0.0) + loading
            checkpoint = {key: task["checkpoint"][key] for key in ("name", "sha256")}
            folder, content = Path(task["folder"]), task["request_sha256"]
            take = publish_take(folder, index, made, request, content, checkpoint, seeds[index])
            self._send({"type": "take", "job": job, "index": index, "take": take})

        def should_cancel() -> bool:
            return job in self._cancelled

        if should_cancel():
            raise self._api.Cancelled
        clock = time.perf_counter()
        # The engine keeps what is loaded already, and notices when its files have changed.
        self._engine.load(Path(task["checkpoint"]["folder"]), on_event, task["plan"])
        loading = time.perf_counter() - clock
        guides = {sha256: Path(path) for sha256, path in task["guides"].items()}
        self._engine.generate_takes(
            request, guides, seeds, on_event, on_take, should_cancel, task["plan"]
        )


def main(arguments: Sequence[str]) -> None:
    """Run the worker until its standard input closes."""
    parser = argparse.ArgumentParser(prog="animatic worker")
    parser.add_argument("--engine", default=DEFAULT_ENGINE)
    parser.add_argument("--device")
    parser.add_argument("--parent", type=int, required=True, help="process id of the service")
    options = parser.parse_args(arguments)
    _die_with(options.parent)
    # Ctrl-C in a terminal goes to every process of the group; stopping is the service's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not end up between our messages
    lock = threading.Lock()

    def send(message: Message) -> None:
        data = json.dumps(message).encode("ascii") + b"\n"
        with lock:
            _write_all(answers, data)

    inbox: queue.Queue[Message] = queue.Queue()
    worker_ready = threading.Event()
    worker: Worker | None = None

    def read_commands() -> None:
        for line in read_lines(0):
            inbox.put(json.loads(line))
        # The service is gone. The main thread may be deep in a tensor operation: do not ask it.
        os._exit(0)

    def obey() -> None:
        worker_ready.wait()
        assert worker is not None
        while True:
            command = inbox.get()
            if command["type"] == "job":
                worker.jobs.put(command)
            elif command["type"] == "cancel":
                worker.cancel(command["job"])
            else:
                # Hashing gigabytes of weights must not hold up a cancel.
                threading.Thread(
                    target=worker.describe, args=(command["folder"],), daemon=True
                ).start()

    threading.Thread(target=read_commands, daemon=True).start()
    threading.Thread(target=obey, daemon=True).start()
    worker = Worker(_import_engine(options.engine), options.device, send)
    worker_ready.set()
    send({"type": "ready", "device": worker.device})
    while True:
        worker.run(worker.jobs.get())


def read_lines(descriptor: int) -> Iterator[bytes]:
    """Lines of a pipe until it closes.

    Not ``sys.stdin``: a daemon thread that waits inside its buffer makes Python abort at exit.
    """
    pending = b""
    while data := os.read(descriptor, 1 << 16):
        *lines, pending = (pending + data).split(b"\n")
        yield from lines


def _import_engine(name: str) -> ModuleType | Any:
    module, _, attribute = name.partition(":")
    package = __package__.rpartition(".")[0]
    if module == DEFAULT_ENGINE:
        module = f"{package}.engine.run"
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def _write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _die_with(parent: int) -> None:
    """Have Linux kill this process when the service dies, even if a thread holds the GIL."""
    if sys.platform != "linux":
        return  # there the end of standard input does it, as soon as Python code runs
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the service ended before its worker began")
