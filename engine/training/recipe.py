"""Recipes: sizes, data, rates and shares of every stage, one TOML file in presets/training."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..errors import EngineError
from .architecture import SIZES, ModelSize
from .image import Teaching
from .loop import OPTIMIZERS, LoopConfig

FOLDER = Path(__file__).resolve().parents[2] / "presets" / "training"
Recipe = dict[str, dict[str, Any]]


def read_recipe(name: str) -> Recipe:
    """The recipe in a file, or the one of that name that comes with Animatic.

    What it says comes before what the recipe says that it ``extends``, entry by entry; only its
    [shares] replace all of them. Raises FileNotFoundError with the names there are.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise FileNotFoundError(f"There is no recipe {path}. Name a .toml file, or one of {known}.")
    told: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    extended = told.pop("extends", None)
    if extended is None:
        return told
    whole = read_recipe(extended)
    for table, entries in told.items():
        whole[table] = entries if table == "shares" else whole.get(table, {}) | entries
    return whole


def entry(recipe: Recipe, table: str, name: str) -> Any:
    """One value. Raises EngineError, naming it, where the recipe does not have it."""
    try:
        return recipe[table][name]
    except KeyError:
        raise EngineError(
            f"The recipe says nothing of {name} in [{table}]: add it there."
        ) from None


def model_size(recipe: Recipe) -> ModelSize:
    """The shape of a model made from nothing, and the size of ray-cast pictures."""
    table: dict[str, Any] = dict(recipe["model"])
    size = SIZES[table.pop("size", "mini")]
    told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return replace(size, **told)


def loop_config(recipe: Recipe, stage: str, minutes: float | None, seed: int) -> LoopConfig:
    """The loop's settings for a stage; ``minutes`` replaces the recipe's where given."""
    names = {field.name for field in fields(LoopConfig)}
    told = {name: value for name, value in recipe.get(stage, {}).items() if name in names}
    for name in ("minutes", "learning_rate", "batch"):
        told[name] = entry(recipe, stage, name)
    if minutes is not None:
        told["minutes"] = minutes
    config = LoopConfig(**told, seed=seed)
    if config.optimizer not in OPTIMIZERS:
        raise EngineError(
            f"The recipe's [{stage}] asks for the optimizer {config.optimizer!r}: choose "
            f"{' or '.join(OPTIMIZERS)}."
        )
    if config.steps:
        config = replace(config, warmup=max(1, min(config.warmup, config.steps // 5)))
    return config


def teaching(recipe: Recipe, stage: str, guides: Mapping[str, float]) -> Teaching:
    """What a stage is shown, held to ``guides`` in these shares of the batches."""
    blurred = entry(recipe, stage, "blurred_depth") if "depth" in guides else 0.0
    return Teaching(guides, entry(recipe, stage, "text_dropout"), blurred)
