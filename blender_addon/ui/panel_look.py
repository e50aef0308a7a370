"""The sub-panels of the look: style, quality and model; and the numbers behind them."""

import bpy

from . import estimate
from .panel_parts import SubPanel, override, split_column
from .user_presets import ANIMATIC_PT_presets


class ANIMATIC_PT_look(SubPanel, bpy.types.Panel):
    """What the picture looks like."""

    bl_label = "Look"
    bl_order = 2

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        """The artist's own presets."""
        ANIMATIC_PT_presets.draw_panel_header(self.layout)

    def draw(self, context: bpy.types.Context) -> None:
        """Style, quality and model."""
        settings = context.scene.animatic
        self.layout.template_icon_view(settings, "look", show_labels=True, scale=4.0)
        column = split_column(self.layout)
        column.prop(settings, "look")
        column.prop(settings, "quality")
        column.prop(settings, "model")
        column.prop(settings, "temporal")
        column.prop(settings, "deflicker")
        column.prop(settings, "in_between")
        override(column, settings, "upscale")


class ANIMATIC_PT_pictures(SubPanel, bpy.types.Panel):
    """Pictures whose look the video takes on."""

    bl_label = "Pictures"
    bl_parent_id = "ANIMATIC_PT_look"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """A reference, and a first frame."""
        settings = context.scene.animatic
        column = split_column(self.layout)
        part = column.column()
        part.active = estimate.current(context.scene).pictures
        part.prop(settings, "reference", placeholder="None")
        part = part.column()
        part.active = bool(settings.reference)
        part.prop(settings, "reference_scale")
        column.prop(settings, "first", placeholder="None")
        if not estimate.current(context.scene).pictures:
            self.layout.label(text="This model takes no reference", icon="INFO")


class ANIMATIC_PT_loras(SubPanel, bpy.types.Panel):
    """What the model has learned besides."""

    bl_label = "LoRAs"
    bl_parent_id = "ANIMATIC_PT_look"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """The list, the active one's name, and what the camera suggests."""
        layout, settings = self.layout, context.scene.animatic
        row = layout.row()
        row.template_list(
            "ANIMATIC_UL_loras", "", settings, "loras", settings, "loras_index", rows=2, maxrows=6
        )
        side = row.column(align=True)
        side.operator("animatic.lora_add", text="", icon="ADD")
        side.operator("animatic.lora_remove", text="", icon="REMOVE")
        if 0 <= settings.loras_index < len(settings.loras):
            split_column(layout).prop(settings.loras[settings.loras_index], "name")
        layout.operator("animatic.lora_suggest", icon="OUTLINER_OB_CAMERA")


class ANIMATIC_PT_expert(SubPanel, bpy.types.Panel):
    """Numbers in place of what the quality, the model and the shot say."""

    bl_label = "Expert"
    bl_parent_id = "ANIMATIC_PT_look"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Each with a checkbox: off, the number is not used."""
        settings = context.scene.animatic
        column = split_column(self.layout)
        override(column, settings, "steps")
        override(column, settings, "guidance")
        override(column, settings, "guidance_end")
        override(column, settings, "schedule")
        column.separator()
        if estimate.current(context.scene).encoders:
            column.prop(settings, "encoder")
        column.prop(settings, "guide_start")
        column.prop(settings, "guide_end")
        column.separator()
        override(column, settings, "range", "range_start", "range_end")
        override(column, settings, "frames")
        override(column, settings, "context", "context_length", "context_overlap")
        part = column.column()
        part.active = settings.use_context
        part.prop(settings, "free_noise")
        column.prop(settings, "loop")


CLASSES = (ANIMATIC_PT_look, ANIMATIC_PT_pictures, ANIMATIC_PT_loras, ANIMATIC_PT_expert)
