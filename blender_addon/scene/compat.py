"""Every difference between the Blender versions 4.5, 5.0, 5.1 and 5.2, in one place.

Each function works by what the running Blender has, not by its version number, wherever the
presence of a property tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bpy

# What colour configurations call one and the same: Blender's own first, then those of ACES. "Raw"
# is no such view: it shows light as it is, far too dark.
_DISPLAYS = ("sRGB", "sRGB - Display", "sRGB Display")
_VIEWS = ("Standard", "Un-tone-mapped")
_SPACES = ("sRGB", "sRGB - Texture", "sRGB Encoded Rec.709 (sRGB)", "Utility - sRGB - Texture")


def is_eevee(engine: str) -> bool:
    """Say whether ``engine`` is EEVEE: 5.0 took back the name without NEXT."""
    return engine in {"BLENDER_EEVEE", "BLENDER_EEVEE_NEXT"}


def fcurves_of(
    action: bpy.types.Action | None, slot: bpy.types.bpy_struct | None
) -> list[bpy.types.FCurve]:
    """Return the F-curves that ``action`` holds for ``slot`` (an ActionSlot, or None).

    4.5 keeps a legacy view ``Action.fcurves``; 5.0 removed it and reads layers and slots only.
    """
    if action is None:
        return []
    if getattr(action, "is_action_legacy", False) and hasattr(action, "fcurves"):
        return list(action.fcurves)
    if slot is None:
        return []
    curves: list[bpy.types.FCurve] = []
    for layer in action.layers:
        for strip in layer.strips:
            channels = strip.channelbag(slot) if strip.type == "KEYFRAME" else None
            if channels is not None:
                curves.extend(channels.fcurves)
    return curves


def set_still_format(
    settings: bpy.types.ImageFormatSettings, file_format: str, color_mode: str, depth: str
) -> None:
    """Set a still image format. From 5.0 on the media type must come first."""
    if hasattr(settings, "media_type"):
        multilayer = file_format == "OPEN_EXR_MULTILAYER"
        settings.media_type = "MULTI_LAYER_IMAGE" if multilayer else "IMAGE"
    settings.file_format = file_format
    settings.color_mode = color_mode
    settings.color_depth = depth
    if "EXR" in file_format:
        settings.exr_codec = "NONE"
    if hasattr(settings, "use_exr_interleave"):
        settings.use_exr_interleave = True  # 5.0+: one part instead of one per pass


def set_video_format(render: bpy.types.RenderSettings) -> None:
    """Set H.264 in MP4, nearly without loss to the eye. From 5.0 on the media type comes first."""
    settings = render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"
    settings.color_mode = "RGB"
    video = render.ffmpeg
    video.format, video.codec, video.audio_codec = "MPEG4", "H264", "NONE"
    video.constant_rate_factor, video.ffmpeg_preset = "HIGH", "GOOD"


def finished_pictures(scene: bpy.types.Scene) -> None:
    """Let ``scene`` show strips as they are, without a look, as far as its colours can."""
    _choose(scene.display_settings, "display_device", _DISPLAYS)
    view = scene.view_settings
    _choose(view, "view_transform", _VIEWS)
    _choose(view, "look", ("None",))
    view.exposure, view.gamma, view.use_curve_mapping = 0.0, 1.0, False
    _choose(scene.sequencer_colorspace_settings, "name", _SPACES)


def read_as_srgb(strip: bpy.types.bpy_struct) -> None:
    """Let the files of ``strip``, an image or movie strip, be sRGB pictures."""
    _choose(strip.colorspace_settings, "name", _SPACES)


def _choose(settings: bpy.types.bpy_struct, name: str, choices: tuple[str, ...]) -> None:
    """Set the first of ``choices`` that there is; a studio's OCIO file may have none of them."""
    for choice in choices:
        try:
            setattr(settings, name, choice)
        except TypeError:  # what Python is told of an enum without this name
            continue
        return


def allow_writing(render: bpy.types.RenderSettings) -> None:
    """Undo settings that exist from 5.2 on: renders that are not saved, texture caches that are."""
    if hasattr(render, "save_output"):
        render.save_output = True
    if hasattr(render, "use_auto_generate_texture_cache"):
        render.use_auto_generate_texture_cache = False  # it would write beside the textures


def material_tree(material: bpy.types.Material) -> bpy.types.NodeTree | None:
    """Return a material's nodes if it uses them; from 5.0 on every material does."""
    if bpy.app.version >= (5, 0, 0) or material.use_nodes:
        return material.node_tree
    return None


def compositor_tree(scene: bpy.types.Scene) -> bpy.types.NodeTree | None:
    """Return the compositor's node tree, which moved out of the scene in 5.0."""
    if hasattr(scene, "compositing_node_group"):
        return scene.compositing_node_group
    return scene.node_tree if scene.use_nodes else None


