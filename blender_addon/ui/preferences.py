"""The extension's preferences: where the engine is, which models, and where takes go."""

import os
from pathlib import Path

import bpy

from ..link.generate import Host
from ..link.install_places import models_folder
from ..link.install_torch import builds
from ..link.remote import LocalEngine, RemoteEngine
from .output_folder import DEFAULT_PATTERN
from .preferences_engine import EngineControl

# The add-on's own module, "bl_ext.user_default.animatic" when installed.
ADDON = __package__.rpartition(".blender_addon")[0]

# No postponed annotations here: Blender reads them as the properties themselves.
_WHERE = (
    ("local", "This Machine", "The engine runs on this machine, as a program beside Blender", 0),
    ("remote", "Remote", "The engine runs elsewhere, on a machine with a larger card perhaps", 1),
)
_BUILDS = (
    ("auto", "Automatic", "For the graphics card that is found when you install"),
    *(
        (build.name, build.label, f"About {build.disk_mb / 1000:.1f} GB on disk")
        for build in builds().values()
    ),
)

control = EngineControl()


def _look_again(_self: "AnimaticPreferences", context: bpy.types.Context) -> None:
    refresh(context)


class AnimaticModelFolder(bpy.types.PropertyGroup):
    """One more folder in which models are looked for."""

    path: bpy.props.StringProperty(
        name="Folder",
        description="A folder with models: each in a folder of its own, with an animatic.json",
        subtype="DIR_PATH",
    )


class AnimaticPreferences(bpy.types.AddonPreferences):
    """Shown under the extension's name in Blender's preferences."""

    bl_idname = ADDON

    engine_where: bpy.props.EnumProperty(
        name="Engine",
        description="Where the engine that makes the video runs",
        items=_WHERE,
        default="local",
    )
    torch_build: bpy.props.EnumProperty(
        name="Computes on",
        description="Which build of torch is installed. Takes effect with Install or Repair",
        items=_BUILDS,
        default="auto",
    )
    remote_address: bpy.props.StringProperty(
        name="Address",
        description=(
            "https://machine for an engine behind TLS, or http://127.0.0.1:port for one at the "
            "other end of an SSH tunnel. `animatic serve` starts such an engine"
        ),
    )
    remote_token: bpy.props.StringProperty(
        name="Token",
        description=(
            "The secret that `animatic serve` writes into a file when it starts. "
            "It is kept in your Blender preferences"
        ),
        subtype="PASSWORD",
    )
    models_folder: bpy.props.StringProperty(
        name="Models Folder",
        description="Where downloaded models go. Empty: your user data folder",
        subtype="DIR_PATH",
        update=_look_again,
    )
    model_folders: bpy.props.CollectionProperty(type=AnimaticModelFolder)
    show_expert: bpy.props.BoolProperty(
        name="Expert",
        description="Show paths to programs that are found by themselves otherwise",
        default=False,
    )
    engine_python: bpy.props.StringProperty(
        name="Engine Python",
        description=(
            "The Python of an environment of your own that has torch and diffusers. "
            "Empty: the one that Install makes"
        ),
        subtype="FILE_PATH",
        update=_look_again,
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

    def draw(self, context: bpy.types.Context) -> None:
        """Engine, models, takes; reads cached state."""
        from . import preferences_draw

        preferences_draw.draw(self.layout, self, context, control)


def preferences(context: bpy.types.Context) -> AnimaticPreferences:
    """The preferences of the enabled extension."""
    return context.preferences.addons[ADDON].preferences


def path_of(text: str) -> Path | None:
    """A path that was typed or chosen, None where the field is empty."""
    # Of os.path: it leaves what no user is called (~nobody) as it is, for others to find missing.
    return Path(os.path.expanduser(bpy.path.abspath(text))) if text.strip() else None


def model_folders(chosen: AnimaticPreferences) -> list[Path]:
    """The folders in which models are looked for, besides the extension's own."""
    own = path_of(chosen.models_folder) or models_folder()
    more = [path_of(each.path) for each in chosen.model_folders]
    return [own, *(folder for folder in more if folder is not None)]


def host(context: bpy.types.Context) -> Host:
    """The tools that the preferences name, for a run of this Blender.

    Raises AnimaticError where a remote engine is chosen and its address cannot be used.
    """
    chosen = preferences(context)
    # binary_path is empty in the bpy module: there, None lets the link start this very Python.
    return Host(
        blender=path_of(chosen.blender or bpy.app.binary_path),
        engine_python=path_of(chosen.engine_python),
        models=tuple(model_folders(chosen)),
        engine=_engine(chosen),
    )


def refresh(context: bpy.types.Context) -> None:
    """Look again at what is installed."""
    chosen = preferences(context)
    control.refresh(path_of(chosen.engine_python), path_of(chosen.models_folder))


def _engine(chosen: AnimaticPreferences) -> RemoteEngine | LocalEngine | None:
    if chosen.engine_where == "remote":
        return RemoteEngine(chosen.remote_address, chosen.remote_token)
    return control.running()
