"""Where the engine and its models lie: in the user's data folder, shared by all Blenders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DATA_VARIABLE = "ANIMATIC_DATA"


def data_folder() -> Path:
    """The user's data folder for Animatic, outside any one Blender's own.

    The variable ANIMATIC_DATA moves it, to a larger disk for example. It may not exist yet.
    """
    named = os.environ.get(DATA_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(base) / "Animatic"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Animatic"
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "animatic"


def models_folder() -> Path:
    """Where downloaded models go when the artist names no other folder."""
    return data_folder() / "models"


def python_in(environment: Path) -> Path:
    """The Python of a virtual environment, as this system lays it out."""
    inside = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    return environment.joinpath(*inside)
