"""The settings that the Expert panel folds away: a part of those of a shot."""

from collections.abc import Callable
from typing import Any

import bpy

from ..errors import AnimaticError
from ..shot.long_clip import MAX_AT_ONCE, MAX_FRAMES
from .asked import asked_level, find_model

# No postponed annotations here: Blender reads them as the properties themselves.


def _begin_as_usual(name: str) -> Callable[[Any, bpy.types.Context], None]:
    """A number that is said by hand for the first time begins at what the model takes without."""

    def begin(settings: Any, _context: bpy.types.Context) -> None:
        if not getattr(settings, f"use_{name}") or settings.is_property_set(name):
            return
        try:
            model = find_model(settings.model)
        except AnimaticError:
            return  # Generate says what is wrong
        steps = asked_level(settings, model, but="steps").steps
        usual = {"steps": steps, "guidance": model.guidance, "guidance_end": model.guidance_end}
        setattr(settings, name, usual[name])

    return begin


class ExpertSettings:
    """Numbers in place of what the quality, the model and the shot say."""

    use_steps: bpy.props.BoolProperty(
        name="Steps",
        description="Set the number of steps by hand in place of the quality's",
        update=_begin_as_usual("steps"),
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
        name="Guidance",
        description="Set the guidance by hand in place of the model's",
        update=_begin_as_usual("guidance"),
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
    use_guidance_end: bpy.props.BoolProperty(
        name="Guided For",
        description="Set by hand for how long the guidance acts, in place of the model's",
        update=_begin_as_usual("guidance_end"),
    )
    guidance_end: bpy.props.FloatProperty(
        name="Guided For",
        description=(
            "For which part of the steps the guidance acts. The steps after it take half the time; "
            "what things are and their colours are settled early"
        ),
        default=1.0,
        min=0.05,
        max=1.0,
        precision=2,
        step=5,
        subtype="FACTOR",
    )
    use_schedule: bpy.props.BoolProperty(
        name="Schedule", description="Set the noise schedule by hand in place of the quality's"
    )
    schedule: bpy.props.EnumProperty(
        name="Schedule",
        description="How the steps lead from noise to the picture",
        items=(
            ("dpm", "DPM++ 2M", "Good pictures in about half the steps, with any model"),
            ("lcm", "LCM", "4 to 8 steps, with models or LoRAs that were made for it"),
            # Last, because files remember an entry by its place.
            ("ddim", "DDIM", "20 to 50 steps, with any model, as the papers sample"),
        ),
        default="dpm",
    )
    encoder: bpy.props.EnumProperty(
        name="Encoder",
        description="What reads the guides, where the model has both for this kind of guide",
        items=(
            ("usual", "Automatic", "The model's usual one: SparseCtrl, where it has that"),
            (
                "sparse",
                "SparseCtrl",
                "Made for video: few guide frames also shape the frames between them",
            ),
            (
                "image",
                "ControlNet",
                "Made for pictures: each guide frame is followed closely, frames between it are "
                "free. Wants many guide frames",
            ),
        ),
        default="usual",
    )
    guide_start: bpy.props.FloatProperty(
        name="Hold From",
        description=(
            "After which part of the steps the guides begin to hold. Later lets the model compose "
            "the picture before your shapes bind it"
        ),
        default=0.0,
        min=0.0,
        max=0.95,
        precision=2,
        step=5,
        subtype="FACTOR",
    )
    guide_end: bpy.props.FloatProperty(
        name="Hold For",
        description=(
            "For which part of the steps the guides hold. Less than all lets the model finish "
            "the surfaces freely once the shapes stand"
        ),
        default=1.0,
        min=0.05,
        max=1.0,
        precision=2,
        step=5,
        subtype="FACTOR",
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
    use_frames: bpy.props.BoolProperty(
        name="Frames", description="Set the number of frames by hand: fewer is quicker, less smooth"
    )
    frames: bpy.props.IntProperty(
        name="Frames",
        description=(
            "Number of frames that the model makes for the shot. For more than it was made for, "
            "tick Windows"
        ),
        default=16,
        min=1,
        max=MAX_FRAMES,
        soft_max=32,
    )
    use_context: bpy.props.BoolProperty(
        name="Windows",
        description=(
            "Make a clip that is longer than the model's in windows that overlap. Off: the "
            "model's frames are spread over the whole shot"
        ),
    )
    context_length: bpy.props.IntProperty(
        name="Length",
        description="Frames of a window: as many as the model was made for, mostly",
        default=16,
        min=2,
        max=MAX_AT_ONCE,
    )
    context_overlap: bpy.props.IntProperty(
        name="Overlap",
        description="Frames that neighbouring windows share: more takes longer and is smoother",
        default=4,
        min=0,
        max=MAX_AT_ONCE - 1,
    )
    free_noise: bpy.props.BoolProperty(
        name="Same Noise",
        description=(
            "All windows begin from the same noise, shuffled (FreeNoise): subject and place stay "
            "more alike over a long clip"
        ),
    )
    loop: bpy.props.BoolProperty(
        name="Loop",
        description="Let the end of the video run into its beginning, to be played over and over",
    )
