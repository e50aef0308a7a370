"""The clip so far and contact sheets: in the sidebar and in an Image Editor, never in the file."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import bpy.utils.previews
import numpy as np

from .job import Preview
from .presets import look_items, look_thumbnail
from .redraw import windows

CLIP, SHEET = "Animatic Preview", "Animatic Guides"
_COLUMNS = 8  # of the engine's preview pictures
_PLAYED_FPS = 8.0

_ICONS_AT_ONCE = 4

_icons: Any = None  # an ImagePreviewCollection while the extension is enabled
_thumbnails: Any = None  # another, with the takes' first frames
_looks: list[tuple[str, str, str, int, int]] = []  # Blender keeps no reference of its own
_shown = 0  # frames of the clip in the sidebar
_intake: Iterator[bool] | None = None  # yields False while there is more to do


def register() -> None:
    """Begin with no picture."""
    global _icons, _thumbnails
    _icons, _thumbnails = bpy.utils.previews.new(), bpy.utils.previews.new()
    _looks.clear()


def unregister() -> None:
    """Remove every picture of ours."""
    global _icons, _thumbnails
    forget()
    for name in (CLIP, SHEET):
        image = bpy.data.images.get(name)
        if image is not None and image.is_runtime_data:
            bpy.data.images.remove(image)
    bpy.utils.previews.remove(_icons)
    bpy.utils.previews.remove(_thumbnails)
    _icons = _thumbnails = None
    _looks.clear()


def forget() -> None:
    """The clip in the sidebar has ended."""
    global _shown, _intake
    _intake = None
    _icons.clear()
    _shown = 0


def show_clip(preview: Preview) -> None:
    """Take a newer preview of the clip: for the sidebar, and the Image Editor that shows it."""
    begin(preview)
    while go_on():
        pass


def begin(preview: Preview) -> None:
    """Begin to take in a newer preview; ``go_on`` does it piece by piece."""
    global _intake
    _intake = _take_in(preview)


def go_on() -> bool:
    """Do the next few milliseconds of what ``begin`` began; return whether there is more."""
    global _intake
    if _intake is not None and next(_intake, True):
        _intake = None
    return _intake is not None


def _take_in(preview: Preview) -> Iterator[bool]:
    try:
        image = load(CLIP, preview.file)
        width, height = image.size  # Blender decodes the picture for this
    except RuntimeError:
        return
    if not width or not height:
        return
    yield False
    # Between two ticks it may have gone, with Undo or File > Open; the next preview brings it back.
    again = bpy.data.images.get(CLIP)
    if again is None or tuple(again.size) != (width, height):
        return
    pixels = np.empty(width * height * 4, np.float32)
    again.pixels.foreach_get(pixels)
    yield False
    yield from _fill_icons(pixels.reshape(height, width, 4), preview.frames)


def load(name: str, path: Path) -> bpy.types.Image:
    """Show the picture at ``path`` as the image ``name``, which is never saved in the file.

    Raises RuntimeError when it cannot be read.
    """
    image = bpy.data.images.get(name)
    # The artist may have an image of that name.
    if image is None or not image.is_runtime_data:
        image = bpy.data.images.load(str(path))
        image.name = name
        image.is_runtime_data = True
    elif image.filepath == str(path) and image.packed_file is None:
        # Read anew when next asked for; reload() would have every 3D viewport drawn again.
        image.buffers_free()
    else:
        image.filepath = str(path)
        image.reload()
    return image


def has_clip() -> bool:
    """Whether there is a preview to show."""
    return _shown > 0


def icon() -> int:
    """The icon of the frame that is on now, or 0."""
    if not _shown:
        return 0
    return _icons[str(int(time.monotonic() * _PLAYED_FPS) % _shown)].icon_id


def thumbnail(picture: Path) -> int:
    """The icon of a picture on disk, which Blender reads when it is first drawn."""
    name = str(picture)
    known = _thumbnails.get(name) or _thumbnails.load(name, name, "IMAGE")
    return known.icon_id


def looks() -> list[tuple[str, str, str, int, int]]:
    """The looks as items of an EnumProperty, with their pictures; read once."""
    if not _looks:
        for identifier, name, description, number in look_items():
            icon = thumbnail(look_thumbnail(identifier)) if _thumbnails is not None else 0
            _looks.append((identifier, name, description, icon, number))
    return _looks


def open_image(name: str) -> bool:
    """Show the image ``name`` in an Image Editor, a new window's if there is none."""
    image = bpy.data.images.get(name)
    if image is None:
        return False
    for window in windows():
        for area in window.screen.areas:
            if area.type == "IMAGE_EDITOR":
                _show(window, area, image)
                return True
    for window in windows():
        with bpy.context.temp_override(window=window):
            bpy.ops.wm.window_new()
        made = bpy.context.window_manager.windows[-1]
        area = made.screen.areas[0]
        area.type = "IMAGE_EDITOR"
        _show(made, area, image)
        return True
    return False


def _show(window: bpy.types.Window, area: bpy.types.Area, image: bpy.types.Image) -> None:
    area.spaces.active.image = image
    name = image.name

    def fit() -> None:
        # Later: a new editor has no size yet. It may be closed by then, or show something else.
        if area not in window.screen.areas[:] or area.type != "IMAGE_EDITOR":
            return
        shown = area.spaces.active.image
        region = next((each for each in area.regions if each.type == "WINDOW"), None)
        if region is not None and shown is not None and shown.name == name:
            with bpy.context.temp_override(window=window, area=area, region=region):
                bpy.ops.image.view_all(fit_view=True)

    bpy.app.timers.register(fit, first_interval=0.2)


def _fill_icons(sheet: np.ndarray, frames: int) -> Iterator[bool]:
    """Cut ``sheet``, float [H, W, 4] from the bottom up, into the frames of the sidebar's clip."""
    global _shown
    columns = min(_COLUMNS, frames)
    rows = -(-frames // columns)
    height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
    if _shown != frames:
        _shown = 0
        _icons.clear()
    for k in range(frames):
        row, column = rows - 1 - k // columns, k % columns
        part = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
        picture = _icons.get(str(k)) or _icons.new(str(k))
        picture.image_size = (width, height)
        picture.image_pixels_float.foreach_set(np.ascontiguousarray(part).ravel())
        if k % _ICONS_AT_ONCE == _ICONS_AT_ONCE - 1:
            yield False
    _shown = frames
