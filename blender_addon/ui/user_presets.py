"""The artist's own presets, through Blender's preset system."""

import bpy
from bl_operators.presets import AddPresetBase
from bl_ui.utils import PresetPanel

_FOLDER = "animatic"


class ANIMATIC_OT_preset_add(AddPresetBase, bpy.types.Operator):
    """Keep this look under a name, for other scenes; or remove the one that is chosen"""

    bl_idname = "animatic.preset_add"
    bl_label = "Add Animatic Preset"
    preset_menu = "ANIMATIC_PT_presets"
    preset_subdir = _FOLDER
    preset_defines = ["settings = bpy.context.scene.animatic"]
    preset_values = [
        f"settings.{name}"
        for name in (
            "prompt",
            "negative_prompt",
            "guide",
            "look",
            "quality",
            "model",
            "strength",
            "blur",
            "temporal",
            "use_crease",
            "crease",
            "thickness",
            "reference",
            "reference_scale",
            "loras",
            "loras_index",
            "deflicker",
            "in_between",
            "use_upscale",
            "upscale",
            "guide_start",
            "guide_end",
            "encoder",
            "use_schedule",
            "schedule",
            "loop",
            "use_context",
            "context_length",
            "context_overlap",
            "free_noise",
            "use_steps",
            "steps",
            "use_guidance",
            "guidance",
            "use_guidance_end",
            "guidance_end",
        )
    ]

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Write the preset or remove it; a picture's path is written so that any file finds it."""
        settings = context.scene.animatic
        reference = settings.reference
        settings.reference = bpy.path.abspath(reference)
        try:
            return super().execute(context)
        finally:
            settings.reference = reference


class ANIMATIC_PT_presets(PresetPanel, bpy.types.Panel):
    """The list of presets behind the icon in the header of Look."""

    bl_label = "Animatic Presets"
    preset_subdir = _FOLDER
    preset_operator = "script.execute_preset"
    preset_add_operator = "animatic.preset_add"


CLASSES = (ANIMATIC_OT_preset_add, ANIMATIC_PT_presets)
