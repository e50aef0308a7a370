"""Generate, Cancel, and opening the folder of the last take."""

import bpy

from ..errors import AnimaticError
from . import session
from .job import State


class ANIMATIC_OT_generate(bpy.types.Operator):
    """Make a video of this shot. Blender stays free to use; your file is not written"""

    bl_idname = "animatic.generate"
    bl_label = "Generate"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """One job at a time, and there must be a scene."""
        if session.busy():
            cls.poll_message_set("Animatic is at work already: wait for it or cancel it")
            return False
        return context.scene is not None

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """From the panel: start and return at once."""
        return self._do(session.start, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From a script or a background Blender: return when it is done."""
        return self._do(session.run, context)

    def _do(self, action, context: bpy.types.Context) -> set[str]:
        try:
            action(context)
        except AnimaticError as error:
            session.fail(str(error))
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class ANIMATIC_OT_cancel(bpy.types.Operator):
    """Stop making this video. What is finished of it is not kept"""

    bl_idname = "animatic.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """While there is something to stop."""
        return session.status().state is State.RUNNING

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Ask; the job stops within one sampling step."""
        session.cancel()
        return {"FINISHED"}


class ANIMATIC_OT_open_folder(bpy.types.Operator):
    """Open the folder with the last take's frames, video and guides"""

    bl_idname = "animatic.open_folder"
    bl_label = "Open Folder"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Once there is a take."""
        return session.status().folder is not None

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Hand the folder to the system's file manager."""
        return bpy.ops.wm.path_open(filepath=str(session.status().folder))


CLASSES = (ANIMATIC_OT_generate, ANIMATIC_OT_cancel, ANIMATIC_OT_open_folder)
