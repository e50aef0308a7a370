"""The guide frames in the Timeline and the Dope Sheet, drawn over it: no marker of the artist's."""

from typing import Any

import bpy
import gpu
from gpu_extras.batch import batch_for_shader

from .redraw import open_scenes, windows

# Blender's own keyframes are diamonds in white and yellow; these hang from the top in blue.
_COLOUR = (0.33, 0.66, 1.0)
_SIZE = 5.0
_TOP = 27.0  # below the scrubbing bar with the frame numbers

_handler: Any = None
_shown: dict[int, tuple[tuple[int, bool], ...]] = {}  # by the session_uid of the scene


def refresh() -> None:
    """Take in the guide frames of the open scenes; they are drawn again where they changed."""
    now = {scene.session_uid: _guide_frames(scene) for scene in open_scenes()}
    if now == _shown:
        return
    _shown.clear()
    _shown.update(now)
    for window in windows():
        for area in window.screen.areas:
            if area.type == "DOPESHEET_EDITOR":
                area.tag_redraw()


def shown_in(scene: bpy.types.Scene) -> tuple[tuple[int, bool], ...]:
    """The guide frames that the timeline of ``scene`` shows, and whether each is in use."""
    return _shown.get(scene.session_uid, ())


def _guide_frames(scene: bpy.types.Scene) -> tuple[tuple[int, bool], ...]:
    # Without a camera there is no shot that they could hold.
    films = scene.camera is not None or any(marker.camera for marker in scene.timeline_markers)
    frames = scene.animatic.guide_frames if films else ()
    return tuple((item.frame, item.enabled) for item in frames)


def _draw() -> None:
    shown = shown_in(bpy.context.scene)
    if not shown:
        return
    region, scale = bpy.context.region, bpy.context.preferences.system.ui_scale
    top, size = region.height - _TOP * scale, _SIZE * scale
    places = [
        (region.view2d.view_to_region(frame, 0, clip=False)[0], used) for frame, used in shown
    ]
    seen = [(x, used) for x, used in places if -size <= x <= region.width + size]
    for use in (True, False):
        columns = [x for x, used in seen if used is use]
        if columns:
            _draw_columns(columns, top, size, 0.9 if use else 0.3)


def _draw_columns(columns: list[float], top: float, size: float, alpha: float) -> None:
    lines = [(x, y) for x in columns for y in (0, top)]
    flags = [
        corner
        for x in columns
        for corner in ((x - size, top), (x + size, top), (x, top - 2 * size))
    ]
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    gpu.state.blend_set("ALPHA")
    for kind, points, part in (("LINES", lines, 0.4), ("TRIS", flags, 1.0)):
        shader.uniform_float("color", (*_COLOUR, alpha * part))
        batch_for_shader(shader, kind, {"pos": points}).draw(shader)
    gpu.state.blend_set("NONE")


def register() -> None:
    """Draw from now on."""
    global _handler
    space = bpy.types.SpaceDopeSheetEditor
    _handler = space.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def unregister() -> None:
    """Draw no more."""
    global _handler
    bpy.types.SpaceDopeSheetEditor.draw_handler_remove(_handler, "WINDOW")
    _handler = None
    _shown.clear()
