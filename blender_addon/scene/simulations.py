"""Simulations that are not baked: played through from their start, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import bpy

from .compat import node_trees
from .errors import SceneError
from .visibility import rendered_objects


def play_simulations(
    scene: bpy.types.Scene, last: Fraction, on_frame: Callable[[int, int], None]
) -> str | None:
    """Step ``scene`` through every frame up to ``last`` when it holds unbaked simulations.

    Each frame's state comes from the one before, so a jump to a keyframe would show a wrong one;
    what is played stays in Blender's memory caches. ``on_frame(done, of)`` reports progress.
    Returns a sentence that says what was played, or None. Raises SceneError where playing cannot
    work or would write into the artist's cache folders.
    """
    starts: dict[str, int] = {}
    for ob in rendered_objects(scene):
        for modifier in ob.modifiers:
            if modifier.show_render:
                _note_modifier(scene, ob, modifier, starts)
    world = scene.rigidbody_world
    if world is not None and world.enabled and world.collection is not None:
        _note_cache("the rigid bodies", world.point_cache, starts)
    if not starts:
        return None
    first, end = min(starts.values()), math.ceil(last)
    for frame in range(first, end + 1):
        scene.frame_set(frame)
        on_frame(frame - first + 1, end - first + 1)
    return (
        f"Not baked: {', '.join(sorted(starts))}. Frames {first} to {end} were played first; "
        "bake the simulation to get the same result faster."
    )


def _note_modifier(
    scene: bpy.types.Scene,
    ob: bpy.types.Object,
    modifier: bpy.types.Modifier,
    starts: dict[str, int],
) -> None:
    where = f"'{modifier.name}' of '{ob.name}'"
    if modifier.type in {"CLOTH", "SOFT_BODY"}:
        _note_cache(where, modifier.point_cache, starts)
    elif modifier.type == "PARTICLE_SYSTEM":
        system = modifier.particle_system
        if system.settings.type == "EMITTER" or system.use_hair_dynamics:
            _note_cache(where, system.point_cache, starts)
    elif modifier.type == "DYNAMIC_PAINT" and modifier.canvas_settings is not None:
        for surface in modifier.canvas_settings.canvas_surfaces:
            if surface.is_active:
                _note_cache(where, surface.point_cache, starts)
    elif modifier.type == "FLUID" and modifier.fluid_type == "DOMAIN":
        domain = modifier.domain_settings
        if domain.domain_type == "LIQUID" and not domain.has_cache_baked_mesh:
            raise SceneError(
                f"The liquid {where} is not baked: set its cache type to All, bake it "
                "(Physics > Fluid > Cache > Bake All) and save the file."
            )
    elif modifier.type == "NODES" and _has_simulation_zone(modifier.node_group):
        custom = scene.use_custom_simulation_range
        starts[where] = scene.simulation_frame_start if custom else scene.frame_start


def _note_cache(where: str, cache: bpy.types.PointCache, starts: dict[str, int]) -> None:
    if cache.is_baked or cache.use_external:
        return
    if cache.use_disk_cache:
        raise SceneError(
            f"The simulation {where} keeps its cache on disk and is not baked, and playing it "
            "would write there: bake it, or turn its Disk Cache off, and save the file."
        )
    starts[where] = cache.frame_start


def _has_simulation_zone(group: bpy.types.NodeTree | None) -> bool:
    return any(
        node.bl_idname == "GeometryNodeSimulationOutput"
        for tree in node_trees(group)
        for node in tree.nodes
    )
