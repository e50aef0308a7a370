"""Colour guides: the scene's own look, by its own engine and through its view transform."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import bpy
import numpy as np

from . import compat
from .gl_probe import can_render_with_gl
from .stage import OnStep, Stage
from .visibility import drawings

SAMPLE_BUDGET = 1 << 22
"""Rays from the camera that one Cycles guide may cost: 16 a pixel at 512x512, in some 10 s."""
MIN_SAMPLES, CLEAN_SAMPLES, MAX_SAMPLES = 16, 64, 128
MAX_EEVEE_SAMPLES = 16


def render_colour(
    stage: Stage, times: Sequence[Fraction], on_step: OnStep
) -> tuple[list[np.ndarray], list[str]]:
    """Render the scene at ``times``; return uint8 [H, W, 3] each, and warnings.

    Materials, lights, world, compositing and the view transform are the scene's; samples are
    capped, motion blur is off, and nothing is written by File Output nodes.
    """
    warnings = prepare_colour(stage)
    pictures = []
    for index, time in enumerate(times):
        stage.go_to(time)
        picture = stage.render_picture()
        picture[~stage.film.inside_border(stage.width, stage.height)] = 0
        pictures.append(picture)
        on_step(index + 1, len(times), f"render {index + 1} of {len(times)}")
    return pictures, warnings


def prepare_colour(stage: Stage) -> list[str]:
    """Set ``stage`` up for colour guides; return warnings."""
    scene = stage.scene
    warnings = []
    for tree in compat.node_trees(compat.compositor_tree(scene)):
        for node in tree.nodes:
            if node.bl_idname == "CompositorNodeOutputFile":
                node.mute = True  # the artist's folders are not ours to write
    scene.render.compositor_device = "CPU"
    if scene.render.engine != "CYCLES":
        warnings += _keep_or_replace_engine(scene)
    if scene.render.engine == "CYCLES":
        warnings += _cap_cycles(stage)
    return warnings


def _keep_or_replace_engine(scene: bpy.types.Scene) -> list[str]:
    engine = scene.render.engine
    if compat.is_eevee(engine) or engine == "BLENDER_WORKBENCH":
        if can_render_with_gl():
            scene.eevee.taa_render_samples = min(scene.eevee.taa_render_samples, MAX_EEVEE_SAMPLES)
            return []
        reason = "needs OpenGL, which works here in no background Blender"
    else:
        reason = "is not available here"
    scene.render.engine = "CYCLES"
    return [
        f"The scene's render engine ({engine or 'unknown'}) {reason}: "
        "the guides were rendered by Cycles and may look a little different."
    ]


def _cap_cycles(stage: Stage) -> list[str]:
    scene, cycles = stage.scene, stage.scene.cycles
    cycles.device = "CPU"
    affordable = SAMPLE_BUDGET // (stage.width * stage.height)
    limit = max(MIN_SAMPLES, min(affordable, MAX_SAMPLES))
    was_cut = cycles.samples > limit
    cycles.samples = min(cycles.samples, limit)
    for layer in scene.view_layers:
        layer.samples = min(layer.samples, limit)
    cycles.denoising_use_gpu = False
    try:
        cycles.denoiser = "OPENIMAGEDENOISE"
        # It darkens the outer pixels, which a picture of a model's size has many of: only where
        # noise would be worse.
        cycles.use_denoising = cycles.samples < CLEAN_SAMPLES and (was_cut or cycles.use_denoising)
    except TypeError:  # a Blender built without it
        cycles.use_denoising = False
    if not drawings(scene) or can_render_with_gl():
        return []
    for layer in scene.view_layers:
        layer.use_grease_pencil = False
    return ["Grease Pencil drawings need OpenGL, which is missing here: they are left out."]
