"""Simulations that are not baked: played through from their start, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import bpy

from .compat import node_trees
from .errors import SceneError
from .visibility import is_smoke, rendered_objects


def play_simulations(
    scene: bpy.types.Scene, last: Fraction, on_frame: Callable[[int, int], None]
) -> str | None:
    """Step ``scene`` through every frame up to ``last`` when it holds unbaked simulations.

    Each frame's state comes from the one before, so a jump to a keyframe would show a wrong one;
    what is played stays in Blender's memory caches. What the viewport hides of it is shown there.
    ``on_frame(done, of)`` reports progress. Returns a sentence that says what was played, or None.
    Raises SceneError where playing cannot work or would write into the artist's cache folders.
    """
    starts: dict[str, int] = {}
    end = math.ceil(last)
    for ob in rendered_objects(scene):
        for modifier in ob.modifiers:
            if modifier.show_render:
                _note_modifier(scene, ob, modifier, end, starts)
    world = scene.rigidbody_world
    if world is not None and world.enabled and world.collection is not None:
        _note_cache("the rigid bodies", world.point_cache, end, starts)
    if not starts:
        return None
    first = min(starts.values())
    for frame in range(first, end + 1):
        scene.frame_set(frame)
        on_frame(frame - first + 1, end - first + 1)
    return (
        f"Not baked: {', '.join(sorted(starts))}. Frames {first} to {end} were played first; "
        "bake the simulation to get the same result faster."
    )


def leave_out_smoke(scene: bpy.types.Scene) -> str | None:
    """Switch off smoke and fire that are not baked: at each frame they write into their cache.

    Returns a sentence that names those that ``scene`` would render, or None.
    """
    seen, missed = rendered_objects(scene), []
    for ob in bpy.data.objects:
        for modifier in ob.modifiers:
            if is_smoke(modifier) and not modifier.domain_settings.has_cache_baked_data:
                if modifier.show_render and ob in seen:
                    missed.append(f"'{modifier.name}' of '{ob.name}'")
                modifier.show_viewport = modifier.show_render = False
    if not missed:
        return None
    return (
        f"Smoke or fire that is not baked is left out: {', '.join(missed)}. Set the cache type of "
        "its domain to All, bake it (Physics > Fluid > Cache > Bake All) and save the file."
    )


def _note_modifier(
    scene: bpy.types.Scene,
    ob: bpy.types.Object,
    modifier: bpy.types.Modifier,
    end: int,
    starts: dict[str, int],
) -> None:
    where = f"'{modifier.name}' of '{ob.name}'"
    if modifier.type in {"CLOTH", "SOFT_BODY"}:
        _note_cache(where, modifier.point_cache, end, starts)
    elif modifier.type == "PARTICLE_SYSTEM":
        system = modifier.particle_system
        if system.settings.type == "EMITTER" or system.use_hair_dynamics:
            _note_cache(where, system.point_cache, end, starts)
    elif modifier.type == "DYNAMIC_PAINT" and modifier.canvas_settings is not None:
        for surface in modifier.canvas_settings.canvas_surfaces:
            if surface.is_active:
                _note_cache(where, surface.point_cache, end, starts)
    elif modifier.type == "FLUID" and modifier.fluid_type == "DOMAIN":
        domain = modifier.domain_settings
        if domain.domain_type == "LIQUID" and not domain.has_cache_baked_mesh:
            raise SceneError(
                f"The liquid {where} is not baked: set its cache type to All, bake it "
                "(Physics > Fluid > Cache > Bake All) and save the file."
            )
    elif modifier.type == "NODES" and _has_simulation_zone(modifier.node_group):
        custom = scene.use_custom_simulation_range
        start = scene.simulation_frame_start if custom else scene.frame_start
        where += " (unless it is, which Blender does not tell of nodes)"
        if start <= end:
            starts[where] = start
    if where in starts:
        _show_in_viewport(scene, ob, modifier)


def _show_in_viewport(
    scene: bpy.types.Scene, ob: bpy.types.Object, modifier: bpy.types.Modifier
) -> None:
    # Frames are played as the viewport has them, where what is hidden stands still.
    modifier.show_viewport, ob.hide_viewport = True, False
    for collection in scene.collection.children_recursive:
        if ob.name in collection.all_objects:
            collection.hide_viewport = False


def _note_cache(where: str, cache: bpy.types.PointCache, end: int, starts: dict[str, int]) -> None:
    if cache.is_baked or cache.use_external or cache.frame_start > end:
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
