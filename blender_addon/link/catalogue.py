"""Finds a checkpoint by name or folder, and reads the card that says what it can do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..errors import AnimaticError

PRESETS = Path(__file__).resolve().parents[2] / "presets"
CARD = "animatic.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder and what its card promises.

    ``native`` is the side in pixels of the square picture it was trained on, ``frames`` and ``fps``
    its clip, ``guides`` the guides it has an encoder for, ``lineart_width`` the width in pixels of
    the lines it was trained on.
    """

    folder: Path
    name: str
    native: int
    frames: int
    fps: Fraction
    guides: tuple[str, ...]
    steps: int
    guidance: float
    lineart_width: float


def find_checkpoint(model: str, folders: list[Path]) -> Checkpoint:
    """Return the checkpoint that ``model`` names: a folder, or a name in ``folders`` or presets.

    Raises AnimaticError when there is none (the names there are stand in the sentence) or when its
    card is missing or damaged.
    """
    folder = Path(model).expanduser()
    if not (folder / CARD).is_file():
        found = [c.folder for c in list_checkpoints(folders) if model in (c.name, c.folder.name)]
        if not found:
            if folder.is_dir():
                raise AnimaticError(
                    f"{folder} holds no {CARD}: it is not a checkpoint folder for Animatic. "
                    "See presets/blockout-mini for the layout."
                )
            known = ", ".join(path.name for path in _folders(folders)) or "none"
            raise AnimaticError(
                f"There is no model called {model!r}. "
                f"Known here: {known}; or give the path of a folder."
            )
        folder = found[0]
    return _read_card(folder.resolve())


def list_checkpoints(folders: list[Path]) -> list[Checkpoint]:
    """Return the checkpoints in ``folders`` and presets; AnimaticError where a card is bad."""
    return [_read_card(folder) for folder in _folders(folders)]


def _folders(places: list[Path]) -> list[Path]:
    return [card.parent for place in [*places, PRESETS] for card in sorted(place.glob(f"*/{CARD}"))]


def _read_card(folder: Path) -> Checkpoint:
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        native, defaults = card["native"], card["defaults"]
        return Checkpoint(
            folder=folder,
            name=str(card["name"]),
            native=int(native["width"]),
            frames=int(native["frames"]),
            fps=Fraction(str(native["fps"])),
            guides=tuple(card["guides"]),
            steps=int(defaults["steps"]),
            guidance=float(defaults["guidance"]),
            lineart_width=float(card["lineart_width"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnimaticError(
            f"{path} is damaged or incomplete ({type(error).__name__}: {error}). "
            "Install the model again."
        ) from error
