"""The sub-panel of the guides: which, at which frames, how strongly, and a look at them."""

import bpy

from . import estimate, guides_report
from .panel_parts import SubPanel, override, split_column


class ANIMATIC_PT_guides(SubPanel, bpy.types.Panel):
    """Which guide, at which frames."""

    bl_label = "Guide Frames"
    bl_order = 1

    def draw(self, context: bpy.types.Context) -> None:
        """The kind of guide, the list of frames, what fills it, and the depth that was found."""
        layout, settings = self.layout, context.scene.animatic
        column = split_column(layout)
        column.prop(settings, "guide")
        column.prop(settings, "strength")
        if settings.guide == "depth":
            column.prop(settings, "blur")
            override(column, settings, "near")
            override(column, settings, "far")
        elif settings.guide == "lineart":
            override(column, settings, "crease")
            column.prop(settings, "thickness")
            column.prop(settings, "lines_of")
        row = layout.row()
        row.template_list(
            "ANIMATIC_UL_guide_frames",
            "",
            settings,
            "guide_frames",
            settings,
            "guide_frames_index",
            rows=4,
        )
        side = row.column(align=True)
        side.operator("animatic.guide_frame_add", text="", icon="ADD")
        side.operator("animatic.guide_frame_remove", text="", icon="REMOVE")
        side.separator()
        side.operator("animatic.guide_frames_clear", text="", icon="TRASH")
        row = layout.row(align=True)
        row.operator("animatic.guide_frames_suggest", icon="LIGHT")
        row.operator_menu_enum("animatic.guide_frames_fill", "source", text="Fill From")
        if 0 <= settings.guide_frames_index < len(settings.guide_frames):
            active = settings.guide_frames[settings.guide_frames_index]
            column = split_column(layout)
            column.prop(active, "frame")
            column.prop(active, "prompt", placeholder="No change here")
        else:
            layout.label(text=_held_by(estimate.current(context.scene).keyframes), icon="INFO")
        layout.operator("animatic.preview_guides", icon="IMAGE_REFERENCE")
        report = guides_report.last(context.scene)
        if report is not None:
            layout.label(text=f"Depth {report.near} to {report.far}", icon="INFO")


def _held_by(suited: str | None) -> str:
    """What holds a shot without guide frames; ``suited`` as the model's card has it."""
    if suited == "all":
        return "None: every frame is held"
    return f"None: held at {suited}" if suited else "None: the camera's keys hold it"


CLASSES = (ANIMATIC_PT_guides,)
