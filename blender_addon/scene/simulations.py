"""Simulations: those that are not baked are played from their start, or refused.

Those baked to disk have their files in a folder named after the .blend.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import bpy

from ..shot.held_frames import link_or_copy
from .compat import node_trees
from .errors import SceneError
from .visibility import is_smoke, rendered_objects


def play_simulations(
    scene: bpy.types.Scene, last: Fraction, on_frame: Callable[[int, int], None]
) -> str | None:
    """Step ``scene`` through every frame up to ``last`` when it holds unbaked simulations.

    Each frame's state comes from the one before, so a jump to a keyframe would show a wrong one;
    what is played stays in Blender's memory caches. What the viewport hides of it is shown there.
    ``on_frame(done, of)`` reports progress. Returns sentences that say what was played and what was
    baked to disk but is not there, or None. Raises SceneError where playing cannot work or would
    write into the artist's cache folders.
    """
    starts: dict[str, int] = {}
    end = math.ceil(last)
    lost = _warn_of_lost_caches(scene, end)
    for ob in rendered_objects(scene):
        for modifier in ob.modifiers:
            if modifier.show_render:
                _note_modifier(scene, ob, modifier, end, starts)
    world = scene.rigidbody_world
    if world is not None and world.enabled and world.collection is not None:
        _note_cache("the rigid bodies", world.point_cache, end, starts)
    if not starts:
        return lost
    first = min(starts.values())
    for frame in range(first, end + 1):
        scene.frame_set(frame)
        on_frame(frame - first + 1, end - first + 1)
    played = (
        f"Not baked: {', '.join(sorted(starts))}. Frames {first} to {end} were played first; "
        "bake the simulation to get the same result faster."
    )
    return f"{played} {lost}" if lost else played


def lend_caches(copy: Path) -> None:
    """Let ``copy``, a saved copy of the open file, find what is baked to disk for that file.

    It looks in a folder of its own name. Each file in there is a link by itself, and only to what
    is baked, which Blender does not write: neither what it does with other caches nor the removal
    of that folder reaches the artist's. Raises OSError.
    """
    theirs, ours = _folder_of(bpy.data.filepath), _folder_of(str(copy))
    files = {
        file
        for ob in bpy.data.objects
        for modifier in ob.modifiers
        for cache in _caches(modifier)
        if _is_on_disk(cache) and _folder(ob, cache) == theirs
        for file in _files(ob, cache)
    }
    for file in files:
        ours.mkdir(exist_ok=True)
        _link(file, ours / file.name)


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
    where = _name(ob, modifier)
    for cache in _caches(modifier):
        _note_cache(where, cache, end, starts)
    if modifier.type == "FLUID" and modifier.fluid_type == "DOMAIN":
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


def _caches(modifier: bpy.types.Modifier) -> Iterator[bpy.types.PointCache]:
    if modifier.type in {"CLOTH", "SOFT_BODY"}:
        yield modifier.point_cache
    elif modifier.type == "PARTICLE_SYSTEM":
        system = modifier.particle_system
        if system.settings.type == "EMITTER" or system.use_hair_dynamics:
            yield system.point_cache
    elif modifier.type == "DYNAMIC_PAINT" and modifier.canvas_settings is not None:
        for surface in modifier.canvas_settings.canvas_surfaces:
            if surface.is_active:
                yield surface.point_cache


def _name(ob: bpy.types.Object, modifier: bpy.types.Modifier) -> str:
    return f"'{modifier.name}' of '{ob.name}'"


def _warn_of_lost_caches(scene: bpy.types.Scene, end: int) -> str | None:
    """Name what is baked to disk without being there, which Blender shows as it is at rest."""
    lost = [
        _name(ob, modifier)
        for ob in rendered_objects(scene)
        for modifier in ob.modifiers
        if modifier.show_render
        for cache in _caches(modifier)
        if _is_on_disk(cache) and cache.frame_start <= end
        if not any(file.exists() for file in _files(ob, cache))
    ]
    if not lost:
        return None
    return (
        f"Baked to disk, but the cache is not there: {', '.join(dict.fromkeys(lost))}. It stands "
        "still in the guides: put the folder of the cache back (blendcache_ and the file's name, "
        "beside the file), or bake again and save the file."
    )


def _is_on_disk(cache: bpy.types.PointCache) -> bool:
    return cache.use_external or (cache.is_baked and cache.use_disk_cache)


def _folder_of(blend: str) -> Path:
    folder, name = os.path.split(blend)
    return Path(folder, f"blendcache_{os.path.splitext(name)[0]}")


def _folder(ob: bpy.types.Object, cache: bpy.types.PointCache) -> Path:
    """Where Blender looks for the files of ``cache``, as ptcache_path (pointcache.cc) does."""
    library = ob.library if cache.use_library_path else None
    if cache.use_external:
        return Path(bpy.path.abspath(cache.filepath, library=library))
    return _folder_of(bpy.path.abspath(library.filepath) if library else bpy.data.filepath)


def _files(ob: bpy.types.Object, cache: bpy.types.PointCache) -> Iterator[Path]:
    """The files of ``cache``, named as in ptcache_filename: name, frame in six places, index."""
    named = cache.name or cache.use_external
    name = glob.escape(cache.name) if named else ob.name.encode().hex().upper()
    index = f"_{cache.index:02}" if cache.index >= 0 else ""
    return _folder(ob, cache).glob(f"{name}_??????{index}.bphys")


def _link(file: Path, name: Path) -> None:
    try:
        name.symlink_to(file)
    except OSError:  # Windows lets few accounts make them
        link_or_copy(file, name)


def _has_simulation_zone(group: bpy.types.NodeTree | None) -> bool:
    return any(
        node.bl_idname == "GeometryNodeSimulationOutput"
        for tree in node_trees(group)
        for node in tree.nodes
    )
