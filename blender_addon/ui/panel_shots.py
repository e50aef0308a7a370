"""The sub-panel of the shots that camera markers make."""

import bpy

from .lists import lists_of
from .panel_parts import SubPanel


class ANIMATIC_PT_shots(SubPanel, bpy.types.Panel):
    """The shots of the scene, where there are several."""

    bl_label = "Shots"
    bl_order = 4
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """The list, and all of them at once."""
        layout, lists = self.layout, lists_of(context.scene)
        if lists is not None:
            layout.template_list(
                "ANIMATIC_UL_shots", "", lists, "shots", lists, "shots_index", rows=3, maxrows=8
            )
        layout.operator("animatic.generate_all", icon="RENDER_ANIMATION")


CLASSES = (ANIMATIC_PT_shots,)
