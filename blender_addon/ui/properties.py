"""The settings of a shot as the artist sees them; they live in the scene and so in the .blend."""

import bpy

from ..errors import AnimaticError
from ..link.catalogue import list_checkpoints
from .keyframe_list import AnimaticGuideFrame, go_to_active
from .preferences import model_folders, preferences
from .presets import NO_LOOK, look_items, quality_items

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


def _suggest_models(
    _settings: "AnimaticSettings", context: bpy.types.Context, text: str
) -> list[str]:
    # Called when the artist opens the field, not on every redraw: reading the cards is allowed.
    try:
        found = list_checkpoints(model_folders(preferences(context)))
    except AnimaticError:
        return []  # a damaged card must not stop the typing; Generate says which one it is
    names = [checkpoint.name for checkpoint in found]
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
    guide_frames: bpy.props.CollectionProperty(
        name="Guide Frames",
        description="Where your blockout holds the video; between, the model finds the motion",
        type=AnimaticGuideFrame,
    )
    guide_frames_index: bpy.props.IntProperty(
        name="Guide Frame",
        description="Click a guide frame to go there",
        update=go_to_active,
    )
    model: bpy.props.StringProperty(
        name="Model",
        description="The video model: one of the names offered, or the path of a model folder",
        default="blockout-mini",
        search=_suggest_models,
        search_options={"SORT", "SUGGESTION"},
    )
    look: bpy.props.EnumProperty(
        name="Style",
        description="A style: its words are added to your prompt",
        items=look_items(),
        default=NO_LOOK,
    )
    quality: bpy.props.EnumProperty(
        name="Quality",
        description="How much time each take gets. Draft while you look for the shot",
        items=quality_items(),
        default="standard",
    )
    strength: bpy.props.FloatProperty(
        name="Strength",
        description=(
            "How strongly the picture follows all guides. Lower lets the model bend the shapes "
            "of your blockout; 0 leaves the prompt alone"
        ),
        default=1.0,
        min=0.0,
        max=2.0,
        soft_max=1.5,
        precision=2,
        step=5,
        subtype="FACTOR",
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
    use_steps: bpy.props.BoolProperty(
        name="Steps", description="Set the number of steps by hand in place of the quality's"
    )
    steps: bpy.props.IntProperty(
        name="Steps",
        description="Sampling steps: more take longer and give steadier detail",
        default=20,
        min=1,
        max=150,
        soft_max=60,
    )
    use_guidance: bpy.props.BoolProperty(
        name="Guidance", description="Set the guidance by hand in place of the model's"
    )
    guidance: bpy.props.FloatProperty(
        name="Guidance",
        description=(
            "How literally the prompt is taken. Low looks natural but may leave things out; "
            "high follows every word, with harsh contrast and colours"
        ),
        default=7.5,
        min=1.0,
        max=30.0,
        soft_max=15.0,
        precision=1,
    )
    use_frames: bpy.props.BoolProperty(
        name="Frames", description="Make fewer frames than the model can: quicker, less smooth"
    )
    frames: bpy.props.IntProperty(
        name="Frames",
        description="Number of frames that the model makes for the shot",
        default=16,
        min=1,
        max=32,
    )
    use_range: bpy.props.BoolProperty(
        name="Range", description="Make only a part of the shot that is on screen"
    )
    range_start: bpy.props.IntProperty(
        name="Start", description="First scene frame of the video", default=1
    )
    range_end: bpy.props.IntProperty(
        name="End", description="Last scene frame of the video", default=48
    )
