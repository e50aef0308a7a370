"""Solo, Compare, Beside Render, the kind of a strip, and takes behind the camera."""

from __future__ import annotations

from fractions import Fraction

import bpy

from ..errors import AnimaticError
from ..scene.camera_background import is_behind, put_behind, take_off
from ..scene.review import Side, close_review, open_review, review_of
from ..shot.held_frames import held_frames, per_scene_frame
from ..shot.takes import TakeOnDisk
from . import session, take_index
from .lists import lists_of
from .operators import launch
from .runs import plan_movie
from .take_operators import OnActiveTake, active_take
from .take_strips import turn_into


class _OnTake(OnActiveTake, bpy.types.Operator):
    """An operator on the active take that says what it cannot do."""

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Do it, or say why not."""
        try:
            self.act(context, active_take(context))
        except AnimaticError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        take_index.refresh()
        return {"FINISHED"}

    def act(self, context: bpy.types.Context, take: TakeOnDisk) -> None:
        """What the operator does. Raises AnimaticError with a sentence."""
        raise NotImplementedError

    def show(self, context: bpy.types.Context, take: TakeOnDisk, sides: list[Side]) -> None:
        """Show ``sides`` in the review scene, and say where that is."""
        room = open_review(take_index.scene_of(take, context), sides, context.workspace)
        self.report({"INFO"}, f"In the Video Sequencer, scene {room.name}")


def _side(take: TakeOnDisk) -> Side:
    shot = take.request["shot"]
    return Side(take.label, shot, per_scene_frame(take.frames(), shot))


class ANIMATIC_OT_take_solo(_OnTake):
    """See the chosen take alone, in a scene of its own: the edit stays as it is"""

    bl_idname = "animatic.take_solo"
    bl_label = "Solo"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, take: TakeOnDisk) -> None:
        """One side."""
        self.show(context, take, [_side(take)])


class ANIMATIC_OT_take_compare(_OnTake):
    """See the take with the open eye and the chosen one side by side, frame by frame, in a scene \
of their own: the edit stays as it is"""

    bl_idname = "animatic.take_compare"
    bl_label = "Compare"
    bl_options = {"REGISTER", "UNDO"}

    other: bpy.props.StringProperty(
        name="With",
        description="Folder of the take on the left. Empty: the one with the open eye",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """With two takes."""
        lists = lists_of(context.scene)
        if lists is None or len(lists.takes) < 2:
            cls.poll_message_set("There is only one take of this shot")
            return False
        return super().poll(context)

    def act(self, context: bpy.types.Context, take: TakeOnDisk) -> None:
        """Two sides, the one that is seen on the left."""
        lists = lists_of(context.scene)
        rows = lists.takes if lists is not None else ()
        seen = self.other or next((row.folder for row in rows if row.shown), "")
        left = take_index.take_at(seen)
        if left is None or left == take:
            raise AnimaticError(
                "Choose another take in the list: it is compared with the one that has the "
                "open eye."
            )
        self.show(context, take, [_side(left), _side(take)])


class ANIMATIC_OT_take_beside(_OnTake):
    """See the chosen take beside your own render of the shot, in a scene of its own: the edit and \
your scene stay as they are"""

    bl_idname = "animatic.take_beside"
    bl_label = "Beside Render"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, take: TakeOnDisk) -> None:
        """The take on the left."""
        self.show(context, take, [_side(take), Side("Render", take.request["shot"], None)])


class ANIMATIC_OT_review_end(bpy.types.Operator):
    """Go back to the edit; the scene of the comparison is removed"""

    bl_idname = "animatic.review_end"
    bl_label = "Back to Edit"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """While there is one."""
        return review_of(context.scene) is not None

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Close it."""
        close_review(context.scene)
        take_index.refresh()
        return {"FINISHED"}


class ANIMATIC_OT_take_kind(OnActiveTake, bpy.types.Operator):
    """Turn the strip of the chosen take into the other kind; its cuts and settings stay"""

    bl_idname = "animatic.take_kind"
    bl_label = "Turn Strip Into"
    bl_options = {"REGISTER", "UNDO"}

    kind: bpy.props.EnumProperty(
        name="Into",
        items=(
            ("images", "As Images", "The pictures as they were made, without loss"),
            ("movie", "As Movie", "One video file, which plays more easily and is smaller"),
        ),
    )

    @classmethod
    def description(cls, _context: bpy.types.Context, properties) -> str:
        """The tooltip of each kind."""
        says = {
            "images": "Turn the strip of the chosen take into an image strip: its pictures as they "
            "were made",
            "movie": "Turn the strip of the chosen take into a movie strip: one video at the "
            "scene's rate, the same picture at each frame",
        }
        return f"{says[properties.kind]}. Cuts, opacity and other settings of the strip stay"

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """From the panel: a video that has to be written is written beside."""
        return self._do(context, session.start)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From a script: return when it is done."""
        return self._do(context, session.run)

    def _do(self, context: bpy.types.Context, action) -> set[str]:
        try:
            take = active_take(context)
            runs = plan_movie(context, take) if self.kind == "movie" else []
            if not runs:
                turn_into(take, self.kind)
        except AnimaticError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        take_index.refresh()
        return launch(self, action, lambda: runs) if runs else {"FINISHED"}


class ANIMATIC_OT_take_background(_OnTake):
    """Show the chosen take in the viewport through the shot's camera, half transparent before the \
scene. This changes the camera: Opacity and Depth are among its Background Images"""

    bl_idname = "animatic.take_background"
    bl_label = "Use as Camera Background"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, take: TakeOnDisk) -> None:
        """Replace the one that is there."""
        shot, scene = take.request["shot"], take_index.scene_of(take, context)
        camera = scene.objects.get(shot["camera"])
        if camera is None or camera.type != "CAMERA":
            raise AnimaticError(
                f"The scene has no camera {shot['camera']} any more, which this take was made for."
            )
        files = per_scene_frame(take.frames(), shot)
        folder = held_frames(files, Fraction(shot["scene_fps"]))
        name = f"{shot['name']} {take.label}"
        put_behind(camera, folder, shot["start"], len(files), name)


class ANIMATIC_OT_background_remove(bpy.types.Operator):
    """Take the take off the camera again; background images of your own stay"""

    bl_idname = "animatic.background_remove"
    bl_label = "Remove Camera Background"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """With one that is there."""
        return is_behind(take_index.shot_camera(context.scene))

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Remove it."""
        take_off(take_index.shot_camera(context.scene))
        take_index.refresh()
        return {"FINISHED"}


CLASSES = (
    ANIMATIC_OT_take_solo,
    ANIMATIC_OT_take_compare,
    ANIMATIC_OT_take_beside,
    ANIMATIC_OT_review_end,
    ANIMATIC_OT_take_kind,
    ANIMATIC_OT_take_background,
    ANIMATIC_OT_background_remove,
)
