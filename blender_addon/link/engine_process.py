"""Finds the engine's Python, starts the service in it, watches it and ends it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ..errors import AnimaticError
from ..shot.in_use import ScratchFolder
from . import child_process
from .client import EngineClient
from .install import engine_folder, read_installed
from .install_places import python_in

ROOT = Path(__file__).resolve().parents[2]
PYTHON_VARIABLE = "ANIMATIC_ENGINE_PYTHON"
START_LIMIT = 60.0
"""Seconds for the service to listen. It does not load torch for that, but a cold disk is slow."""
STOP_LIMIT = 6.0


class EngineStartError(AnimaticError):
    """The engine could not be started."""


def find_engine_python(explicit: Path | str | None = None, root: Path = ROOT) -> Path:
    """The Python of the engine's environment.

    Looked for in this order: ``explicit``, the variable ANIMATIC_ENGINE_PYTHON, ``.venv/engine``
    under ``root``, the environment that the extension installed, and the Python that runs this if
    it has torch.

    Raises:
        EngineStartError: if there is none, or a named one is not there.
        AnimaticError: if the installed environment is damaged.
    """
    for named, source in (
        (explicit, "The engine's Python"),
        (os.environ.get(PYTHON_VARIABLE), PYTHON_VARIABLE),
    ):
        if named:
            if not os.access(named, os.X_OK) or Path(named).is_dir():
                raise EngineStartError(
                    f"{source} is {named}, which is not a program to run: correct the path."
                )
            return Path(named)
    python = python_in(root / ".venv" / "engine")
    if python.is_file():
        return python
    if read_installed() is not None:
        return python_in(engine_folder())
    if importlib.util.find_spec("torch") is not None:
        return Path(sys.executable)
    raise EngineStartError(
        "The engine is not installed: press Install in the extension's preferences (or run `make "
        "setup` in Animatic's repository). If there is one, name its Python: in the preferences, "
        f"with --engine-python, or in {PYTHON_VARIABLE}."
    )


def service_program(python: Path) -> list[str]:
    """What starts the engine's side: its arguments follow.

    The tree that this file belongs to, when the engine is in it; otherwise the package that is
    installed in the engine's environment.
    """
    launcher = ROOT / "server" / "__main__.py"
    program = [str(launcher)] if launcher.is_file() else ["-m", "animatic.server"]
    # -P: no module of the current folder gets in.
    return [str(python), "-P", *program]


class EngineProcess:
    """The service as a child of this process. It ends when this process does, however that is.

    Use as a context, or call ``start`` and ``stop``.

    Args:
        models: folders with checkpoints.
        data: folder for jobs and takes, kept; a temporary one, removed at the end, if None.
        python: the engine's Python; searched for if None.
        device: cpu, cuda, mps; the engine's choice if None.
        port: 0 for any free one.
        arguments: more arguments of the service.
        environment: variables for it besides this process's own.
    """

    def __init__(
        self,
        models: Sequence[Path],
        data: Path | None = None,
        python: Path | str | None = None,
        device: str | None = None,
        port: int = 0,
        arguments: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self._models = models
        self._data = data
        self._python = python
        self._device = device
        self._asked_port = port
        self._arguments = arguments
        self._environment = environment or {}
        self.token = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[bytes] | None = None
        self._temporary: ScratchFolder | None = None
        self._reader: threading.Thread | None = None
        self._ready: queue.Queue[dict[str, int] | None] = queue.Queue()
        self._tail: deque[str] = deque(maxlen=60)
        self.port = 0

    def __enter__(self) -> EngineProcess:
        """Start the engine."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the engine."""
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the service's process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the service."""
        return None if self._process is None else self._process.pid

    @property
    def log_tail(self) -> str:
        """The last lines that the service and its worker wrote."""
        return "\n".join(self._tail)

    def client(self) -> EngineClient:
        """A client of this engine, which knows at once when the process has ended."""
        return EngineClient("127.0.0.1", self.port, self.token, self.why_gone)

    def why_gone(self) -> str | None:
        """Why the engine does not run any more, in a sentence; None while it runs."""
        if self._process is None:
            return "The engine was stopped."
        code = self._process.poll()
        if code is None:
            return None
        return (
            f"The engine has ended (exit code {code}). {self._last_words()} "
            "Try again: it is started anew."
        )

    def start(self, limit: float = START_LIMIT) -> None:
        """Start the service and wait until it listens.

        Raises:
            EngineStartError: if it ends before that, or takes more than ``limit`` seconds.
        """
        python = find_engine_python(self._python)
        if self._data is None:
            self._temporary = ScratchFolder()
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)  # whatever ends the wait, Ctrl-C included, ends the process
            try:
                self._process = child_process.start(self._command(python), env=self._variables())
            except OSError as error:
                raise EngineStartError(f"{python} cannot be started: {error.strerror}.") from error
            self._reader = threading.Thread(target=self._read_output, daemon=True)
            self._reader.start()
            self._hand_over_token()
            self.port = self._wait_until_ready(limit)
            undo.pop_all()

    def stop(self) -> None:
        """End the service and its worker, and remove a temporary data folder."""
        process = self._process
        if process is not None:
            assert process.stdin is not None
            try:
                process.stdin.close()  # the service's signal to end in order
                process.wait(STOP_LIMIT)
            except (OSError, subprocess.TimeoutExpired):
                child_process.stop(process)
            self._process = None
        if self._reader is not None:
            self._reader.join(STOP_LIMIT)
            self._reader = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _command(self, python: Path) -> list[str]:
        command = [*service_program(python), "--watch-stdin", "--port", str(self._asked_port)]
        command += ["--data", str(self._data or (self._temporary and self._temporary.name))]
        for folder in self._models:
            command += ["--models", str(folder)]
        if self._device:
            command += ["--device", self._device]
        return [*command, *self._arguments]

    def _variables(self) -> dict[str, str]:
        # What Blender's own Python was started with would lead another Python astray.
        foreign = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")
        environment = {key: value for key, value in os.environ.items() if key not in foreign}
        if self._temporary is not None:
            # What torch leaves in its temporary folder goes with ours.
            environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self._temporary.name)
        return {**environment, "PYTHONUNBUFFERED": "1", **self._environment}

    def _hand_over_token(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        # If it ended at once, its own words tell more than a broken pipe.
        with contextlib.suppress(OSError):
            self._process.stdin.write(self.token.encode() + b"\n")
            self._process.stdin.flush()

    def _wait_until_ready(self, limit: float) -> int:
        try:
            ready = self._ready.get(timeout=limit)
        except queue.Empty:
            raise EngineStartError(
                f"The engine did not start within {limit:g} seconds. {self._last_words()}"
            ) from None
        if ready is None:
            raise EngineStartError(f"The engine could not start. {self._last_words()}")
        return ready["port"]

    def _read_output(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for raw in output:
                line = raw.decode("utf-8", "replace").rstrip()
                if line.startswith('{"ready"'):
                    self._ready.put(json.loads(line))
                elif line:
                    self._tail.append(line)
        self._ready.put(None)

    def _last_words(self) -> str:
        if self._reader is not None and not self.alive:
            self._reader.join(1.0)
        return self._tail[-1] if self._tail else "It said nothing."
