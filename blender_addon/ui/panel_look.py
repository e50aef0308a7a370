"""The sub-panels of the look: style, quality and model; and the numbers behind them."""

import bpy

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
        column = split_column(self.layout)
        column.prop(settings, "look")
        column.prop(settings, "quality")
        column.prop(settings, "model")


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
        override(column, settings, "frames")
        override(column, settings, "range", "range_start", "range_end")


CLASSES = (ANIMATIC_PT_look, ANIMATIC_PT_expert)