def new_image_strip(
    scene: bpy.types.Scene, name: str, files: list[Path], channel: int, start: int
) -> bpy.types.bpy_struct:
    """Place an image strip of one element per file from frame ``start``, stretched to the frame.

    ``files`` lie in one folder and may repeat. The strip is len(files) scene frames long.
    """
    strips = _strips(scene)
    strip = strips.new_image(name, str(files[0]), channel, start, fit_method="STRETCH")
    for file in files[1:]:
        strip.elements.append(file.name)
    if hasattr(strip, "duration"):  # 5.2; the older name is deprecated there
        strip.duration = len(files)
    else:
        strip.frame_final_duration = len(files)
    return strip


def new_movie_strip(
    scene: bpy.types.Scene, name: str, file: Path, channel: int, start: int
) -> bpy.types.bpy_struct:
    """Place a movie strip from frame ``start``, stretched to the frame."""
    return _strips(scene).new_movie(name, str(file), channel, start, fit_method="STRETCH")


def new_scene_strip(
    scene: bpy.types.Scene,
    name: str,
    source: bpy.types.Scene,
    channel: int,
    span: tuple[int, int],
) -> bpy.types.bpy_struct:
    """Place a strip of what ``source`` renders, each of its frames at that same frame.

    ``span``: the first and last frame that are shown.
    """
    strip = _strips(scene).new_scene(name, source, channel, source.frame_start)
    strip.scene_input = "CAMERA"
    set_strip_range(strip, span[0], span[1] + 1)
    strip.channel = channel  # at its full length it may have had to make way there
    return strip


def new_text_strip(
    scene: bpy.types.Scene, text: str, channel: int, span: tuple[int, int]
) -> bpy.types.bpy_struct:
    """Place a line of text for the frames ``span``, both included."""
    strips, frames = _strips(scene), span[1] - span[0] + 1
    if "length" in strips.bl_rna.functions["new_effect"].parameters:  # 5.0
        strip = strips.new_effect(text, "TEXT", channel, span[0], length=frames)
    else:
        strip = strips.new_effect(text, "TEXT", channel, span[0], frame_end=span[1] + 1)
    strip.text = text
    return strip


def _strips(scene: bpy.types.Scene) -> bpy.types.bpy_struct:
    return (scene.sequence_editor or scene.sequence_editor_create()).strips


def effect_inputs(strip: bpy.types.bpy_struct) -> list[bpy.types.bpy_struct]:
    """The strips that ``strip``, where it is an effect, is made of."""
    inputs = (getattr(strip, f"input_{number}", None) for number in (1, 2))
    return [each for each in inputs if each is not None]


def strip_range(strip: bpy.types.bpy_struct) -> tuple[int, int]:
    """Return the scene frame at which ``strip`` begins, and the first one after it."""
    if hasattr(strip, "left_handle"):  # 5.1; the older names are deprecated there
        return strip.left_handle, strip.right_handle
    return strip.frame_final_start, strip.frame_final_end


def set_strip_range(strip: bpy.types.bpy_struct, first: int, after: int) -> None:
    """Let ``strip`` be seen from scene frame ``first`` to before ``after``; its content stays."""
    older = ("frame_final_start", "frame_final_end")
    names = ("left_handle", "right_handle") if hasattr(strip, "left_handle") else older
    handles = list(zip(names, (first, after), strict=True))
    if first >= strip_range(strip)[1]:  # a handle stops at the other one
        handles.reverse()
    for name, frame in handles:
        setattr(strip, name, frame)


def content_start(strip: bpy.types.bpy_struct) -> int:
    """Return the scene frame of the first picture of ``strip``, whether it is seen or cut off."""
    return round(strip.content_start if hasattr(strip, "content_start") else strip.frame_start)


def show_in_sequencer(scene: bpy.types.Scene) -> None:
    """Let the Video Sequencer show ``scene``: since 5.0 each workspace names its own scene.

    A workspace in which the artist already edits strips of another scene keeps it. Before 5.0 the
    sequencer follows the window's scene, which stays the shot's.
    """
    for workspace in bpy.data.workspaces:
        if not hasattr(workspace, "sequencer_scene"):
            return
        shown = workspace.sequencer_scene
        editor = shown.sequence_editor if shown is not None else None
        if editor is None or len(editor.strips) == 0:
            workspace.sequencer_scene = scene


def node_trees(tree: bpy.types.NodeTree | None) -> Iterator[bpy.types.NodeTree]:
    """Yield ``tree`` and every node group inside it, each once."""
    waiting, seen = [tree], set()
    while waiting:
        current = waiting.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        yield current
        waiting.extend(getattr(node, "node_tree", None) for node in current.nodes)
