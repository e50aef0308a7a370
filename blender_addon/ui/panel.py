"""The sidebar tab in the 3D View. Drawing reads cached state and computes nothing."""

import textwrap
from functools import lru_cache

import bpy

from . import (
    estimate,
    panel_guides,
    panel_look,
    panel_shots,
    panel_takes,
    pending,
    previews,
    session,
)
from .job import State, Status
from .lists import lists_of
from .panel_parts import Tab


class ANIMATIC_PT_shot(Tab, bpy.types.Panel):
    """Prompt, Generate and what became of it."""

    bl_label = "Animatic"

    def draw(self, context: bpy.types.Context) -> None:
        """From top to bottom: what is filmed, what it shall look like, the button, the result."""
        layout, scene = self.layout, context.scene
        row = layout.row()
        if scene.camera is not None:
            row.label(text=scene.camera.name, icon="OUTLINER_OB_CAMERA")
            span = row.row()
            span.alignment = "RIGHT"
            lists = lists_of(scene)
            span.label(text=lists.span if lists is not None else "")
        else:
            row.label(text="No active camera", icon="ERROR")
        column = layout.column(align=True)
        told = estimate.current(scene)
        column.prop(scene.animatic, "prompt", text="", placeholder=told.example or "Prompt")
        column.prop(scene.animatic, "negative_prompt", text="", placeholder="Avoid")
        if told.remark:
            _draw_sentence(layout, told.remark, _columns(context) + 2, "INFO")
        shown = session.status_in(scene)
        if shown.state.busy:
            _draw_progress(layout, shown, scene)
            return
        row = layout.row()
        row.scale_y = 1.4
        row.operator("animatic.generate", icon="RENDER_ANIMATION")
        _draw_estimate(layout, told)
        _draw_left(layout)
        _draw_result(layout, shown, context)


def _draw_progress(layout: bpy.types.UILayout, shown: Status, scene: bpy.types.Scene) -> None:
    cancelling = shown.state is State.CANCELLING
    title, number, total = session.position()
    elsewhere = session.made_elsewhere(scene)
    if elsewhere:
        layout.label(text=f"For {elsewhere}", icon="SCENE_DATA")
    if total > 1:
        layout.label(text=f"{title}, shot {number} of {total}", icon="SEQUENCE")
    column = layout.column(align=True)
    row = column.row(align=True)
    row.scale_y = 1.4
    row.progress(factor=shown.fraction, text="Cancelling" if cancelling else shown.phase)
    row.operator("animatic.cancel", text="", icon="X")
    if cancelling:
        return
    told = ", ".join(part for part in (shown.detail, shown.left) if part)
    if told:
        column.label(text=told[:1].upper() + told[1:])
    if previews.has_clip():
        layout.template_icon(icon_value=previews.icon(), scale=6)
        layout.operator("animatic.show_preview", icon="IMAGE_DATA")


def _draw_estimate(layout: bpy.types.UILayout, told: estimate.Estimate) -> None:
    row = layout.row()
    row.active = told.short  # beside the button, not above it
    if told.time:
        row.label(text=told.time, icon="PREVIEW_RANGE")
    if told.memory:
        part = row.row()
        part.alignment = "RIGHT"
        part.alert = told.short
        part.label(text=told.memory, icon="ERROR" if told.short else "MEMORY")


def _draw_left(layout: bpy.types.UILayout) -> None:
    queue = pending.offered()
    if queue is None:
        return
    count = len(queue.left)
    shots = f"{count} shot{'s' if count != 1 else ''}"
    box = layout.box()
    box.label(text=f"{shots} left to make", icon="SORTTIME")
    row = box.row(align=True)
    row.operator("animatic.queue_resume", text=f"Resume {shots.title()}")
    row.operator("animatic.queue_discard")


def _draw_result(layout: bpy.types.UILayout, shown: Status, context: bpy.types.Context) -> None:
    if not shown.message:
        return
    columns = _columns(context)
    box = layout.box()
    column = box.column()
    icons = {State.DONE: "CHECKMARK", State.FAILED: "ERROR"}
    _draw_sentence(column, shown.message, columns, icons.get(shown.state, "INFO"))
    for note in shown.notes:
        _draw_sentence(column, note, columns, "DOT")
    if shown.folder is not None:
        box.operator("animatic.open_folder", icon="FILE_FOLDER")


def _columns(context: bpy.types.Context) -> int:
    """Letters in a line of a box: about 7 pixels each, less the box's margins and the icon."""
    scale = context.preferences.system.ui_scale
    return max(16, int(context.region.width / (7 * scale)) - 7)


def _draw_sentence(layout: bpy.types.UILayout, text: str, columns: int, icon: str) -> None:
    column = layout.column(align=True)
    column.scale_y = 0.85
    for number, line in enumerate(_lines(text, columns)):
        column.label(text=line, icon="BLANK1" if number else icon)


@lru_cache(maxsize=64)
def _lines(text: str, columns: int) -> tuple[str, ...]:
    return tuple(line for part in text.splitlines() for line in textwrap.wrap(part, columns))


CLASSES = (
    ANIMATIC_PT_shot,
    *panel_guides.CLASSES,
    *panel_look.CLASSES,
    *panel_takes.CLASSES,
    *panel_shots.CLASSES,
)
