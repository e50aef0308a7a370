"""The list of guide frames: kept in the scene, drawn in the sidebar, read by Generate."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import NamedTuple

import bpy

from ..scene.find_keyframes import find_keyframes
from ..scene.shots import Shot
from . import guides_report

_following = True


class Row(NamedTuple):
    """What the list holds of a frame."""

    strength: float = 1.0
    enabled: bool = True
    prompt: str = ""


@contextmanager
def staying_here() -> Iterator[None]:
    """Change the active row without moving the playhead to its frame."""
    global _following
    _following = False
    try:
        yield
    finally:
        _following = True


class AnimaticGuideFrame(bpy.types.PropertyGroup):
    """A scene frame whose guide holds the video."""

    frame: bpy.props.IntProperty(
        name="Frame",
        description="Scene frame at which your blockout holds the video",
        default=1,
    )
    strength: bpy.props.FloatProperty(
        name="Strength",
        description=(
            "How strongly the picture follows the guide at this frame. "
            "Lower lets the model invent more; over 1 can look harsh"
        ),
        default=1.0,
        min=0.0,
        max=2.0,
        soft_max=1.5,
        precision=2,
        step=5,
    )
    enabled: bpy.props.BoolProperty(
        name="Use",
        description="Hold the video at this frame. Off: the model is free here",
        default=True,
    )
    prompt: bpy.props.StringProperty(
        name="Prompt",
        description=(
            "What the picture shows here, where it shall change: the video turns from one prompt "
            "into the next. Empty: nothing changes at this frame"
        ),
        maxlen=4000,
    )


def go_to_active(settings: bpy.types.PropertyGroup, _context: bpy.types.Context) -> None:
    """Move the playhead to the frame of the row that was clicked."""
    index = settings.guide_frames_index
    if _following and 0 <= index < len(settings.guide_frames):
        # As the timeline does; frame_set would evaluate every view layer of the file.
        settings.id_data.frame_current = settings.guide_frames[index].frame


class ANIMATIC_UL_guide_frames(bpy.types.UIList):
    """A row: use, frame, whether it has a prompt, strength; in the order of the frames."""

    def filter_items(self, _context, data, name) -> tuple[list[int], list[int]]:
        """Sort what is shown alone: moving the rows themselves would break a drag on a number."""
        frames = [(index, item.frame) for index, item in enumerate(getattr(data, name))]
        return [], bpy.types.UI_UL_list.sort_items_helper(frames, key=lambda each: each[1])

    def draw_item(self, _context, layout, _data, item, _icon, _active_data, _active_name) -> None:
        """Draw one guide frame."""
        row = layout.row(align=True)
        row.prop(item, "enabled", text="")
        held = row.split(factor=0.58, align=True)
        held.active = item.enabled
        # A number field would take the click that chooses the row.
        named = held.row(align=True)
        picture = guides_report.picture(item.id_data, item.frame)
        if picture:
            named.label(text=f"Frame {item.frame}", icon_value=picture)
        else:
            named.label(text=f"Frame {item.frame}", icon="BLANK1")
        if item.prompt:
            named.label(text="", icon="TEXT")
        held.prop(item, "strength", text="", slider=True)


def listed_in(scene: bpy.types.Scene, shot: Shot) -> list[AnimaticGuideFrame]:
    """The guide frames of the list that lie in ``shot`` and are in use, by frame."""
    inside = [
        item
        for item in scene.animatic.guide_frames
        if item.enabled and shot.start <= item.frame <= shot.end
    ]
    return sorted(inside, key=lambda item: item.frame)


def keyframes_text(scene: bpy.types.Scene, shot: Shot, suited: str | None) -> str:
    """The guide frames of ``shot`` as the command line spells them.

    A shot with none in the list is held as ``suited`` to the model; where its card says nothing of
    that, where the camera is keyed, and at both ends where that is nowhere.
    """
    listed = {item.frame: item.strength for item in listed_in(scene, shot)}
    if listed:
        return ",".join(f"{frame}@{strength:.3g}" for frame, strength in listed.items())
    if suited is not None:
        return suited
    inside = [f for f in find_keyframes(scene, shot, "camera") if shot.start <= f < shot.end + 1]
    return "camera" if inside else f"{shot.start},{shot.end}"


def keyed_prompts(scene: bpy.types.Scene, shot: Shot) -> list[tuple[int, str]]:
    """The frames of ``shot`` at which the prompt changes, and what to."""
    return [
        (item.frame, item.prompt.strip()) for item in listed_in(scene, shot) if item.prompt.strip()
    ]


def replace_in_shot(scene: bpy.types.Scene, shot: Shot, frames: list[Fraction]) -> int:
    """Let the list hold ``frames`` (rounded) in ``shot``; return how many there are now.

    A frame that was there keeps its strength and prompt; other shots keep their frames.
    """
    settings = scene.animatic
    before = rows_of(settings)
    wanted = sorted({min(round(frame), shot.end) for frame in frames})
    rows = {frame: row for frame, row in before.items() if not shot.start <= frame <= shot.end}
    rows |= {frame: before.get(frame, Row()) for frame in wanted}
    rewrite(settings, rows)
    return len(wanted)


def rows_of(settings: bpy.types.PropertyGroup) -> dict[int, Row]:
    """The list by frame."""
    return {
        item.frame: Row(item.strength, item.enabled, item.prompt) for item in settings.guide_frames
    }


def rewrite(settings: bpy.types.PropertyGroup, rows: dict[int, Row]) -> None:
    """Fill the list with ``rows`` by frame; the playhead stays."""
    with staying_here():
        settings.guide_frames.clear()
        settings.guide_frames_index = 0
        for frame in sorted(rows):
            item = settings.guide_frames.add()
            item.frame = frame
            item.strength, item.enabled, item.prompt = rows[frame]
