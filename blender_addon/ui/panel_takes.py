"""The sub-panel of the takes: how many, from which seed; and those that were made."""

import bpy

from .panel_parts import SubPanel, split_column


class ANIMATIC_PT_takes(SubPanel, bpy.types.Panel):
    """Seed and number of takes, and the takes of the shot on screen."""

    bl_label = "Takes"
    bl_order = 3

    def draw(self, context: bpy.types.Context) -> None:
        """What to make, then what was made and what can be done with it."""
        layout, settings = self.layout, context.scene.animatic
        column = split_column(layout)
        column.prop(settings, "takes", text="Number")
        row = column.row(align=True)
        row.prop(settings, "seed")
        row.operator("animatic.new_seed", text="", icon="FILE_REFRESH")
        lists = context.window_manager.animatic
        if not lists.takes:
            return
        row = layout.row()
        row.template_list(
            "ANIMATIC_UL_takes", "", lists, "takes", lists, "takes_index", rows=3, maxrows=6
        )
        side = row.column(align=True)
        side.operator("animatic.takes_refresh", text="", icon="FILE_REFRESH")
        side.operator("animatic.take_folder", text="", icon="FILE_FOLDER")
        row = layout.row(align=True)
        row.operator("animatic.take_settings", icon="COPYDOWN")
        row.operator_menu_enum("animatic.take_redo", "seed", text="Redo")


CLASSES = (ANIMATIC_PT_takes,)
