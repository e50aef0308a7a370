"""The engine as the preferences show it: installed, started, asked how it is. No bpy.

Threads do the work and write the state; drawing reads it and computes nothing.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ... import __version__
from ..errors import AnimaticError, Cancelled
from ..link import install
from ..link.engine_process import EngineProcess, EngineStartError, find_engine_python
from ..link.install_models import KnownModel, ModelDownload, list_known
from ..link.install_recipe import engine_recipe
from ..link.install_torch import Build, choose_build
from ..link.remote import LocalEngine, RemoteEngine

POLL_S = 1.0
PHASES = {
    "python": "Looking for Python",
    "environment": "Making the environment",
    "torch": "Loading torch",
    "packages": "Loading libraries",
    "check": "Checking",
    "download": "Downloading",
    "remove": "Removing",
    "stop": "Stopping",
}
# How long Blender's end waits for programs that were told to stop.
LEAVE_S = 10.0


class State(Enum):
    """The engine's state; its value is the word that the artist reads."""

    NOT_INSTALLED = "Not installed"
    INSTALLING = "Installing"
    STOPPED = "Stopped"
    STARTING = "Starting"
    READY = "Ready"
    BUSY = "Busy"
    FAILED = "Failed"


@dataclass
class Progress:
    """What a thread is at: ``fraction`` 0 to 1, ``line`` the last line of the program at work."""

    phase: str = ""
    fraction: float = 0.0
    counted: str = ""
    line: str = ""

    def take(self, event: dict) -> None:
        """Take in an event of an installation or a download."""
        self.phase = PHASES.get(event["phase"], event["phase"])
        done, of = event["done"], event["of"]
        self.fraction = done / of if of else 0.0
        self.counted = f"{done} of {of} MB" if done else ""
        self.line = event.get("text", self.line)


