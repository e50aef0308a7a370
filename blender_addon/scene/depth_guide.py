"""Depth guides: planar metric Z of what the camera sees, one near and far for the whole shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import bpy
import numpy as np

from ..shot.depth import NOTHING, chosen_range, depth_range, encode_depth
from .engine_limits import BY_WORKBENCH, EngineLimits, names_of
from .errors import SceneError
from .gl_probe import can_render_with_gl
from .stage import OnStep, Stage, find_channel
from .visibility import hide_what_does_not_count, keep_one_view_layer, warn_of_drawings

_MEASURE_DIVISOR = 4
_TINY = 0.01
_CLOSE = 0.001
"""Of the way to the nearest surface, a smaller Clip Start leaves Workbench too few bits."""
_CUT_OFF = 0.005
_CLIPPED = 0.01
_LEVEL = 1.05
_BACKDROP = 0.02
"""Within this share of the disparities from the farthest, a surface is part of a backdrop."""
_AWAY = 5.0
"""Times as far as all that stands in front of it, a backdrop is."""


@dataclass(frozen=True)
class DepthGuides:
    """``codes``: one uint16 [H, W] per keyframe; ``near`` and ``far`` in scene units."""

    codes: list[np.ndarray]
    near: float
    far: float
    method: str
    warnings: list[str]


def choose_depth_method(wish: str) -> str:
    """Return ``workbench`` or ``cycles``: the wish, or for ``auto`` the fastest that is safe.

    ``render_depth`` takes Cycles for ``auto`` where Workbench would show what does not count.
    """
    if wish != "auto":
        return wish
    return "workbench" if can_render_with_gl() else "cycles"


def prepare_depth(stage: Stage, method: str) -> None:
    """Set ``stage`` up so that ``measure_z`` renders depth and nothing else."""
    scene, render = stage.scene, stage.scene.render
    layer = keep_one_view_layer(scene)
    hide_what_does_not_count(scene, layer)
    render.use_compositing = render.use_freestyle = False
    # Cycles writes no file without a combined pass, so that one stays.
    layer.use_pass_z = layer.use_pass_combined = True
    layer.use_solid = layer.use_strand = True
    layer.use_grease_pencil = layer.use_volumes = layer.use_sky = False
    scene.world = layer.world_override = None
    if method == "workbench":
        _prepare_workbench(scene)
    else:
        _prepare_cycles(scene, layer)


def measure_z(stage: Stage) -> np.ndarray:
    """Render now; return planar Z in scene units as float32 [H, W], ``inf`` where nothing is.

    A Clip Start that is tiny beside what is seen is raised for that.
    """
    lens = stage.camera
    lens.dof.use_dof = False  # its rays start anywhere on the lens: Z would be noise
    z = _render_z(stage)
    while stage.scene.render.engine == "BLENDER_WORKBENCH" and lens.type == "PERSP":
        # Most of its 24 bits of depth are spent right behind Clip Start, and what is 2 ** 24 times
        # as far is lost. Clip Start may go where no surface can be: before the nearest that is
        # seen, and within a part of the distance that the bits reach.
        empty = min(float(z.min()), lens.clip_start * 2**22, lens.clip_end)
        if lens.clip_start >= _CLOSE * empty:
            break
        lens.clip_start = empty / 2
        z = _render_z(stage)
    return z


def _render_z(stage: Stage) -> np.ndarray:
    z = find_channel(stage.render_passes(), "Depth.Z").copy()
    inside = stage.film.inside_border(z.shape[1], z.shape[0])
    z[~inside | (z > NOTHING) | (z <= 0)] = np.inf
    return z


def render_depth(
    stage: Stage,
    times: Sequence[Fraction],
    keyframes: Sequence[int],
    wish: str,
    on_step: OnStep,
    near: float | None = None,
    far: float | None = None,
) -> DepthGuides:
    """Render depth at ``keyframes`` (indexes into ``times``, the scene time of each clip frame).

    Every clip frame is measured, the ones between at a quarter of the size, so that the range
    holds for the whole shot. ``near`` and ``far`` (scene units) take the place of what is measured.
    Raises SceneError when nothing is in view, DepthError when the range brackets nothing.
    """
    method = choose_depth_method(wish)
    drawings = warn_of_drawings(stage.scene)
    prepare_depth(stage, method)
    scattered = _scattered(stage, times) if method == "workbench" else set()
    if scattered and wish == "auto":
        method = "cycles"
        _prepare_cycles(stage.scene, stage.layer)
    measured: list[np.ndarray] = []
    for index, time in enumerate(times):
        stage.resize(1 if index in keyframes else _MEASURE_DIVISOR)
        stage.go_to(time)
        measured.append(measure_z(stage))
        on_step(index + 1, len(times), f"depth {index + 1} of {len(times)}")
    beyond = max(_share_beyond_clip_end(stage, time) for time in (times[0], times[-1]))
    if not any(np.isfinite(z).any() for z in measured):
        raise SceneError(" ".join([_nothing_in_view(stage, beyond), *drawings]))
    near, far = chosen_range(depth_range(measured), near, far)
    warnings = drawings + _warnings(measured, near, far)
    if scattered and method == "workbench":
        warnings.append(
            "Workbench shows as solid what particles or geometry nodes scatter of "
            f"{names_of(scattered)}, which is no surface or hidden from the camera: choose auto or "
            "cycles as the depth method."
        )
    if beyond > _CUT_OFF:
        warnings.append(
            f"The camera's Clip End ({stage.camera.clip_end:g}) cuts off geometry in "
            f"{beyond:.0%} of the picture: raise it if that should be in the video."
        )
    codes = [encode_depth(measured[index], near, far) for index in keyframes]
    return DepthGuides(codes, near, far, method, warnings)


def _prepare_workbench(scene: bpy.types.Scene) -> None:
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.render.hair_type = "STRIP"  # as thick as Cycles has it
    scene.display.render_aa = "OFF"
    shading = scene.display.shading
    shading.type = "SOLID"
    shading.light, shading.color_type = "FLAT", "SINGLE"
    shading.show_xray = shading.show_backface_culling = shading.use_dof = False
    shading.show_shadows = shading.show_cavity = shading.show_object_outline = False


def _prepare_cycles(scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
    scene.render.engine = "CYCLES"
    # An opaque surface everywhere is what makes alpha count as solid, as it does in Workbench.
    layer.material_override = bpy.data.materials.new("Animatic Depth")
    layer.samples = 0
    layer.pass_alpha_threshold = 0.0
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples, cycles.max_bounces = 1, 0
    cycles.use_denoising = cycles.use_adaptive_sampling = False
    cycles.use_camera_cull = cycles.use_distance_cull = False
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01  # the ray through the centre


def _scattered(stage: Stage, times: Sequence[Fraction]) -> set[str]:
    """Return the names of what Workbench would show though it does not count."""
    limits = EngineLimits(stage.scene, BY_WORKBENCH)
    for time in times:
        stage.go_to(time)
        limits.look()
        if limits.scattered:
            break
    return limits.scattered


def _share_beyond_clip_end(stage: Stage, time: Fraction) -> float:
    """Return which part of the picture shows geometry only when Clip End is lifted."""
    stage.resize(_MEASURE_DIVISOR)
    stage.go_to(time)
    seen = np.isfinite(measure_z(stage))
    lens = stage.camera
    end = lens.clip_end
    lens.clip_end = end * 1000
    seen_far = np.isfinite(measure_z(stage))
    lens.clip_end = end
    return float((seen_far & ~seen).mean())


def _nothing_in_view(stage: Stage, beyond: float) -> str:
    if beyond > 0:
        return (
            f"Everything in view lies behind the camera's Clip End ({stage.camera.clip_end:g}): "
            "raise it (Camera > Lens > Clip End)."
        )
    return (
        "The camera sees no surface in this shot: aim it at the scene, and check that the objects "
        "are not hidden from the render."
    )


def _warnings(measured: list[np.ndarray], near: float, far: float) -> list[str]:
    warnings = []
    filled = float(np.mean([np.isfinite(z).mean() for z in measured]))
    if filled < _TINY:
        warnings.append(
            f"Geometry fills only {filled:.1%} of the picture: the guides say little. "
            "Move the camera closer or add what stands around the subject."
        )
    # Per frame, because frames are measured at different sizes.
    seen = [1.0 / z[np.isfinite(z)] for z in measured if np.isfinite(z).any()]
    whole = 1 / near - 1 / far
    ninth = max(float(np.quantile(d, 0.9)) for d in seen)
    if (ninth - 1 / far) / whole < 0.05:
        warnings.append(
            f"Something only {near:.3g} from the camera takes most of the depth range: nine "
            "tenths of the picture share its darkest twentieth. Hide it from the camera, leave out "
            "the frames in which it is so close, or set the depth's near farther away."
        )
    for name, outside, told in (
        ("nearer than near", [(d > 1.001 / near).mean() for d in seen], "all white"),
        ("farther than far", [(d < 0.999 / far).mean() for d in seen], "all equally dark"),
    ):
        share = float(np.mean(outside))
        if share > _CLIPPED:
            warnings.append(
                f"{share:.0%} of what the camera sees is {name} ({near:.4g} to {far:.4g}) and "
                f"{told}: widen the depth's range if its shape matters."
            )
    if far < near * _LEVEL:
        warnings.append(
            f"The depth is nearly flat, {near:.4g} to {far:.4g}: small bumps will look like deep "
            "relief. Set the depth's far farther away, or use line guides."
        )
    backdrop = float(np.mean([(d < 1 / far + _BACKDROP * whole).mean() for d in seen]))
    rest = [d[d >= 1 / far + _BACKDROP * whole] for d in seen]
    others = np.concatenate(rest)
    if filled > 0.999 and backdrop > 0.2 and others.size and far * others.min() > _AWAY:
        warnings.append(
            f"A surface {far:.3g} away closes the whole picture, {backdrop:.0%} of it: a sky dome "
            "or a backdrop? Where the sky should be, hide it from the camera; or set the depth's "
            "far nearer."
        )
    return warnings
