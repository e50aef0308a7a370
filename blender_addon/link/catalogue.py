"""Finds a checkpoint by name or folder, and reads the card that says what it can do."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from ..errors import AnimaticError
from ..shot.errors import ShotError
from ..shot.keyframes import parse_keyframes
from ..shot.vocabulary import Vocabulary

PRESETS = Path(__file__).resolve().parents[2] / "presets"
CARD = "animatic.json"
LORAS = "loras"
LORA_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class FewSteps:
    """A LoRA with which a model needs few steps, and no guidance: so many at each quality level.

    At levels that are not among them it samples as usual.
    """

    lora: str
    steps: Mapping[str, int]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder and what its card promises.

    ``native`` is the side in pixels of the square picture it was trained on, ``frames`` and ``fps``
    its clip, ``guides`` the guides it has an encoder for and ``encoders`` the kinds of each, usual
    one first (see the request's schema), ``lineart_width`` the width in pixels of the lines it was
    trained on; ``image_prompt`` says whether it takes reference pictures, ``few_steps`` is what it
    has for few steps; after a share of ``guidance_end`` of the steps it needs no guidance, and
    ``schedule`` is the noise schedule (of the request's sampling) where it is not the model's own.
    ``keyframes`` says for a guide which keyframes the model is best held at, where nobody chose
    any (as the command line spells them); for the others that is at the camera's keys.
    ``deflicker`` says whether its frames are the better for being steadied along motion.
    ``vocabulary`` are the words of a model that has learned few.
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
    encoders: dict[str, tuple[str, ...]] = field(default_factory=dict)
    image_prompt: bool = False
    few_steps: FewSteps | None = None
    guidance_end: float = 1.0
    schedule: str | None = None
    keyframes: Mapping[str, str] = field(default_factory=dict)
    deflicker: bool = False
    vocabulary: Vocabulary | None = None


def find_checkpoint(model: str, folders: list[Path]) -> Checkpoint:
    """Return the checkpoint that ``model`` names: a folder, or a name in ``folders`` or presets.

    Raises AnimaticError when there is none (the names there are stand in the sentence) or when its
    card is missing or damaged.
    """
    # Of os.path, for it takes any text that is typed, such as a prompt.
    folder = Path(os.path.expanduser(model))
    if not os.path.isfile(folder / CARD):
        found = [each for each in _folders(folders) if model in (each.name, _name(each))]
        if not found:
            if os.path.isdir(folder):
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


def _name(folder: Path) -> str:
    """The model's name; none where the card is damaged, which is told when it is asked for."""
    try:
        return _read_card(folder).name
    except AnimaticError:
        return ""


def _read_card(folder: Path) -> Checkpoint:
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        native, defaults = card["native"], card["defaults"]
        encoders = _encoders(folder, card)
        return Checkpoint(
            folder=folder,
            name=str(card["name"]),
            native=int(native["width"]),
            frames=int(native["frames"]),
            fps=Fraction(str(native["fps"])),
            guides=tuple(encoders),
            steps=int(defaults["steps"]),
            guidance=float(defaults["guidance"]),
            guidance_end=float(defaults.get("guidance_end", 1.0)),
            schedule=defaults.get("schedule"),
            keyframes=read_keyframes(defaults),
            deflicker=bool(defaults.get("deflicker", False)),
            lineart_width=float(card["lineart_width"]),
            encoders=encoders,
            image_prompt=_takes_pictures(folder, card),
            few_steps=read_few_steps(card),
            vocabulary=Vocabulary.read(card),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnimaticError(
            f"{path} is damaged or incomplete ({type(error).__name__}: {error}). "
            "Install the model again."
        ) from error


def _encoders(folder: Path, card: dict) -> dict[str, tuple[str, ...]]:
    """The kinds of encoder for each guide; image ControlNets are parts that may not be there."""
    kinds: dict[str, tuple[str, ...]] = dict.fromkeys(card["guides"], ("sparse",))
    for guide, part in card.get("image_guides", {}).items():
        if (folder / part).exists():
            kinds[guide] = (*kinds.get(guide, ()), "image")
    # In the order of the engine.
    return {guide: kinds[guide] for guide in ("depth", "lineart", "render") if guide in kinds}


def read_keyframes(defaults: dict) -> dict[str, str]:
    """Which keyframes a card's ``defaults`` name for which guide; ValueError for bad ones."""
    told = {guide: str(text) for guide, text in dict(defaults.get("keyframes", {})).items()}
    for text in told.values():
        try:
            parse_keyframes(text)
        except ShotError as error:
            raise ValueError(error) from error
    return told


def read_few_steps(card: dict) -> FewSteps | None:
    """What a card, or an engine's description of it, says of few steps."""
    told = card.get("few_steps")
    if not told:
        return None
    return FewSteps(str(told["lora"]), {level: int(n) for level, n in dict(told["steps"]).items()})


def _takes_pictures(folder: Path, card: dict) -> bool:
    parts = card.get("image_prompt")
    if not parts:
        return False
    adapter = folder / parts["adapter"]
    return (folder / parts["encoder"]).is_dir() and any(
        path.is_file() for path in adapter.parent.glob(f"{adapter.name}*")
    )


def find_lora(checkpoint: Checkpoint, name: str) -> str | None:
    """The SHA-256 of the LoRA file called ``name`` (its suffix may be left out) for ``checkpoint``.

    It lies in ``loras/``, in the checkpoint's folder or beside it. None where the checkpoint lies
    with a remote engine, which then finds the file by its name. Raises AnimaticError, naming those
    there are, where there is none.
    """
    if checkpoint.folder == Path():
        return None
    places = [checkpoint.folder / LORAS, checkpoint.folder.parent / LORAS]
    files = [
        path
        for place in places
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.suffix in LORA_SUFFIXES
    ]
    for path in files:
        if name in (path.name, path.stem):
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    there = ", ".join(sorted({path.stem for path in files})) or "none"
    raise AnimaticError(
        f"There is no LoRA {name!r} for {checkpoint.name}; there are: {there}. Put its file into "
        f"{places[0]} or {places[1]}."
    )
