"""The catalogue of known models, presets/catalogue.json: what each is, and the files it is of."""

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

CATALOGUE = Path(__file__).resolve().parents[1] / "presets" / "catalogue.json"
CARD = "animatic.json"


class ModelError(Exception):
    """A model cannot be downloaded; the text is a sentence."""


@dataclass(frozen=True)
class ModelFile:
    """One file on the hub.

    ``file`` is its path in ``repository`` at ``revision`` (a commit), ``to`` its path in the
    model's folder; ``bytes`` its size, rounded for small files; ``sha256`` its content's hash,
    None where the one that the hub has for this commit counts.
    """

    repository: str
    revision: str
    file: str
    to: PurePosixPath
    bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Model:
    """One entry that can be downloaded.

    ``folder`` is its place under the models folder; ``card`` what its animatic.json shall say,
    None for a part of another model (``part_of``).
    """

    name: str
    folder: PurePosixPath
    files: tuple[ModelFile, ...]
    card: dict[str, Any] | None
    part_of: str | None

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def last_file(self) -> PurePosixPath:
        """The file whose presence says that the model is whole."""
        return PurePosixPath(CARD) if self.card is not None else self.files[-1].to


def read_catalogue(path: Path = CATALOGUE) -> list[Model]:
    """The entries that can be downloaded. Raises ModelError where the catalogue is damaged."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["models"]
        return [_model(entry) for entry in entries if not entry.get("embedded")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The catalogue of models {path} is damaged ({type(error).__name__}: {error}). "
            "Install Animatic again."
        ) from error


def find_model(name: str, path: Path = CATALOGUE) -> Model:
    """The entry with this name. Raises ModelError, naming those that there are."""
    models = {model.name: model for model in read_catalogue(path)}
    if name not in models:
        raise ModelError(
            f"The catalogue has no model {name!r} to download. It has: {', '.join(models)}."
        )
    return models[name]


def _model(entry: dict[str, Any]) -> Model:
    part_of = entry.get("part_of")
    folder = PurePosixPath(part_of, entry["folder"]) if part_of else PurePosixPath(entry["name"])
    files = tuple(
        ModelFile(
            repository=str(file["repository"]),
            revision=str(file["revision"]),
            file=str(file["file"]),
            to=PurePosixPath(file["to"]),
            bytes=int(file["bytes"]),
            sha256=file["sha256"],
        )
        for file in entry["files"]
    )
    for path in (folder, *(file.to for file in files)):
        if not all(re.fullmatch(r"\w[\w.-]*", part) for part in path.parts):
            raise ValueError(f"{path} is no plain path")
    return Model(str(entry["name"]), folder, files, entry.get("card"), part_of)
