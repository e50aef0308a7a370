"""What the panels share."""

import bpy


class Tab:
    """The Animatic tab of the 3D View's sidebar."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Animatic"


class SubPanel(Tab):
    """A part of it."""

    bl_parent_id = "ANIMATIC_PT_shot"


def split_column(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """A column of fields with their names before them, as Blender's own panels have it."""
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False  # these settings are not animated
    return column


def override(
    column: bpy.types.UILayout, settings: bpy.types.PropertyGroup, name: str, *fields: str
) -> None:
    """A field with a checkbox before it, ``use_`` and its name, without which it is greyed out."""
    flag = f"use_{name}"
    title = settings.bl_rna.properties[flag].name
    row = column.row(align=True, heading=title)
    row.prop(settings, flag, text="")
    part = row.row(align=True)
    part.active = getattr(settings, flag)
    for field in fields or (name,):
        part.prop(settings, field, text="")
