"""The settings of a shot as the artist sees them; they live in the scene and so in the .blend."""

import bpy

from ..errors import AnimaticError
from ..link.catalogue import list_checkpoints

# No postponed annotations here: Blender reads them as the properties themselves.

_GUIDES = (
    (
        "depth",
        "Depth",
        "Hold the shapes and how far away they are. The best choice for a blockout",
        "IMAGE_ZDEPTH",
        0,
    ),
    (
        "lineart",
        "Lines (Freestyle)",
        "Hold the outlines and edges that Freestyle draws; surfaces are left free",
        "MOD_LINEART",
        1,
    ),
    (
        "render",
        "Render",
        "Hold the picture itself, colours and light included, as your render engine makes it",
        "IMAGE_RGB",
        2,
    ),
)
_KEYFRAMES = (
    (
        "camera",
        "Camera Keys",
        "Frames where the camera, its lens, its parents or what it follows are keyed",
        "OUTLINER_OB_CAMERA",
        0,
    ),
    ("objects", "Object Keys", "Frames where the objects of the scene are keyed", "OBJECT_DATA", 1),
    ("markers", "Markers", "Frames that carry a timeline marker", "MARKER_HLT", 2),
    ("every", "Every", "A frame at a regular distance, from the first one on", "KEYFRAME", 3),
    (
        "all",
        "All",
        "Every frame of the video: the picture is held from first to last",
        "KEYFRAME_HLT",
        4,
    ),
    ("list", "My Own", "The frames that you type", "GREASEPENCIL", 5),
)


def _suggest_models(
    _settings: "AnimaticSettings", _context: bpy.types.Context, text: str
) -> list[str]:
    # Called when the artist opens the field, not on every redraw: reading the cards is allowed.
    try:
        names = [checkpoint.name for checkpoint in list_checkpoints([])]
    except AnimaticError:
        return []  # a damaged card must not stop the typing; Generate says which one it is
    return [name for name in names if text.lower() in name.lower()]


class AnimaticSettings(bpy.types.PropertyGroup):
    """What ``Scene.animatic`` holds."""

    prompt: bpy.props.StringProperty(
        name="Prompt",
        description="What the picture shows: subject, materials, light, mood, camera move",
        maxlen=4000,
    )
    negative_prompt: bpy.props.StringProperty(
        name="Avoid",
        description="What the picture must not show (the negative prompt)",
        maxlen=4000,
    )
    guide: bpy.props.EnumProperty(
        name="Guide",
        description="What of your blockout the video must follow",
        items=_GUIDES,
        default="depth",
    )
    keyframes: bpy.props.EnumProperty(
        name="Frames",
        description=(
            "At which frames your blockout holds the video. "
            "Between them the model finds the motion by itself"
        ),
        items=_KEYFRAMES,
        default="camera",
    )
    keyframes_step: bpy.props.IntProperty(
        name="Step",
        description="Distance between guide frames, in frames of the scene",
        default=12,
        min=1,
        soft_max=48,
    )
    keyframes_list: bpy.props.StringProperty(
        name="At",
        description="Scene frames with commas between them, for example 1, 12, 24",
        default="1, 12, 24",
    )
    model: bpy.props.StringProperty(
        name="Model",
        description="The video model: one of the names offered, or the path of a model folder",
        default="blockout-mini",
        search=_suggest_models,
        search_options={"SORT", "SUGGESTION"},
    )
    seed: bpy.props.IntProperty(
        name="Seed",
        description="The same seed gives the same video again; another one gives a new variation",
        default=1,
        min=0,
    )
    takes: bpy.props.IntProperty(
        name="Takes",
        description="How many variations to make. The first uses the seed, each next one seed + 1",
        default=1,
        min=1,
        max=64,
        soft_max=8,
    )

    def keyframes_text(self) -> str:
        """The choice of guide frames as the command line spells it."""
        if self.keyframes == "every":
            return f"every:{self.keyframes_step}"
        if self.keyframes == "list":
            return self.keyframes_list
        return self.keyframes
