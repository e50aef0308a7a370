"""Fill, suggest, add, remove and clear guide frames."""

from fractions import Fraction

import bpy

from ..errors import AnimaticError
from ..scene.animation_keys import key_times
from ..scene.find_keyframes import find_keyframes
from ..shot.suggest import suggest_frames
from .asked import current_shot, shot_timing
from .camera_motion import motion_path
from .keyframe_list import Row, replace_in_shot, rewrite, rows_of, staying_here

_SOURCES = (
    (
        "camera",
        "Camera Keys",
        "Where the camera, its lens, its parents or what it follows are keyed",
        "OUTLINER_OB_CAMERA",
        0,
    ),
    (
        "selected",
        "Keys of Selected Objects",
        "Where the selected objects are keyed",
        "OBJECT_DATA",
        1,
    ),
    ("objects", "Keys of All Objects", "Where any object of the scene is keyed", "SCENE_DATA", 2),
    ("markers", "Markers", "Where the timeline carries a marker", "MARKER_HLT", 3),
    ("every", "Regular Steps", "At a regular distance, from the first frame on", "KEYFRAME", 4),
    (
        "all",
        "Every Frame of the Video",
        "The picture is held from first to last, and little is left to the model",
        "KEYFRAME_HLT",
        5,
    ),
)
_NOTHING = {
    "camera": "The camera has no keys",
    "selected": "The selected objects have no keys",
    "objects": "No object has a key",
    "markers": "There is no timeline marker",
}


class _ChangesList(bpy.types.Operator):
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Change the list, or say why not."""
        try:
            self.change(context.scene, context)
        except AnimaticError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def change(self, scene: bpy.types.Scene, context: bpy.types.Context) -> None:
        """What the operator does. Raises AnimaticError with a sentence."""
        raise NotImplementedError


class ANIMATIC_OT_guide_frames_fill(_ChangesList):
    """Replace this shot's guide frames"""

    bl_idname = "animatic.guide_frames_fill"
    bl_label = "Fill Guide Frames"

    source: bpy.props.EnumProperty(name="From", items=_SOURCES)
    step: bpy.props.IntProperty(
        name="Step",
        description="Distance between guide frames, in frames of the scene",
        default=12,
        min=1,
        soft_max=48,
    )

    @classmethod
    def description(cls, _context: bpy.types.Context, properties) -> str:
        """The tooltip of each source."""
        says = {item[0]: item[2] for item in _SOURCES}
        return f"{says[properties.source]}. Replaces the guide frames of this shot"

    def draw(self, _context: bpy.types.Context) -> None:
        """Offer the step only where it means something."""
        self.layout.use_property_split = True
        self.layout.prop(self, "source")
        if self.source == "every":
            self.layout.prop(self, "step")

    def change(self, scene: bpy.types.Scene, context: bpy.types.Context) -> None:
        """Find the frames of the source and put them into the list."""
        shot = current_shot(scene)
        if self.source == "all":
            timing = shot_timing(scene, shot)
            found = [timing.scene_time(k) for k in range(timing.frames)]
        elif self.source == "every":
            found = [Fraction(frame) for frame in range(shot.start, shot.end + 1, self.step)]
        elif self.source == "selected":
            found = _selected_times(scene, context.selected_objects)
        else:
            found = find_keyframes(scene, shot, self.source)
        inside = [frame for frame in found if shot.start <= frame < shot.end + 1]
        if not inside:
            raise AnimaticError(
                f"{_NOTHING[self.source]} in this shot, frames {shot.start} to {shot.end}. "
                "Choose another source, press Suggest, or add frames with the plus."
            )
        replace_in_shot(scene, shot, inside)


class ANIMATIC_OT_guide_frames_suggest(_ChangesList):
    """Choose guide frames from how camera and objects move: where they turn or stop, and even \
steps between that suit the model. Replaces the guide frames of this shot"""

    bl_idname = "animatic.guide_frames_suggest"
    bl_label = "Suggest"

    def change(self, scene: bpy.types.Scene, _context: bpy.types.Context) -> None:
        """Look at the scene at each frame of the clip."""
        shot = current_shot(scene)
        timing = shot_timing(scene, shot)
        times = [timing.scene_time(k) for k in range(timing.frames)]
        chosen = suggest_frames(motion_path(scene, times))
        replace_in_shot(scene, shot, [times[k] for k in chosen])


class ANIMATIC_OT_guide_frame_add(_ChangesList):
    """Hold the video at the current frame"""

    bl_idname = "animatic.guide_frame_add"
    bl_label = "Add Current Frame"

    def change(self, scene: bpy.types.Scene, _context: bpy.types.Context) -> None:
        """Add a row, or make the frame's own row the active one."""
        settings, frame = scene.animatic, scene.frame_current
        rows = rows_of(settings)
        rows.setdefault(frame, Row())
        rewrite(settings, rows)
        with staying_here():
            settings.guide_frames_index = sorted(rows).index(frame)


class ANIMATIC_OT_guide_frame_remove(_ChangesList):
    """Leave the model free at this frame"""

    bl_idname = "animatic.guide_frame_remove"
    bl_label = "Remove Guide Frame"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """With a row that is active."""
        settings = context.scene.animatic
        return 0 <= settings.guide_frames_index < len(settings.guide_frames)

    def change(self, scene: bpy.types.Scene, _context: bpy.types.Context) -> None:
        """Remove the active row."""
        settings = scene.animatic
        settings.guide_frames.remove(settings.guide_frames_index)
        with staying_here():
            last = max(0, len(settings.guide_frames) - 1)
            settings.guide_frames_index = min(settings.guide_frames_index, last)


class ANIMATIC_OT_guide_frames_clear(_ChangesList):
    """Remove all guide frames of the scene. What suits the model then holds it, or the camera's \
keys"""

    bl_idname = "animatic.guide_frames_clear"
    bl_label = "Clear"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """With something to clear."""
        return len(context.scene.animatic.guide_frames) > 0

    def change(self, scene: bpy.types.Scene, _context: bpy.types.Context) -> None:
        """Empty the list."""
        rewrite(scene.animatic, {})


def _selected_times(scene: bpy.types.Scene, objects: list[bpy.types.Object]) -> list[Fraction]:
    times: set[float] = set()
    for ob in objects:
        times |= key_times(ob) | key_times(ob.data)
        times |= key_times(getattr(ob.data, "shape_keys", None))
    stretch = Fraction(scene.render.frame_map_new, scene.render.frame_map_old)
    return sorted({Fraction(time).limit_denominator(1000) * stretch for time in times})


CLASSES = (
    ANIMATIC_OT_guide_frames_fill,
    ANIMATIC_OT_guide_frames_suggest,
    ANIMATIC_OT_guide_frame_add,
    ANIMATIC_OT_guide_frame_remove,
    ANIMATIC_OT_guide_frames_clear,
)
