"""What the last guides were made of, in words that the panel draws: near and far."""

from dataclasses import dataclass

import bpy


@dataclass(frozen=True)
class GuidesReport:
    """Distances from the camera, as the scene's units write them."""

    near: str
    far: str


_last: GuidesReport | None = None


def last() -> GuidesReport | None:
    """The depth range of the last depth guides."""
    return _last


def remember(result: dict) -> None:
    """Keep what the panel shows of ``result``, the result of the guides task."""
    global _last
    depth = result["depth"]
    _last = GuidesReport(_distance(depth["near"]), _distance(depth["far"])) if depth else None


def forget() -> None:
    """Another file is open."""
    global _last
    _last = None


def _distance(value: float) -> str:
    units = bpy.context.scene.unit_settings
    return bpy.utils.units.to_string(
        units.system, "LENGTH", value * units.scale_length, precision=3
    )
