"""The buttons of the preferences. In the background they return when the work is done."""

from collections.abc import Callable

import bpy

from ..errors import AnimaticError
from ..link.catalogue import PRESETS
from ..link.install import log_file
from ..link.remote import RemoteEngine
from .preferences import (
    ADDON,
    AnimaticModelFolder,
    AnimaticPreferences,
    control,
    model_folders,
    path_of,
    preferences,
    refresh,
)
from .redraw import windows

TICK_S = 0.25
_seen = -1


def _tick() -> float | None:
    """Draw the preferences again when something changed; end with what is going on."""
    global _seen
    if control.changes != _seen:
        _seen = control.changes
        for window in windows():
            for area in window.screen.areas:
                if area.type == "PREFERENCES":
                    area.tag_redraw()
    return TICK_S if control.active else None


class _Button:
    """An operator that does something with the engine; refusals are reported in words."""

    bl_options = {"INTERNAL"}
    report: Callable[[set[str], str], None]

    def act(self, context: bpy.types.Context) -> None:
        """What the button does; each has its own."""

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Start the work; a window goes on at once."""
        try:
            self.act(context)
        except AnimaticError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if bpy.app.background:
            control.wait()  # timers never fire there, and the script wants the result
            refresh_unless_failed(context)
        elif not bpy.app.timers.is_registered(_tick):
            bpy.app.timers.register(_tick, persistent=True)
        return {"FINISHED"}


def refresh_unless_failed(context: bpy.types.Context) -> None:
    """Look again at what is installed, but keep a sentence that was not read yet."""
    if not control.message and not control.model_message:
        refresh(context)


class _Work(_Button):
    """One thing at a time."""

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """While no other work is under way."""
        return not control.working


class _Install(_Work):
    def act(self, context: bpy.types.Context) -> None:
        """Install or, where there is one, replace it."""
        control.install(preferences(context).torch_build, bpy.app.online_access)


class ANIMATIC_OT_engine_install(_Install, bpy.types.Operator):
    """Install the engine into a folder of its own, for all Blenders of yours"""

    bl_idname = "animatic.engine_install"
    bl_label = "Install Engine"


class ANIMATIC_OT_engine_repair(_Install, bpy.types.Operator):
    """Install the engine anew. The old one stays until the new one works"""

    bl_idname = "animatic.engine_repair"
    bl_label = "Repair Engine"


class ANIMATIC_OT_engine_cancel(_Button, bpy.types.Operator):
    """Stop the installation. What was installed before stays as it was"""

    bl_idname = "animatic.engine_cancel"
    bl_label = "Cancel Installation"

    def act(self, _context: bpy.types.Context) -> None:
        """Ask; it is over within a second."""
        control.cancel()


class ANIMATIC_OT_engine_remove(_Work, bpy.types.Operator):
    """Remove the engine. Models and takes stay"""

    bl_idname = "animatic.engine_remove"
    bl_label = "Remove Engine"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask first."""
        return context.window_manager.invoke_confirm(
            self,
            event,
            title="Remove the engine?",
            message="Models and takes stay.",
            confirm_text="Remove",
        )

    def act(self, _context: bpy.types.Context) -> None:
        """Remove what Install made."""
        control.remove()


class _Start(_Work):
    def act(self, context: bpy.types.Context) -> None:
        """Start it with all model folders; one that runs is stopped before."""
        control.start([*model_folders(preferences(context)), PRESETS])


class ANIMATIC_OT_engine_start(_Start, bpy.types.Operator):
    """Start the engine and keep it running, so that the next video begins at once"""

    bl_idname = "animatic.engine_start"
    bl_label = "Start Engine"


class ANIMATIC_OT_engine_restart(_Start, bpy.types.Operator):
    """Stop the engine and start it again. A job that it has is stopped"""

    bl_idname = "animatic.engine_restart"
    bl_label = "Restart Engine"


