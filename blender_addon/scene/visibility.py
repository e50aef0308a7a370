"""What counts as a surface in depth and line guides: one rule for every method.

Every surface that would render is solid, whatever its material's alpha. Not counted: what is
hidden from the render or from the camera (excluded collections, ``hide_render``, ray visibility,
holdouts, indirect-only collections), objects whose materials are all volume without a surface (fog
boxes), volumes, and Grease Pencil drawings.
"""

from __future__ import annotations

from collections.abc import Iterator

import bpy

from . import compat

_LAYER_FLAGS = ("holdout", "indirect_only")
_WITHOUT_SURFACE = {"VOLUME", "GREASEPENCIL", "GPENCIL", "LIGHT_PROBE", "LIGHT"}


def rendered_objects(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Return the objects that a render of ``scene`` shows, each once.

    Includes members of instanced collections; an animated ``hide_render`` counts as shown.
    """
    found: dict[bpy.types.Object, None] = {}
    source: bpy.types.Scene | None = scene
    while source is not None:
        for layer in source.view_layers:
            if layer.use:
                for collection in _shown_collections(layer.layer_collection):
                    found.update(dict.fromkeys(_shown(collection.objects)))
        source = source.background_set
    waiting = list(found)
    while waiting:
        instanced = waiting.pop().instance_collection
        if instanced is not None and not instanced.hide_render:
            new = [ob for ob in _shown(instanced.all_objects) if ob not in found]
            found.update(dict.fromkeys(new))
            waiting += new
    return list(found)


def keep_one_view_layer(scene: bpy.types.Scene) -> bpy.types.ViewLayer:
    """Merge the view layers that the scene renders into one and return it.

    A collection counts when any of them shows it, and is direct when any of them shows it so.
    """
    layers = [layer for layer in scene.view_layers if layer.use] or [scene.view_layers[0]]
    kept = layers[0]
    if len(layers) > 1:
        _merge(kept.layer_collection, [layer.layer_collection for layer in layers])
    bpy.context.window.view_layer = kept
    for layer in [layer for layer in scene.view_layers if layer != kept]:
        scene.view_layers.remove(layer)
    kept.use = True
    return kept


def hide_what_does_not_count(scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
    """Hide from the render whatever the rule above leaves out. Changes the scene for good."""
    indirect = set()
    for child in _layer_collections(layer.layer_collection):
        if (child.holdout or child.indirect_only) and not child.exclude:
            indirect.update(child.collection.all_objects)
            child.holdout = child.indirect_only = False
    for ob in rendered_objects(scene):
        if ob in indirect or not _counts(ob):
            ob.hide_render = True
            _stop_animation_of_hiding(ob)
        else:
            ob.is_shadow_catcher = False  # a surface, though Cycles writes no depth for one


def is_smoke(modifier: bpy.types.Modifier) -> bool:
    """Say whether ``modifier`` makes its object a domain of smoke or fire."""
    return (
        modifier.type == "FLUID"
        and modifier.fluid_type == "DOMAIN"
        and modifier.domain_settings.domain_type == "GAS"
    )


def _counts(ob: bpy.types.Object) -> bool:
    if ob.type in _WITHOUT_SURFACE or ob.is_holdout or not ob.visible_camera:
        return False
    if any(is_smoke(modifier) for modifier in ob.modifiers):
        return False
    materials = [slot.material for slot in ob.material_slots if slot.material is not None]
    return not materials or not all(_volume_only(material) for material in materials)


def _volume_only(material: bpy.types.Material) -> bool:
    tree = compat.material_tree(material)
    output = tree.get_output_node("CYCLES") if tree is not None else None
    if output is None:
        return False
    return output.inputs["Volume"].is_linked and not output.inputs["Surface"].is_linked


def _stop_animation_of_hiding(ob: bpy.types.Object) -> None:
    animation = ob.animation_data
    if animation is None:
        return
    curves = [*compat.fcurves_of(animation.action, animation.action_slot), *animation.drivers]
    for track in animation.nla_tracks:
        for strip in track.strips:
            curves += compat.fcurves_of(strip.action, strip.action_slot)
    for curve in curves:
        if curve.data_path == "hide_render":
            curve.mute = True


def _shown(objects: bpy.types.bpy_prop_collection) -> list[bpy.types.Object]:
    return [ob for ob in objects if not ob.hide_render or _is_animated(ob, "hide_render")]


def _is_animated(ob: bpy.types.Object, path: str) -> bool:
    animation = ob.animation_data
    if animation is None:
        return False
    curves = [*compat.fcurves_of(animation.action, animation.action_slot), *animation.drivers]
    return any(curve.data_path == path for curve in curves)


def _layer_collections(root: bpy.types.LayerCollection) -> Iterator[bpy.types.LayerCollection]:
    yield root
    for child in root.children:
        yield from _layer_collections(child)


def _shown_collections(root: bpy.types.LayerCollection) -> Iterator[bpy.types.Collection]:
    if root.collection.hide_render:
        return
    if not root.exclude:  # a child may be shown inside an excluded collection
        yield root.collection
    for child in root.children:
        yield from _shown_collections(child)


def _merge(kept: bpy.types.LayerCollection, every: list[bpy.types.LayerCollection]) -> None:
    """Show in ``kept`` what any of ``every`` (the same collection in each view layer) shows."""
    plan: list[tuple[bpy.types.LayerCollection, dict[str, bool]]] = []

    def visit(target: bpy.types.LayerCollection, peers: list[bpy.types.LayerCollection]) -> None:
        shown = [peer for peer in peers if not peer.exclude]
        flags = {"exclude": not shown}
        if shown:
            flags |= {name: all(getattr(peer, name) for peer in shown) for name in _LAYER_FLAGS}
        plan.append((target, flags))
        for index, child in enumerate(target.children):
            visit(child, [peer.children[index] for peer in peers])

    for index, child in enumerate(kept.children):
        visit(child, [layer.children[index] for layer in every])
    # Written after everything is read, parents first: excluding a parent excludes its children.
    for target, flags in plan:
        for name, value in flags.items():
            if getattr(target, name) != value:
                setattr(target, name, value)
