"""Generate, Preview Guides, Cancel, and looking at what comes of it."""

import random
from collections.abc import Callable

import bpy

from ..errors import AnimaticError
from . import previews, session
from .asked import Target, current_target
from .conclude import in_panel_words
from .job import State
from .runs import Run, plan_guides, plan_takes


def launch(
    operator: bpy.types.Operator,
    action: Callable[[list[Run]], None],
    plan: Callable[[], list[Run]],
) -> set[str]:
    """Do what ``plan`` returns by ``action``; what goes wrong is a sentence in the panel."""
    try:
        if session.busy():  # before a copy is saved for nothing
            raise AnimaticError("Animatic is at work already: wait for it or cancel it.")
        action(plan())
    except AnimaticError as error:
        session.fail(in_panel_words(str(error)))
        operator.report({"ERROR"}, in_panel_words(str(error)))
        return {"CANCELLED"}
    return {"FINISHED"}


def idle(cls: type[bpy.types.Operator]) -> bool:
    """For poll: one job at a time."""
    if session.busy():
        cls.poll_message_set("Animatic is at work already: wait for it or cancel it")
        return False
    return True


def random_seed() -> int:
    """A seed, 0 to 2^31 - 1: what an IntProperty can hold."""
    return random.randrange(2**31)


def _on_screen(context: bpy.types.Context) -> list[Target]:
    return [current_target(context.scene)]


class ANIMATIC_OT_generate(bpy.types.Operator):
    """Make a video of this shot. Blender stays free to use; your file is not written"""

    bl_idname = "animatic.generate"
    bl_label = "Generate"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """One job at a time, and there must be a scene."""
        return idle(cls) and context.scene is not None

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """From the panel: start and return at once."""
        return launch(self, session.start, lambda: plan_takes(context, _on_screen(context)))

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From a script or a background Blender: return when it is done."""
        return launch(self, session.run, lambda: plan_takes(context, _on_screen(context)))


class ANIMATIC_OT_preview_guides(bpy.types.Operator):
    """Render this shot's guides and show them all in an Image Editor, before any video is made. \
Look for blank or flat pictures here"""

    bl_idname = "animatic.preview_guides"
    bl_label = "Preview Guides"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """One job at a time."""
        return idle(cls) and context.scene is not None

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """From the panel: start and return at once."""
        return launch(self, session.start, lambda: plan_guides(context))

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From a script: return when they are there."""
        return launch(self, session.run, lambda: plan_guides(context))


class ANIMATIC_OT_show_preview(bpy.types.Operator):
    """Show all frames of the video so far in an Image Editor"""

    bl_idname = "animatic.show_preview"
    bl_label = "Show Preview"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Once the engine has sent one."""
        return previews.has_clip()

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Use the Image Editor that is open, or a new window."""
        return {"FINISHED"} if previews.open_image(previews.CLIP) else {"CANCELLED"}


class ANIMATIC_OT_cancel(bpy.types.Operator):
    """Stop making this video; what is finished of it is not kept. Shots that wait can be made \
later"""

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


class ANIMATIC_OT_new_seed(bpy.types.Operator):
    """Roll another seed, for another variation"""

    bl_idname = "animatic.new_seed"
    bl_label = "New Seed"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Take any seed that the field can hold."""
        context.scene.animatic.seed = random_seed()
        return {"FINISHED"}


class ANIMATIC_OT_open_folder(bpy.types.Operator):
    """Open the folder with the last take's frames, video and guides"""

    bl_idname = "animatic.open_folder"
    bl_label = "Open Folder"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Once there is a take."""
        return session.status_in(context.scene).folder is not None

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Hand the folder to the system's file manager."""
        return bpy.ops.wm.path_open(filepath=str(session.status_in(context.scene).folder))


CLASSES = (
    ANIMATIC_OT_generate,
    ANIMATIC_OT_preview_guides,
    ANIMATIC_OT_show_preview,
    ANIMATIC_OT_cancel,
    ANIMATIC_OT_new_seed,
    ANIMATIC_OT_open_folder,
)
