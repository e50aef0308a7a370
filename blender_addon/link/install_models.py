"""The models that Animatic knows, which of them are here, and having the engine download one."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import AnimaticError
from .catalogue import CARD, PRESETS
from .engine_process import find_engine_python, service_program
from .install_command import CommandFailed, Commands
from .install_places import data_folder, models_folder
from .progress import OnEvent

CATALOGUE = PRESETS / "catalogue.json"
LOG = "download.log"
_PREFIX = "@animatic "


@dataclass(frozen=True)
class KnownModel:
    """One entry of the catalogue.

    ``purpose`` says in a sentence what it is for, ``bytes`` is its size on disk, ``part_of`` names
    the model that it belongs to (or None), ``folder`` is where it is or would be.
    """

    name: str
    title: str
    purpose: str
    licence: str
    licence_url: str
    bytes: int
    part_of: str | None
    folder: Path
    installed: bool


def list_known(models: Path | None = None, catalogue: Path = CATALOGUE) -> list[KnownModel]:
    """The catalogue's models, as they stand with this models folder.

    Raises AnimaticError where the catalogue is damaged.
    """
    try:
        entries = json.loads(catalogue.read_text(encoding="utf-8"))["models"]
        return [_known(entry, models or models_folder()) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(catalogue, error) from error


def _damaged(catalogue: Path, error: Exception) -> AnimaticError:
    return AnimaticError(
        f"The catalogue of models {catalogue} is damaged ({type(error).__name__}: {error}). "
        "Install Animatic again."
    )


def _known(entry: dict, models: Path) -> KnownModel:
    files = entry.get("files", [])
    if entry.get("embedded"):
        folder, sign = PRESETS / entry["name"], CARD
    elif entry.get("part_of"):
        # In the order of the catalogue: where the last is, all are.
        folder, sign = models / entry["part_of"] / entry["folder"], files[-1]["to"]
    else:
        folder, sign = models / entry["name"], CARD
    return KnownModel(
        name=entry["name"],
        title=entry["title"],
        purpose=entry["purpose"],
        licence=entry["licence"],
        licence_url=entry["licence_url"],
        bytes=entry.get("bytes") or sum(file["bytes"] for file in files),
        part_of=entry.get("part_of"),
        folder=folder,
        installed=(folder / PurePosixPath(sign)).is_file(),
    )


def refresh_cards(models: Path | None = None, catalogue: Path = CATALOGUE) -> list[str]:
    """Let models that were downloaded before know of parts that may be added since.

    A card gets the entries of the catalogue's that it lacks; what it says already, its owner may
    have changed. Only where it lies beside the very files that the catalogue names. Returns the
    names of the models. Raises AnimaticError where the catalogue is damaged.
    """
    models = models or models_folder()
    try:
        entries = json.loads(catalogue.read_text(encoding="utf-8"))["models"]
        whole = {entry["name"]: entry for entry in entries if "card" in entry}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(catalogue, error) from error
    return [name for name, entry in whole.items() if _refresh(models / name, entry)]


def _refresh(folder: Path, entry: dict) -> bool:
    path, newest = folder / CARD, entry["card"]
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        same = card["files"] == newest["files"] and all(
            (folder / PurePosixPath(file["to"])).stat().st_size == file["bytes"]
            for file in entry["files"]
            if file["sha256"] is not None  # of others the size is not known to the byte
        )
        lacking = newest.keys() - card.keys()
        if not same or not lacking:
            return False
        begun = path.with_suffix(".json.new")
        begun.write_text(json.dumps({**newest, **card}, indent=2), encoding="utf-8")
        begun.replace(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # another model, or a folder of somebody else's: it works as it did
    return True


class ModelDownload:
    """One download in the engine's Python, which another thread may cancel.

    Args:
        name: a name from the catalogue.
        online: whether Blender's preferences allow network access.
        models: the models folder; the one in the user's data folder if None.
        python: the engine's Python; searched for if None.
    """

    def __init__(
        self,
        name: str,
        *,
        online: bool,
        models: Path | None = None,
        python: Path | None = None,
        catalogue: Path = CATALOGUE,
    ) -> None:
        self.name = name
        self._online = online
        self._models = models or models_folder()
        self._python = python
        self._catalogue = catalogue
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop; what is here is kept, and the next download goes on from there."""
        self._cancelled.set()

    def run(self, on_event: OnEvent) -> Path:
        """Download and return the model's folder.

        ``on_event`` gets ``{"phase": "download"|"check", "done", "of", "text"}``: MB (10^6 bytes)
        and the file at hand. Raises AnimaticError with a sentence, Cancelled among them.
        """
        if not self._online:
            raise AnimaticError(
                "Models are loaded from the internet, and Blender's online access is off: switch "
                "on Allow Online Access in Preferences > System, then download again."
            )
        python = find_engine_python(self._python)
        last: dict = {}

        def on_line(line: str) -> None:
            if line.startswith(_PREFIX):
                event = json.loads(line.removeprefix(_PREFIX))
                last.update(event)
                if "phase" in event:
                    on_event(event)

        log = data_folder() / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("", encoding="utf-8")
        command = [*service_program(python), "download", self.name, "--watch-stdin"]
        command += ["--models", str(self._models), "--catalogue", str(self._catalogue)]
        try:
            Commands(log, on_line, self._cancelled).run(command)
        except CommandFailed as error:
            raise AnimaticError(last.get("error") or str(error)) from error
        refresh_cards(self._models, self._catalogue)
        return Path(last["folder"])
