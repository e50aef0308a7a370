"""Makes, repairs and removes the engine's own Python environment in the user's data folder.

It is made under another name and gets its own only when all of it works, so that what is called
``engine`` is whole at any time, whatever ends an installation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import AnimaticError
from .install_command import Commands
from .install_places import data_folder, python_in
from .install_python import VERSIONS, bring_python, find_python, suits
from .install_recipe import Recipe
from .progress import OnEvent

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = "engine"
MARKER = "animatic-engine.json"
LOG = "install.log"
# pip's progress as plain lines came with 24.1.
_PIP = "pip>=25.1,<27"
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_MB = 1_000_000


@dataclass(frozen=True)
class Installed:
    """A finished environment, from its marker.

    ``animatic`` is the version that installed it, ``build`` torch's, ``device`` what torch computes
    on there (cuda, mps, cpu), ``base`` the Python that it was made from.
    """

    animatic: str
    build: str
    device: str
    base: str
    versions: dict[str, str] = field(default_factory=dict)

    def remark(self, version: str) -> str:
        """What the artist should know about it, in a sentence; empty when all is well."""
        if self.animatic != version:
            return (
                f"The engine was installed by Animatic {self.animatic}, this is {version}: "
                "press Repair to bring it up to date."
            )
        if self.build in ("cuda", "rocm") and self.device == "cpu":
            return (
                "The engine cannot use the graphics card and computes on the CPU: update the "
                "card's driver, then press Repair."
            )
        return ""


def engine_folder(data: Path | None = None) -> Path:
    """The environment's folder; it may not exist."""
    return (data or data_folder()) / NAME


def log_file(data: Path | None = None) -> Path:
    """What the last installation wrote."""
    return (data or data_folder()) / LOG


def read_installed(data: Path | None = None) -> Installed | None:
    """The environment that is there, or None. Raises AnimaticError where it is damaged."""
    folder = engine_folder(data)
    if not (folder / MARKER).is_file():
        return None
    try:
        stored = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        installed = Installed(**stored)
    except (OSError, ValueError, TypeError) as error:
        raise AnimaticError(
            f"The engine's environment in {folder} is damaged ({error}): press Repair."
        ) from error
    # A link that leads nowhere is no file: the Python it was made from may have been removed.
    if not python_in(folder).is_file():
        raise AnimaticError(
            f"The Python that the engine was made with is gone ({installed.base}), with a Blender "
            "or a system update perhaps: press Repair."
        )
    return installed