class ANIMATIC_OT_engine_stop(_Work, bpy.types.Operator):
    """Stop the engine, which frees its memory. A job that it has is stopped"""

    bl_idname = "animatic.engine_stop"
    bl_label = "Stop Engine"

    def act(self, _context: bpy.types.Context) -> None:
        """End it in order."""
        control.stop()


class ANIMATIC_OT_engine_log(_Button, bpy.types.Operator):
    """Open what the last installation wrote"""

    bl_idname = "animatic.engine_log"
    bl_label = "Open Installation Log"

    def act(self, _context: bpy.types.Context) -> None:
        """Hand it to the system's text editor."""
        if not log_file().is_file():
            raise AnimaticError("There is no log: nothing was installed on this machine yet.")
        bpy.ops.wm.path_open(filepath=str(log_file()))


class ANIMATIC_OT_engine_check_remote(_Button, bpy.types.Operator):
    """Ask the remote engine how it is, and which models it has"""

    bl_idname = "animatic.engine_check_remote"
    bl_label = "Check Connection"

    def act(self, context: bpy.types.Context) -> None:
        """Ask in a thread."""
        chosen = preferences(context)
        control.check_remote(RemoteEngine(chosen.remote_address, chosen.remote_token))


class ANIMATIC_OT_model_download(_Button, bpy.types.Operator):
    """Download this model. It goes on where it broke off, and its files are checked"""

    bl_idname = "animatic.model_download"
    bl_label = "Download Model"

    name: bpy.props.StringProperty()

    def act(self, context: bpy.types.Context) -> None:
        """Have the engine's Python download it."""
        chosen = preferences(context)
        control.download(
            self.name,
            online=bpy.app.online_access,
            models=path_of(chosen.models_folder),
            python=path_of(chosen.engine_python),
        )


class ANIMATIC_OT_model_cancel(_Button, bpy.types.Operator):
    """Stop the download. What is here is kept, and Download goes on from there"""

    bl_idname = "animatic.model_cancel"
    bl_label = "Cancel Download"

    def act(self, _context: bpy.types.Context) -> None:
        """Ask; it is over within a second."""
        control.cancel_download()


class ANIMATIC_OT_model_folder_add(_Button, bpy.types.Operator):
    """Look for models in one more folder"""

    bl_idname = "animatic.model_folder_add"
    bl_label = "Add Models Folder"

    def act(self, context: bpy.types.Context) -> None:
        """Add an empty field."""
        preferences(context).model_folders.add()


class ANIMATIC_OT_model_folder_remove(_Button, bpy.types.Operator):
    """Look no more for models in this folder. The folder itself stays"""

    bl_idname = "animatic.model_folder_remove"
    bl_label = "Remove Models Folder"

    index: bpy.props.IntProperty()

    def act(self, context: bpy.types.Context) -> None:
        """Forget the field."""
        preferences(context).model_folders.remove(self.index)


CLASSES = (
    AnimaticModelFolder,
    AnimaticPreferences,
    ANIMATIC_OT_engine_install,
    ANIMATIC_OT_engine_repair,
    ANIMATIC_OT_engine_cancel,
    ANIMATIC_OT_engine_remove,
    ANIMATIC_OT_engine_start,
    ANIMATIC_OT_engine_restart,
    ANIMATIC_OT_engine_stop,
    ANIMATIC_OT_engine_log,
    ANIMATIC_OT_engine_check_remote,
    ANIMATIC_OT_model_download,
    ANIMATIC_OT_model_cancel,
    ANIMATIC_OT_model_folder_add,
    ANIMATIC_OT_model_folder_remove,
)


def register() -> None:
    """Look at what is installed."""
    known = bpy.context.preferences.addons
    if ADDON not in known:  # blender --addons enables it without an entry
        known.new().module = ADDON
    refresh(bpy.context)


def unregister() -> None:
    """End what is going on: threads, programs, the timer."""
    control.leave()
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
