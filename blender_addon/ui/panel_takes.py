"""The sub-panel of the takes: how many, from which seed; and those that were made."""

import bpy

from .lists import lists_of
from .panel_parts import SubPanel, override, split_column


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
        lists = lists_of(context.scene)
        if lists is None:
            return
        if lists.takes:
            _draw_takes(layout, lists)
        if lists.review:
            row = layout.box().row()
            row.label(text=lists.review, icon="SEQ_SPLITVIEW")
            row.operator("animatic.review_end", icon="LOOP_BACK")


def _draw_takes(layout: bpy.types.UILayout, lists: bpy.types.PropertyGroup) -> None:
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
    row = layout.row(align=True)
    row.operator("animatic.take_solo", icon="SOLO_ON")
    row.operator("animatic.take_compare", icon="MOD_MIRROR")


class ANIMATIC_PT_placement(SubPanel, bpy.types.Panel):
    """What takes become in the edit, and where else they are seen."""

    bl_label = "Placement"
    bl_parent_id = "ANIMATIC_PT_takes"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """For the next takes, for all of the edit, and for the chosen take."""
        layout, settings = self.layout, context.scene.animatic
        column = split_column(layout)
        column.row().prop(settings, "strip_kind", expand=True)
        override(column, settings, "over", "over_opacity")
        lists = lists_of(context.scene)
        if lists is None or not 0 <= lists.takes_index < len(lists.takes):
            return
        take = lists.takes[lists.takes_index]
        layout.label(text=f"Take {take.name}")
        column = layout.column(align=True)
        if take.is_movie:
            column.operator(
                "animatic.take_kind", text="As Images", icon="FILE_IMAGE"
            ).kind = "images"
        else:
            column.operator("animatic.take_kind", text="As Movie", icon="FILE_MOVIE").kind = "movie"
        column.operator("animatic.take_beside", icon="SCENE_DATA")
        row = column.row(align=True)
        row.operator("animatic.take_background", text="Camera Background", icon="CAMERA_DATA")
        if lists.behind_camera:
            row.operator("animatic.background_remove", text="", icon="X")


CLASSES = (ANIMATIC_PT_takes, ANIMATIC_PT_placement)
