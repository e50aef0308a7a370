"""Line guides: Freestyle as a render pass, white antialiased lines on black."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import radians

import bpy
import numpy as np

from .engine_limits import BY_FREESTYLE, EngineLimits, names_of
from .errors import SceneError
from .stage import OnStep, Stage, find_channel, has_channel
from .visibility import hide_what_does_not_count, keep_one_view_layer, warn_of_drawings

SAMPLES = 8
"""Rays per pixel: 9 levels of coverage along a line's edge."""
CREASE = 140.0
"""Faces that meet at a smaller angle, in degrees, make a line."""
_GAP = 1e-5
"""Meshes are drawn smaller by this share of their size. Where one stands exactly in the plane of
what carries it, Freestyle's arithmetic (single precision) takes parts of its base for hidden."""


def render_lineart(
    stage: Stage,
    times: Sequence[Fraction],
    width: float,
    on_step: OnStep,
    crease: float | None = None,
    lines_of: str | None = None,
) -> tuple[list[np.ndarray], list[str]]:
    """Render the lines at ``times``, ``width`` pixels wide.

    Returns uint8 [H, W] each, 255 = line, and warnings. Faces that meet at less than ``crease``
    degrees (0 to 180) make a line. ``lines_of`` names a collection: only its objects get lines, the
    others still hide what is behind them. Raises SceneError when no frame shows any line, and for
    settings that cannot be.
    """
    drawings = warn_of_drawings(stage.scene)
    prepare_lineart(stage, width, crease, lines_of)
    limits = EngineLimits(stage.scene, BY_FREESTYLE)
    pictures = []
    for index, time in enumerate(times):
        stage.go_to(time)
        limits.look()
        pictures.append(draw_lines(stage))
        on_step(index + 1, len(times), f"lines {index + 1} of {len(times)}")
    warnings = drawings + _warnings(limits)
    if not any(picture.any() for picture in pictures):
        sentences = [
            "The camera sees no edge of any object in this shot: aim it at the scene, and check "
            "that the objects are not hidden from the render.",
            *warnings,
        ]
        raise SceneError(" ".join(sentences))
    return pictures, warnings


def _warnings(limits: EngineLimits) -> list[str]:
    warnings = []
    if limits.strands:
        warnings.append(
            f"Line guides leave out the hair or points of {names_of(limits.strands)}, which "
            "Freestyle does not draw: use depth guides, or convert them to meshes, if they should "
            "be in the video."
        )
    if limits.scattered:
        warnings.append(
            "Freestyle draws as solid what particles or geometry nodes scatter of "
            f"{names_of(limits.scattered)}, which is no surface or hidden from the camera: use "
            "depth guides, or hide from the render what scatters it."
        )
    return warnings


def prepare_lineart(
    stage: Stage, width: float, crease: float | None = None, lines_of: str | None = None
) -> None:
    """Set ``stage`` up so that ``draw_lines`` renders lines and nothing else."""
    crease = CREASE if crease is None else crease
    if not 0 <= crease <= 180:
        raise SceneError(f"The crease angle is {crease:g}: set it from 0 to 180 degrees.")
    drawn = _collection(stage.scene, lines_of) if lines_of else None
    scene, render = stage.scene, stage.scene.render
    layer = keep_one_view_layer(scene)
    hide_what_does_not_count(scene, layer)
    _part_what_touches(scene)
    render.use_compositing = False
    render.use_freestyle = layer.use_freestyle = True
    render.line_thickness_mode, render.line_thickness = "ABSOLUTE", 1.0
    # Freestyle reads the geometry itself: Cycles need not load and trace it, too.
    layer.use_solid = layer.use_strand = layer.use_volumes = layer.use_sky = False
    layer.use_grease_pencil = False
    layer.samples = 0
    scene.world = layer.world_override = None
    render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples, cycles.max_bounces = SAMPLES, 0
    cycles.use_denoising = cycles.use_adaptive_sampling = False
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 1.0  # coverage of the pixel
    _set_lines(layer.freestyle_settings, width, radians(crease), drawn)


def _collection(scene: bpy.types.Scene, name: str) -> bpy.types.Collection:
    inside = {each.name: each for each in scene.collection.children_recursive}
    if name not in inside:
        there = ", ".join(f"'{each}'" for each in sorted(inside)) or "none"
        raise SceneError(
            f"The scene '{scene.name}' has no collection '{name}' to draw lines of; it has: "
            f"{there}."
        )
    if not inside[name].all_objects:
        raise SceneError(f"The collection '{name}' is empty: there is nothing to draw lines of.")
    return inside[name]


def _part_what_touches(scene: bpy.types.Scene) -> None:
    for item in scene.objects:
        # What is linked from a library takes no modifiers.
        if item.type != "MESH" or not item.is_editable:
            continue
        corners = np.array(item.bound_box)
        gap = item.modifiers.new("Animatic Gap", "DISPLACE")
        gap.direction, gap.mid_level = "NORMAL", 0.0
        gap.strength = -_GAP * float(np.ptp(corners, axis=0).max())


def draw_lines(stage: Stage) -> np.ndarray:
    """Render now; return the lines' coverage as uint8 [H, W]."""
    passes = stage.render_passes()
    if not has_channel(passes, "Freestyle.A"):  # Blender leaves the pass out when it drew no line
        return np.zeros((stage.height, stage.width), np.uint8)
    coverage = find_channel(passes, "Freestyle.A").clip(0.0, 1.0)
    coverage[~stage.film.inside_border(stage.width, stage.height)] = 0.0
    return np.rint(coverage * 255).astype(np.uint8)


def _set_lines(
    settings: bpy.types.FreestyleSettings,
    width: float,
    crease: float,
    drawn: bpy.types.Collection | None,
) -> None:
    settings.mode = "EDITOR"
    settings.as_render_pass = True
    # Interpolated normals lose the outlines of smooth curve and text objects; the mesh's own edges
    # are also exactly where the depth guide has its steps.
    settings.use_smoothness = False
    settings.use_culling = settings.use_view_map_cache = False
    settings.crease_angle = crease
    settings.sphere_radius, settings.kr_derivative_epsilon = 0.1, 0.0
    for theirs in settings.linesets:
        theirs.show_render = False
    lines = settings.linesets.new("Animatic Guide")
    lines.show_render = True
    lines.select_by_visibility = lines.select_by_edge_types = True
    lines.visibility = "VISIBLE"
    lines.select_by_face_marks, lines.select_by_collection = False, drawn is not None
    if drawn is not None:
        lines.collection, lines.collection_negation = drawn, "INCLUSIVE"
    lines.select_by_image_border = True
    for name in ("silhouette", "crease", "border", "external_contour"):
        setattr(lines, f"select_{name}", True)
    # A new line set may come without a line style; Freestyle then draws nothing and says so only
    # in the console.
    style = bpy.data.linestyles.new("Animatic Guide")
    style.color, style.alpha, style.thickness = (1.0, 1.0, 1.0), 1.0, width
    style.thickness_position, style.caps = "CENTER", "ROUND"
    lines.linestyle = style
