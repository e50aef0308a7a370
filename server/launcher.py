"""The service's command line and life cycle: token, lock, port, worker, end."""

import argparse
import asyncio
import json
import logging
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from .app import Listeners, build_app
from .catalogue import Catalogue
from .folder_lock import FolderBusy, FolderLock
from .guard import PROTOCOL, Guard
from .store import Store, StoreError
from .supervisor import Limits, Supervisor
from .worker import DEFAULT_ENGINE, read_lines

EXIT_SETTINGS = 2
EXIT_PORT = 3
EXIT_DATA = 4
TOKEN_LENGTH = 22
"""Fewest characters of a token: 128 bits in URL-safe base64."""


class LaunchError(RuntimeError):
    """The service cannot start; the text is a sentence, ``code`` the exit code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def main(arguments: Sequence[str]) -> int:
    """Run the service until it is told to stop; returns the exit code.

    0: it was stopped. 2: wrong settings. 3: the port is taken. 4: the data folder cannot be used.
    """
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except LaunchError as error:
        print(error, file=sys.stderr)
        return error.code


class _Server(uvicorn.Server):
    """uvicorn, with our end on a signal and a word when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self.on_signal: Callable[[], object] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again after its own end, and skip ours.
        self.on_signal()


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    listening = _bind(options.port)  # first: nothing is touched when the port is wrong
    stdin = read_lines(0)
    token = (
        _token_from_file(options.token_file) if options.token_file else next(stdin, b"").decode()
    )
    if len(token.strip()) < TOKEN_LENGTH:
        raise LaunchError(
            EXIT_SETTINGS,
            f"The token has fewer than {TOKEN_LENGTH} characters. Give it as the first line of "
            "standard input, or with --token-file.",
        )
    data = Path(options.data).resolve()
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(data)
        store = Store(data)
    except (FolderBusy, StoreError) as error:
        raise LaunchError(EXIT_DATA, str(error)) from error
    except OSError as error:
        raise LaunchError(
            EXIT_DATA, f"The data folder {data} cannot be written: {error.strerror}."
        ) from error
    try:
        store.recover()
        watched = stdin if options.watch_stdin else None
        asyncio.run(_serve(options, token.strip(), listening, store, watched))
    finally:
        store.close()
        lock.release()
    return 0


async def _serve(
    options: argparse.Namespace,
    token: str,
    listening: socket.socket,
    store: Store,
    watched: object,
) -> None:
    worker = ["--engine", options.engine]
    if options.device:
        worker += ["--device", options.device]
    limits = Limits(options.stall_seconds, options.cancel_seconds)
    folders = [Path(part) for item in options.models for part in item.split(os.pathsep) if part]
    supervisor = Supervisor(store, Catalogue(folders), worker, limits)
    listeners = Listeners()
    loop = asyncio.get_running_loop()

    def on_ready() -> None:
        port = listening.getsockname()[1]
        ready = {"ready": True, "port": port, "protocol": PROTOCOL, "pid": os.getpid()}
        print(json.dumps(ready), flush=True)

    def stop() -> None:
        server.should_exit = True
        listeners.stop()

    app = build_app(store, supervisor, listeners, stop)
    config = uvicorn.Config(
        Guard(app, token),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config, on_ready)
    server.on_signal = lambda: loop.call_soon_threadsafe(stop)

    def wait_for_end() -> None:
        for _ in watched:  # type: ignore[attr-defined]
            pass
        loop.call_soon_threadsafe(stop)

    if watched is not None:
        threading.Thread(target=wait_for_end, daemon=True).start()
    queue = asyncio.create_task(supervisor.run())
    queue.add_done_callback(lambda _: stop())
    try:
        await server.serve([listening])
    finally:
        # Asked again until it ends: before Python 3.12 asyncio.wait_for loses a cancellation that
        # comes in the same moment as what it waits for.
        while not queue.done():
            queue.cancel()
            await asyncio.wait([queue], timeout=0.2)
        await supervisor.stop()
        if not queue.cancelled():
            queue.result()  # a fault in the queue itself is told, not swallowed


def _bind(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform == "win32":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        # Only past a closed connection's wait; on Linux a listening port stays refused.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError as error:
        raise LaunchError(
            EXIT_PORT,
            f"Port {port} cannot be used ({error.strerror}): another program holds it. "
            "Choose another with --port, or 0 for any free one.",
        ) from error
    return listening


def _token_from_file(path: Path) -> str:
    try:
        status = path.stat()
        if os.name != "nt" and (
            stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.getuid()
        ):
            raise LaunchError(
                EXIT_SETTINGS,
                f"The token file {path} can be read by others. Make it yours alone: "
                f"chmod 600 {path}",
            )
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise LaunchError(
            EXIT_SETTINGS, f"The token file {path} cannot be read: {error.strerror}."
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="animatic.server",
        description="The engine service. It listens on this machine only; the access token is the "
        "first line of standard input.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--data", required=True, help="folder for jobs, guides and takes")
    parser.add_argument(
        "--models",
        action="append",
        required=True,
        help=f"folder of checkpoints; several are separated by {os.pathsep!r}",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; the fastest if not given")
    parser.add_argument("--token-file", type=Path, help="file with the token, readable by you only")
    parser.add_argument(
        "--watch-stdin", action="store_true", help="stop when standard input closes"
    )
    parser.add_argument("--stall-seconds", type=float, default=Limits.stall, help=_STALL_HELP)
    parser.add_argument(
        "--cancel-seconds", type=float, default=Limits.cancel, help=argparse.SUPPRESS
    )
    parser.add_argument("--engine", default=DEFAULT_ENGINE, help=argparse.SUPPRESS)
    return parser


_STALL_HELP = "a job without a sign of life for this long counts as hung (default: %(default)g)"
