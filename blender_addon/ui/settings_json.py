"""Settings of a run as JSON and back, so that a run can wait on disk. No bpy."""

from __future__ import annotations

import dataclasses
import types
import typing
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

_Kind = TypeVar("_Kind")


def to_json(value: Any) -> Any:
    """Return a dataclass of dataclasses, tuples, paths, fractions and JSON's own types as JSON."""
    if dataclasses.is_dataclass(value):
        return {each.name: to_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Path | Fraction):
        return str(value)
    if isinstance(value, tuple | list):
        return [to_json(each) for each in value]
    return value


def from_json(kind: type[_Kind], value: Any) -> _Kind:
    """Return what ``to_json`` was given, an object of the dataclass ``kind``.

    Raises ValueError or TypeError where ``value`` is not of it, or of a later version of it.
    """
    known = {each.name for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(value, dict) or not set(value) <= known:
        raise ValueError(f"not the JSON of a {kind.__name__}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _read(hints[name], each) for name, each in value.items()})


def _read(kind: Any, value: Any) -> Any:
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        return _read(next(each for each in arguments if each is not types.NoneType), value)
    if typing.get_origin(kind) is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_read(each, part) for each, part in zip(kinds, value, strict=True))
    if dataclasses.is_dataclass(kind):
        return from_json(typing.cast(type, kind), value)
    return kind(value) if kind in (Path, Fraction, float) else value
