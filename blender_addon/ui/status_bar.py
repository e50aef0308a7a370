"""The running job in Blender's status bar, for whoever has the sidebar closed."""

import bpy

from . import session
from .job import State


def draw(self: bpy.types.Header, _context: bpy.types.Context) -> None:
    """Draw the phase, its bar, what is left, and Cancel; then how it ended, until the next job."""
    shown = session.status()
    if not shown.state.busy:
        _draw_end(self.layout, shown.state)
        return
    row = self.layout.row(align=True)
    cancelling = shown.state is State.CANCELLING
    part = row.row()
    part.ui_units_x = 11
    part.progress(factor=shown.fraction, text="Cancelling" if cancelling else shown.phase)
    row.operator("animatic.cancel", text="", icon="X")
    if shown.left and not cancelling:
        row.label(text=shown.left)


def _draw_end(layout: bpy.types.UILayout, state: State) -> None:
    if state is State.FAILED:
        layout.label(text="Animatic: failed, see the sidebar", icon="ERROR")
    elif state is State.DONE:
        _, _, total = session.position()
        # Of a queue this is how the last shot ended: the sidebar tells of the others.
        done = f"through with {total} shots, see the sidebar" if total > 1 else "done"
        layout.label(text=f"Animatic: {done}", icon="CHECKMARK")


def register() -> None:
    """Add it to the status bar."""
    bpy.types.STATUSBAR_HT_header.append(draw)


def unregister() -> None:
    """Take it back."""
    bpy.types.STATUSBAR_HT_header.remove(draw)
