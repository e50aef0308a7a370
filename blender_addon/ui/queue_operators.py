"""Generate All Shots, and going on with a queue that an earlier Blender has left."""

from collections.abc import Callable

import bpy

from ..errors import AnimaticError
from . import pending, session, take_index
from .asked import all_targets
from .operators import idle, launch
from .redraw import redraw
from .runs import Run, plan_queue, plan_resumed


class ANIMATIC_OT_generate_all(bpy.types.Operator):
    """Make every shot of the scene, one after another, with these settings and its own guide \
frames. Should Blender end meanwhile, the rest can be made later"""

    bl_idname = "animatic.generate_all"
    bl_label = "Generate All Shots"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """One queue at a time."""
        return idle(cls) and context.scene is not None

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """From the panel: start and return at once."""
        return self._launch(context, session.start)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From a script: return when all are done."""
        return self._launch(context, session.run)

    def _launch(self, context: bpy.types.Context, action: Callable[[list[Run]], None]) -> set[str]:
        def plan() -> list[Run]:
            runs = plan_queue(context, all_targets(context.scene))
            pending.discard()  # what was left before: these are the same shots
            return runs

        return launch(self, action, plan)


class _OnLeftQueue:
    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """With a queue that was left, and nothing at work."""
        return idle(cls) and pending.offered() is not None


class ANIMATIC_OT_queue_resume(_OnLeftQueue, bpy.types.Operator):
    """Make the shots that are left, from the scene and the settings as they were when you \
pressed Generate All Shots"""

    bl_idname = "animatic.queue_resume"
    bl_label = "Resume"

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """From the panel: start and return at once."""
        return self._launch(context, session.start)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From a script: return when all are done."""
        return self._launch(context, session.run)

    def _launch(self, context: bpy.types.Context, action: Callable[[list[Run]], None]) -> set[str]:
        def plan() -> list[Run]:
            queue = pending.offered()
            if queue is None:
                raise AnimaticError("No shots are left to make.")
            return plan_resumed(context, queue)

        return launch(self, action, plan)


class ANIMATIC_OT_queue_discard(_OnLeftQueue, bpy.types.Operator):
    """Do not make the shots that are left. Takes that were made stay"""

    bl_idname = "animatic.queue_discard"
    bl_label = "Discard"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Forget the queue and its copy of the scene."""
        pending.discard()
        take_index.refresh()
        redraw()
        return {"FINISHED"}


CLASSES = (ANIMATIC_OT_generate_all, ANIMATIC_OT_queue_resume, ANIMATIC_OT_queue_discard)