class Installer:
    """One installation or repair, which another thread may cancel; ``run`` may be called once.

    Args:
        recipe: what to install.
        online: whether Blender's preferences allow network access.
        data: the user's data folder.
        python: the Python to make the environment from; searched for, or brought, if None.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        online: bool,
        data: Path | None = None,
        python: Path | None = None,
    ) -> None:
        self._recipe = recipe
        self._online = online
        self._data = data or data_folder()
        self._python = python
        self._cancelled = threading.Event()
        self._on_event: OnEvent = lambda _: None
        self._phase = ""
        self._loaded = 0  # bytes of the files that are finished
        self._loading = 0  # and of the one that is not

    def cancel(self) -> None:
        """Stop within a tenth of a second; what was there before stays as it was."""
        self._cancelled.set()

    def run(self, on_event: OnEvent) -> Installed:
        """Install and return what was installed.

        ``on_event`` gets ``{"phase", "done", "of", "text"}`` from this thread: phases python,
        environment, torch, packages, check; done and of in MB (of is 0 where nothing is counted),
        text the last line. Raises AnimaticError with a sentence, Cancelled among them.
        """
        self._on_event = on_event
        if not self._online:
            raise AnimaticError(
                "The engine is loaded from the internet, and Blender's online access is off: "
                "switch on Allow Online Access in Preferences > System, then install again."
            )
        self._check_disk()
        with _only_one(self._data):
            _sweep(self._data)
            log = log_file(self._data)
            log.write_text("", encoding="utf-8")
            new = self._data / f"{NAME}.new-{uuid.uuid4().hex[:8]}"
            try:
                installed = self._make(new, Commands(log, self._on_line, self._cancelled))
                _publish(new, engine_folder(self._data))
            finally:
                shutil.rmtree(new, ignore_errors=True)
        return installed

    def _make(self, new: Path, commands: Commands) -> Installed:
        self._begin("python")
        base = self._base(commands)
        self._begin("environment")
        commands.run([base, "-I", "-m", "venv", new])
        python = python_in(new)
        pip: list[str | Path] = [python, "-I", "-m", "pip", "install"]
        pip += ["--no-input", "--disable-pip-version-check"]
        commands.run([*pip, "--quiet", _PIP])
        for phase, arguments in self._recipe.steps:
            self._begin(phase)
            commands.run([*pip, "--progress-bar", "raw", *arguments])
        self._begin("check")
        found = json.loads(commands.run([python, "-I", "-c", self._recipe.check])[-1])
        installed = Installed(
            animatic=self._recipe.version,
            build=self._recipe.build,
            device=found["device"],
            base=str(base),
            versions=found["versions"],
        )
        text = json.dumps(asdict(installed), indent=1)
        (new / MARKER).write_text(text, encoding="utf-8")
        return installed

    def _base(self, commands: Commands) -> Path:
        if self._python is not None:
            if suits(self._python) is None:
                raise AnimaticError(
                    f"{self._python} cannot make the engine's environment: it must be a Python "
                    f"{VERSIONS[0]} to {VERSIONS[-1]} with venv and ensurepip."
                )
            return self._python
        return find_python() or bring_python(self._data, commands)

    def _check_disk(self) -> None:
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._data).free // _MB
        except OSError as error:
            raise AnimaticError(
                f"The folder {self._data} cannot be written ({error.strerror}): set the variable "
                "ANIMATIC_DATA to one that can, and start Blender again."
            ) from error
        # pip unpacks what it has loaded while it still holds it.
        wanted = self._recipe.disk_mb + self._recipe.download_mb
        if free < wanted:
            raise AnimaticError(
                f"The engine needs {wanted / 1000:.1f} GB while it is installed, and the disk of "
                f"{self._data} has {free / 1000:.1f} GB free: free some space, or set the variable "
                "ANIMATIC_DATA to a folder on another disk and start Blender again."
            )

    def _begin(self, phase: str) -> None:
        self._phase = phase
        self._tell("")

    def _on_line(self, line: str) -> None:
        progress = _PROGRESS.fullmatch(line.strip())
        if progress is None:
            self._tell(line.strip())
            return
        self._loading = int(progress[1])
        if progress[1] == progress[2]:
            self._loaded += self._loading
            self._loading = 0
        self._tell(None)

    def _tell(self, text: str | None) -> None:
        done, of = (self._loaded + self._loading) // _MB, self._recipe.download_mb
        counted = any(self._phase == phase for phase, _ in self._recipe.steps)
        event: dict = {"phase": self._phase, "done": 0, "of": 0}
        if counted:
            event |= {"done": min(done, of), "of": of}
        if text is not None:
            event["text"] = text
        self._on_event(event)


def remove(data: Path | None = None) -> None:
    """Remove the environment, and a Python that was brought for it. Jobs and models stay.

    Raises AnimaticError where files are in use.
    """
    data = data or data_folder()
    if not data.is_dir():
        return
    with _only_one(data):
        folder = engine_folder(data)
        if folder.exists():
            # Out of the way at once: half an environment must not bear the name.
            _rename(folder, data / f"{NAME}.removed-{uuid.uuid4().hex[:8]}")
        _sweep(data)
        for brought in ("python", "uv"):
            shutil.rmtree(data / brought, ignore_errors=True)


def _publish(new: Path, final: Path) -> None:
    old = final.with_name(f"{NAME}.old-{uuid.uuid4().hex[:8]}")
    if final.exists():
        _rename(final, old)
    try:
        _rename(new, final)
    except AnimaticError:
        if old.exists():
            _rename(old, final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _rename(folder: Path, to: Path) -> None:
    try:
        os.replace(folder, to)
    except OSError as error:
        raise AnimaticError(
            f"The engine's folder {folder} is in use ({error.strerror}): stop the engine, in other "
            "Blenders too, and try again."
        ) from error


def _sweep(data: Path) -> None:
    """Clear what an earlier run left when it was killed, and undo half a change of names."""
    final = engine_folder(data)
    for left in data.glob(f"{NAME}.old-*"):
        if not final.exists() and (left / MARKER).is_file():
            _rename(left, final)
    for kind in ("old", "new", "removed"):
        for left in data.glob(f"{NAME}.{kind}-*"):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the folder against another Blender's installation; a dead one's hold ends with it."""
    with (data / "install.lock").open("a") as file:
        try:
            if sys.platform == "win32":
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AnimaticError(
                "Another Blender is installing or removing the engine: wait until it has finished."
            ) from error
        yield