@dataclass
class EngineControl:
    """The one engine of this Blender.

    ``state`` is a word, ``message`` a sentence about what went wrong, ``note`` one about what is
    installed; ``own`` says whether the environment is one that the extension made; ``build`` is
    the torch that suits this machine (None where there is none); ``downloading`` is the name of
    the model on its way, ``model_message`` a sentence about the last one. ``changes`` grows with
    every change.
    """

    state: State = State.NOT_INSTALLED
    message: str = ""
    note: str = ""
    own: bool = False
    build: Build | None = None
    progress: Progress = field(default_factory=Progress)
    remote_state: State = State.STOPPED
    remote_message: str = ""
    models: list[KnownModel] = field(default_factory=list)
    downloading: str = ""
    model_message: str = ""
    model_progress: Progress = field(default_factory=Progress)
    changes: int = 0

    def __post_init__(self) -> None:
        self._task: threading.Thread | None = None
        self._download: threading.Thread | None = None
        self._cancel: Callable[[], None] = lambda: None
        self._cancel_download: Callable[[], None] = lambda: None
        self._process: EngineProcess | None = None
        self._folders: list[Path] = []
        self._python: Path | None = None
        self._leaving = False

    @property
    def working(self) -> bool:
        """Whether an installation, a start or a removal is under way."""
        return self._task is not None and self._task.is_alive()

    @property
    def active(self) -> bool:
        """Whether anything may change by itself."""
        return self.working or bool(self.downloading) or self._process is not None

    def running(self) -> LocalEngine | None:
        """The engine that was started here, for a generation to use."""
        process = self._process
        if process is None or self.state not in (State.READY, State.BUSY):
            return None
        return LocalEngine(process, self._folders)

    def refresh(self, python: Path | None, models: Path | None) -> None:
        """Look at what is installed. Reads a few small files; for button presses, not drawing.

        ``python`` is the engine's Python that the artist named, ``models`` the models folder.
        """
        self._python, self._leaving = python, False
        try:
            self.models = list_known(models)
            self.model_message = ""
        except AnimaticError as error:
            self.model_message = str(error)
        if not self.working and self._process is None:
            unsuited = ""
            try:
                self.build = choose_build()
            except AnimaticError as error:
                unsuited = str(error)
            self._look("")
            if self.state is State.NOT_INSTALLED:
                self.message = unsuited
        self._changed()

    def install(self, build: str, online: bool) -> None:
        """Install or repair, in a thread. Raises AnimaticError where nothing can be installed."""
        installer = install.Installer(engine_recipe(build), online=online)

        def work() -> None:
            self._end()
            installer.run(self._on_install)

        self._run(State.INSTALLING, work, installer.cancel)

    def remove(self) -> None:
        """Remove the environment that the extension made, in a thread."""

        def work() -> None:
            self._end()
            install.remove()

        self._run(State.BUSY, work, phase="remove")

    def start(self, folders: list[Path]) -> None:
        """Start the engine with these model folders, in a thread; one that runs ends before."""

        def work() -> None:
            self._end()
            process = EngineProcess(models=folders, python=self._python)
            process.start()
            if self._leaving:
                process.stop()
                return
            self._process, self._folders = process, folders
            threading.Thread(target=self._watch, args=(process,), daemon=True).start()

        self._run(State.STARTING, work)

    def stop(self) -> None:
        """End the engine, in a thread; its job, if it has one, ends too."""
        self._run(State.BUSY, self._end, phase="stop")

    def cancel(self) -> None:
        """Break off an installation."""
        self._cancel()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for what is under way, a download too."""
        for thread in (self._task, self._download):
            if thread is not None and thread is not threading.current_thread():
                thread.join(seconds)

    def leave(self) -> None:
        """Break off everything and end the engine: Blender or the extension ends."""
        self._leaving = True
        self._cancel()
        self._cancel_download()
        self.wait(LEAVE_S)
        self._end()

    def check_remote(self, engine: RemoteEngine) -> None:
        """Ask a remote engine how it is, in a thread."""
        self.remote_state, self.remote_message = State.STARTING, ""

        def work() -> None:
            try:
                health = engine.client().health()
                names = [model["name"] for model in engine.client().models()]
            except Exception as error:
                self.remote_state, self.remote_message = State.FAILED, _sentence(error)
            else:
                self.remote_state = _state_of(health)
                self.remote_message = (
                    f"Animatic {health['version']} on {health['device'] or 'no device yet'}, "
                    f"with {', '.join(names) or 'no models'}."
                )
            self._changed()

        self._task = threading.Thread(target=work, name="animatic-remote", daemon=True)
        self._task.start()
        self._changed()

    def download(
        self, name: str, *, online: bool, models: Path | None, python: Path | None
    ) -> None:
        """Download a model of the catalogue, in a thread; one at a time."""
        if self.downloading:
            raise AnimaticError(f"{self.downloading} is on its way: wait for it or cancel it.")
        work = ModelDownload(name, online=online, models=models, python=python)
        self.downloading, self.model_message = name, ""
        self.model_progress, self._cancel_download = Progress("Starting"), work.cancel

        def run() -> None:
            try:
                work.run(self._on_download)
                self.models = list_known(models)
            except Cancelled:
                self.model_message = "Stopped. What is here is kept; Download goes on from there."
            except Exception as error:
                self.model_message = _sentence(error)
            finally:
                self.downloading = ""
                self._changed()

        self._download = threading.Thread(target=run, name="animatic-download", daemon=True)
        self._download.start()
        self._changed()

    def cancel_download(self) -> None:
        """Break off a download; what is here is kept."""
        self._cancel_download()

    def _run(
        self,
        state: State,
        work: Callable[[], object],
        cancel: Callable[[], None] = lambda: None,
        phase: str = "",
    ) -> None:
        self.state, self.message, self._cancel = state, "", cancel
        self.progress = Progress(PHASES.get(phase, ""))

        def run() -> None:
            failed = ""
            try:
                work()
            except Cancelled:
                pass
            except Exception as error:
                failed = _sentence(error)
            self._cancel = lambda: None
            self._look(failed)
            self._changed()

        self._task = threading.Thread(target=run, name="animatic-engine", daemon=True)
        self._task.start()
        self._changed()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def _look(self, failed: str) -> None:
        """Find out what is true; ``failed`` is a sentence about the work that came before."""
        self.own, self.note = False, ""
        state = State.STOPPED
        try:
            installed = install.read_installed()
            self.own = installed is not None
            if installed is not None and self._python is None:
                self.note = installed.remark(__version__)
            find_engine_python(self._python)
        except EngineStartError as error:
            state = State.NOT_INSTALLED
            if self._python is not None:
                failed = failed or str(error)
        except AnimaticError as error:  # there is one, but damaged
            self.own, failed = True, failed or str(error)
        if self._process is not None:
            state = State.READY
        self.state, self.message = (State.FAILED if failed else state), failed

    def _watch(self, process: EngineProcess) -> None:
        """Ask the engine once a second how it is, until it is stopped or gone."""
        pause = threading.Event()
        while self._process is process:
            gone = process.why_gone()
            if gone is not None:
                if self._process is process:
                    self._process = None
                    process.stop()
                    self.state, self.message = State.FAILED, gone
                    self._changed()
                return
            try:
                state = _state_of(process.client().health())
            except AnimaticError:
                pause.wait(POLL_S)
                continue  # why it is gone is asked next
            if self._process is process and state is not self.state:
                self.state = state
                self._changed()
            pause.wait(POLL_S)

    def _on_install(self, event: dict) -> None:
        self.progress.take(event)
        self._changed()

    def _on_download(self, event: dict) -> None:
        self.model_progress.take(event)
        self._changed()

    def _changed(self) -> None:
        self.changes += 1


def _sentence(error: Exception) -> str:
    """What the artist reads of it; a thread that died of it would leave its work as under way."""
    if isinstance(error, AnimaticError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}. The system console shows more."


def _state_of(health: dict) -> State:
    return State.BUSY if health["worker"] == "busy" or health["queue"] else State.READY
