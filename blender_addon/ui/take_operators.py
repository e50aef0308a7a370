"""Pick, redo, and the settings of a take."""

from pathlib import Path

import bpy

from ..errors import AnimaticError
from ..scene.review import close_review
from ..shot.takes import TakeOnDisk
from . import session, take_index
from .lists import lists_of
from .operators import idle, launch, random_seed
from .runs import plan_redo
from .take_settings import restore
from .take_strips import apply_over, place


def _has_active(context: bpy.types.Context) -> bool:
    return bool(_active_folder(context))


def _active_folder(context: bpy.types.Context) -> str:
    """The folder of the take that is chosen in the list, "" without one."""
    lists = lists_of(context.scene)
    if lists is None or not 0 <= lists.takes_index < len(lists.takes):
        return ""
    return str(lists.takes[lists.takes_index].folder)


def active_take(context: bpy.types.Context) -> TakeOnDisk:
    """The take that is chosen in the list. Raises AnimaticError where it is gone."""
    take = take_index.take_at(_active_folder(context))
    if take is None:
        raise AnimaticError("The take is no longer on disk: press Refresh.")
    return take


class ANIMATIC_OT_take_pick(bpy.types.Operator):
    """Show this take in the Video Sequencer and mute the other takes of the shot. \
A take without a strip gets one, and a comparison ends"""

    bl_idname = "animatic.take_pick"
    bl_label = "Pick Take"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    folder: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Unmute its strips, mute those of the others."""
        picked = take_index.take_at(self.folder)
        if picked is None:
            self.report({"ERROR"}, "The take is no longer on disk: press Refresh.")
            return {"CANCELLED"}
        strips = take_index.strips_of_takes()
        if picked.folder not in strips:
            scene = take_index.scene_of(picked, context)
            try:
                place(picked, scene)
                apply_over(scene)
            except AnimaticError as error:
                self.report({"ERROR"}, str(error))
                return {"CANCELLED"}
        close_review(take_index.scene_of(picked, context))
        for take in take_index.of_shot(picked):
            for strip in strips.get(take.folder, ()):
                strip.mute = take.folder != picked.folder
        take_index.refresh()
        return {"FINISHED"}


class OnActiveTake:
    """What an operator on the chosen take has in common."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """With a take that is chosen in the list."""
        return _has_active(context)


class ANIMATIC_OT_take_settings(OnActiveTake, bpy.types.Operator):
    """Bring prompt, guide frames, seed and all else that this take was made with back into the \
panel"""

    bl_idname = "animatic.take_settings"
    bl_label = "Use Settings"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Set the panel, or say why not."""
        try:
            restore(context.scene, active_take(context))
        except AnimaticError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class ANIMATIC_OT_take_redo(bpy.types.Operator):
    """Make this take again from its own guides"""

    bl_idname = "animatic.take_redo"
    bl_label = "Redo"

    seed: bpy.props.EnumProperty(
        name="Seed",
        items=(
            ("same", "Same Seed", "The same pictures again, to the bit on the same machine"),
            ("new", "New Seed", "Another variation, from the same guides and settings"),
        ),
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """One job at a time, and with a take that is chosen in the list."""
        return idle(cls) and _has_active(context)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """From the panel: start and return at once."""
        return self._launch(context, session.start)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From a script: return when it is done."""
        return self._launch(context, session.run)

    def _launch(self, context: bpy.types.Context, action) -> set[str]:
        seed = random_seed() if self.seed == "new" else None
        return launch(self, action, lambda: plan_redo(context, active_take(context), seed))


class ANIMATIC_OT_take_folder(OnActiveTake, bpy.types.Operator):
    """Open the folder with this take's frames and video"""

    bl_idname = "animatic.take_folder"
    bl_label = "Open Folder"

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Hand the folder to the system's file manager."""
        folder = _active_folder(context)
        if not Path(folder).is_dir():
            self.report({"ERROR"}, f"{folder} is no longer there: press Refresh.")
            return {"CANCELLED"}
        return bpy.ops.wm.path_open(filepath=folder)


class ANIMATIC_OT_takes_refresh(bpy.types.Operator):
    """Read the takes from disk again"""

    bl_idname = "animatic.takes_refresh"
    bl_label = "Refresh"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Read."""
        take_index.read_disk()
        return {"FINISHED"}


CLASSES = (
    ANIMATIC_OT_take_pick,
    ANIMATIC_OT_take_settings,
    ANIMATIC_OT_take_redo,
    ANIMATIC_OT_take_folder,
    ANIMATIC_OT_takes_refresh,
)
