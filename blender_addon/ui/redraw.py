"""Has the sidebars, the status bar and the pictures of ours drawn again."""

from collections.abc import Iterator

import bpy


def windows() -> Iterator[bpy.types.Window]:
    """The windows of Blender; none in the background."""
    manager = bpy.context.window_manager
    if manager is not None and not bpy.app.background:
        yield from manager.windows


def open_scenes() -> list[bpy.types.Scene]:
    """The scenes that windows show, and a script's own: each has a panel of its own."""
    shown = [bpy.context.scene, *(window.scene for window in bpy.context.window_manager.windows)]
    return list(dict.fromkeys(shown))


def in_a_tool() -> bool:
    """Whether the artist is in the middle of something: a stroke, a move, a box that is drawn."""
    return any(window.modal_operators for window in windows())


def redraw(status_bar: bool = True) -> None:
    """Draw what shows a job once more.

    ``status_bar``: not for every frame of a preview, since it wipes the words of a tool in use.
    """
    for window in windows():
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()
            elif area.type == "IMAGE_EDITOR":
                area.tag_redraw()
        if status_bar:
            # It is in no screen's list of areas; setting its text draws it again.
            with bpy.context.temp_override(window=window):
                window.workspace.status_text_set_internal(None)
