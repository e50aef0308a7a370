"""The settings of a shot as the artist sees them; they live in the scene and so in the .blend."""

import math

import bpy

from ..errors import AnimaticError
from ..link.catalogue import list_checkpoints
from . import guides_report, previews, session
from .keyframe_list import AnimaticGuideFrame, go_to_active
from .loras import AnimaticLora
from .preferences import model_folders, preferences
from .presets import quality_items
from .properties_expert import ExpertSettings
from .remote_models import remote_models
from .take_strips import apply_over

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
    chosen = preferences(context)
    if chosen.engine_where == "remote":
        remote_models.ask(chosen.remote_address, chosen.remote_token)
        names = [checkpoint.name for checkpoint in remote_models.models]
    else:
        try:
            names = [checkpoint.name for checkpoint in list_checkpoints(model_folders(chosen))]
        except AnimaticError:
            return []  # a damaged card must not stop the typing; Generate says which one it is
    return [name for name in names if text.lower() in name.lower()]


def _take_found_near(settings: "AnimaticSettings", _context: bpy.types.Context) -> None:
    found = guides_report.last(settings.id_data)
    if settings.use_near and found is not None:
        settings.near = found.near_distance


def _take_found_far(settings: "AnimaticSettings", _context: bpy.types.Context) -> None:
    found = guides_report.last(settings.id_data)
    if settings.use_far and found is not None:
        settings.far = found.far_distance


def _looks(_settings: object, _context: object) -> list[tuple[str, str, str, int, int]]:
    return previews.looks()


def _lay_over(settings: "AnimaticSettings", _context: bpy.types.Context) -> None:
    try:
        apply_over(settings.id_data)
    except AnimaticError as error:
        session.fail(str(error))


class AnimaticSettings(ExpertSettings, bpy.types.PropertyGroup):
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
    use_near: bpy.props.BoolProperty(
        name="Near",
        description="Set by hand what counts as nearest. Off: found for the whole shot",
        update=_take_found_near,
    )
    near: bpy.props.FloatProperty(
        name="Near",
        description="Distance from the camera that is white in the depth; nearer is white, too",
        default=1.0,
        min=0.001,
        soft_max=1000.0,
        subtype="DISTANCE",
        unit="LENGTH",
    )
    use_far: bpy.props.BoolProperty(
        name="Far",
        description=(
            "Set by hand what counts as farthest: a sky dome or a huge ground leaves little of "
            "the depth to your subject otherwise. Off: found for the whole shot"
        ),
        update=_take_found_far,
    )
    far: bpy.props.FloatProperty(
        name="Far",
        description="Distance from the camera beyond which all is equally dark in the depth",
        default=100.0,
        min=0.001,
        soft_max=10000.0,
        subtype="DISTANCE",
        unit="LENGTH",
    )
    use_crease: bpy.props.BoolProperty(
        name="Crease", description="Set by hand which edges inside a shape are drawn"
    )
    crease: bpy.props.FloatProperty(
        name="Crease",
        description=(
            "An edge is drawn where its faces meet at a smaller angle than this. "
            "Larger draws more edges of rounded shapes, smaller only the sharp ones"
        ),
        default=math.radians(140),
        min=0.0,
        max=math.pi,
        subtype="ANGLE",
    )
    thickness: bpy.props.FloatProperty(
        name="Thickness",
        description=(
            "Width of the lines; 1 is what the model was made for. Thicker lines bind it more, "
            "thinner ones leave more to it"
        ),
        default=1.0,
        min=0.25,
        max=4.0,
        soft_min=0.5,
        soft_max=2.0,
        precision=2,
        step=5,
        subtype="FACTOR",
    )
    lines_of: bpy.props.PointerProperty(
        name="Only",
        description="Draw lines of what is in this collection alone. Empty: of everything",
        type=bpy.types.Collection,
    )
    reference: bpy.props.StringProperty(
        name="Reference",
        description=(
            "A picture, PNG or JPEG, whose look the video takes on: colours, light, materials. "
            "The model must know how to look at pictures"
        ),
        subtype="FILE_PATH",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    reference_scale: bpy.props.FloatProperty(
        name="Amount",
        description="How much of the reference picture's look is taken on, beside the prompt's",
        default=0.6,
        min=0.0,
        max=2.0,
        soft_max=1.0,
        precision=2,
        step=5,
        subtype="FACTOR",
    )
    first: bpy.props.StringProperty(
        name="First Frame",
        description=(
            "A PNG that is kept as the video's first frame, and whose look the others share: "
            "a frame of an earlier take, or a painting over it"
        ),
        subtype="FILE_PATH",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"},
    )
    loras: bpy.props.CollectionProperty(type=AnimaticLora)
    loras_index: bpy.props.IntProperty(name="LoRA")
    in_between: bpy.props.BoolProperty(
        name="In-Between Frames",
        description=(
            "A picture of its own for every frame of the scene, moved as your scene moves. "
            "Off: each picture of the model is held until the next"
        ),
    )
    deflicker: bpy.props.EnumProperty(
        name="Deflicker",
        description=(
            "Average what each surface looks like over neighbouring frames, along your scene's "
            "own motion"
        ),
        items=[
            ("AUTO", "Auto", "Where the model is the better for it, and the quality is not Draft"),
            ("ON", "On", "Steady the frames. Blender takes some time to read the motion"),
            ("OFF", "Off", "The frames as the model makes them"),
        ],
    )
    use_upscale: bpy.props.BoolProperty(
        name="Enlarge",
        description="Make the video larger in a second pass, which draws more detail",
    )
    upscale: bpy.props.FloatProperty(
        name="Enlarge",
        description="How much larger it becomes. Twice the size takes about three times as long",
        default=1.5,
        min=1.25,
        max=2.0,
        precision=2,
        step=25,
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
        items=_looks,
        default=0,  # the number of none
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
            "of your blockout; at 0 the video follows the prompt only"
        ),
        default=1.0,
        min=0.0,
        max=2.0,
        soft_max=1.5,
        precision=2,
        step=5,
        subtype="FACTOR",
    )
    blur: bpy.props.IntProperty(
        name="Loosen",
        description=(
            "Take small shapes off the depth guides, so that the model may add its own: 0 keeps "
            "every edge of your blockout, 4 only the large masses"
        ),
        default=0,
        min=0,
        max=4,
    )
    temporal: bpy.props.FloatProperty(
        name="Steadiness",
        description=(
            "How closely the frames are tied together. Over 1 calms flicker and detail that "
            "swims; under 1 lets every frame look its best by itself"
        ),
        default=1.0,
        min=0.0,
        max=4.0,
        soft_max=2.0,
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
    strip_kind: bpy.props.EnumProperty(
        name="Strip",
        description="What new takes become in the Video Sequencer",
        items=(
            ("images", "Images", "An image strip: the pictures as they were made, without loss"),
            (
                "movie",
                "Movie",
                "A movie strip: one video at the scene's rate, which plays more easily. It shows "
                "the same picture at each frame",
            ),
        ),
        default="images",
    )
    use_over: bpy.props.BoolProperty(
        name="Over Render",
        description=(
            "Lay the takes over your own render: a strip of this scene is put beneath them in the "
            "edit. Off: it is taken away"
        ),
        update=_lay_over,
    )
    over_opacity: bpy.props.FloatProperty(
        name="Opacity",
        description="How much of the take is seen over your render",
        default=0.5,
        min=0.0,
        max=1.0,
        precision=2,
        step=5,
        subtype="FACTOR",
        update=_lay_over,
    )
