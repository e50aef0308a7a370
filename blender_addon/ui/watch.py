"""Twice a second: what the panel shows is brought up to date, so that drawing computes nothing."""

import traceback

import bpy

from . import estimate, pending, take_index, timeline

WATCH_S = 0.5


def _first_look() -> None:
    pending.first_look()
    take_index.read_disk()


def _watch() -> float:
    try:
        take_index.refresh()
        estimate.refresh()
        timeline.refresh()
    except Exception:
        traceback.print_exc()  # Blender drops a timer that raises, and the panel would stand still
    return WATCH_S


def register() -> None:
    """Watch; the first look is the timer's, since enabling an extension may not read the scene."""
    if not bpy.app.background:
        bpy.app.timers.register(_first_look, first_interval=0.0)
        bpy.app.timers.register(_watch, first_interval=WATCH_S, persistent=True)


def unregister() -> None:
    """Stop watching."""
    for timer in (_first_look, _watch):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
