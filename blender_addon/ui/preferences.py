"""Where the tools of this machine are."""

from pathlib import Path

import bpy

from ..link.generate import Host
from .output_folder import DEFAULT_PATTERN

# The add-on's own module, "bl_ext.user_default.animatic" when installed.
ADDON = __package__.rpartition(".blender_addon")[0]


class AnimaticPreferences(bpy.types.AddonPreferences):
    """Shown under the extension's name in Blender's preferences."""

    bl_idname = ADDON

    engine_python: bpy.props.StringProperty(
        name="Engine Python",
        description=(
            "The Python of the engine's environment, the one that has torch and diffusers. "
            "Empty: look for the environment beside the extension"
        ),
        subtype="FILE_PATH",
    )
    blender: bpy.props.StringProperty(
        name="Blender for Guides",
        description="The Blender that renders guides in the background. Empty: this one",
        subtype="FILE_PATH",
    )
    output: bpy.props.StringProperty(
        name="Takes Folder",
        description=(
            "Where takes are written; a number is added, nothing is ever overwritten. "
            "// is the folder of the .blend; {file} and {scene} stand for their names"
        ),
        default=DEFAULT_PATTERN,
    )

    def draw(self, _context: bpy.types.Context) -> None:
        """Three paths; an empty one says what is used instead."""
        column = self.layout.column()
        column.use_property_split = True
        column.prop(self, "engine_python", placeholder="Beside the extension")
        column.prop(self, "blender", placeholder=bpy.app.binary_path or "This Blender")
        column.prop(self, "output", placeholder=DEFAULT_PATTERN)


def preferences(context: bpy.types.Context) -> AnimaticPreferences:
    """The preferences of the enabled extension."""
    return context.preferences.addons[ADDON].preferences


def host(context: bpy.types.Context) -> Host:
    """The tools that the preferences name, for a run of this Blender."""
    chosen = preferences(context)
    # binary_path is empty in the bpy module: there, None lets the link start this very Python.
    blender = chosen.blender or bpy.app.binary_path
    return Host(
        blender=Path(bpy.path.abspath(blender)) if blender else None,
        engine_python=Path(bpy.path.abspath(chosen.engine_python))
        if chosen.engine_python
        else None,
    )
