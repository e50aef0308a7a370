"""What counts as a surface in depth and line guides: one rule for every method.

Every surface that would render is solid, whatever its material's alpha. Not counted: what is
hidden from the render or from the camera (excluded collections, ``hide_render``, ray visibility,
holdouts, indirect-only collections), objects whose materials are all volume without a surface (fog
boxes), volumes, and Grease Pencil drawings. Where the camera's sight or a holdout is animated, the
rule follows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import bpy

from . import compat

_SEEN_BY = {"camera": "visible_camera", "holdout": "is_holdout"}
_UNSEEN = "not camera or holdout"
_LAYER_FLAGS = ("holdout", "indirect_only")
_DRAWINGS = {"GREASEPENCIL", "GPENCIL"}
_WITHOUT_SURFACE = {"VOLUME", "LIGHT_PROBE", "LIGHT", *_DRAWINGS}


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
    indirect = _exclude_indirect(layer)
    uncounted = {ob for ob in bpy.data.objects if not _counts(ob)}
    for ob in uncounted:
        ob.visible_camera = False  # Cycles asks that of what nodes and particles scatter, too
    for ob in bpy.data.objects:
        ob.show_in_front = False  # Workbench draws such a one before all that hides it
    for ob in rendered_objects(scene):
        if ob in indirect or ob in uncounted:
            if _is_animated(ob, "hide_render"):
                _drive_hiding(ob, "1")
            ob.hide_render = True
            continue
        ob.is_shadow_catcher = False  # a surface, though Cycles writes no depth for one
        if _is_sight_animated(ob):
            _hide_while_unseen(ob)


def warn_of_displacement(scene: bpy.types.Scene) -> str | None:
    """Return a warning if materials move surfaces, which only the scene's own render shows."""
    moved = [
        ob.name
        for ob in rendered_objects(scene)
        for material in {slot.material for slot in ob.material_slots} - {None}
        if material.displacement_method != "BUMP" and _is_linked(material, "Displacement")
    ]
    if not moved:
        return None
    names = ", ".join(f"'{name}'" for name in dict.fromkeys(moved))
    return (
        f"The material displaces the surface of {names}, which these guides do not show: use a "
        "Displace modifier or geometry nodes if that shape should be in the video."
    )


def drawings(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Return the Grease Pencil objects that a final render of ``scene`` may show."""
    return [ob for ob in rendered_objects(scene) if ob.type in _DRAWINGS]


def warn_of_drawings(scene: bpy.types.Scene) -> list[str]:
    """Return a warning if there are Grease Pencil drawings, which count for no guide but Render.

    To be asked before ``hide_what_does_not_count``, which hides them.
    """
    names = [f"'{ob.name}'" for ob in drawings(scene)]
    if not names:
        return []
    return [
        f"Depth and line guides leave out the Grease Pencil drawings {', '.join(names)}: use the "
        "Render guide if they should be in the video."
    ]


def is_smoke(modifier: bpy.types.Modifier) -> bool:
    """Say whether ``modifier`` makes its object a domain of smoke or fire."""
    return (
        modifier.type == "FLUID"
        and modifier.fluid_type == "DOMAIN"
        and modifier.domain_settings.domain_type == "GAS"
    )


def _counts(ob: bpy.types.Object) -> bool:
    if ob.type in _WITHOUT_SURFACE:
        return False
    if (ob.is_holdout or not ob.visible_camera) and not _is_sight_animated(ob):
        return False
    if any(is_smoke(modifier) for modifier in ob.modifiers):
        return False
    materials = _materials(ob)
    return not materials or not all(_volume_only(material) for material in materials)


def _materials(ob: bpy.types.Object) -> list[bpy.types.Material]:
    """Return the materials of ``ob``, including those that its geometry nodes set."""
    materials = [slot.material for slot in ob.material_slots]
    if any(_sets_materials(modifier) for modifier in ob.modifiers):
        made = ob.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
        materials += list(getattr(made, "materials", ()))[len(materials) :]
    return [material.original for material in materials if material is not None]


def _sets_materials(modifier: bpy.types.Modifier) -> bool:
    return modifier.type == "NODES" and any(
        node.bl_idname == "GeometryNodeSetMaterial"
        for tree in compat.node_trees(modifier.node_group)
        for node in tree.nodes
    )


def _volume_only(material: bpy.types.Material) -> bool:
    return _is_linked(material, "Volume") and not _is_linked(material, "Surface")


def _is_linked(material: bpy.types.Material, socket: str) -> bool:
    tree = compat.material_tree(material)
    output = tree.get_output_node("CYCLES") if tree is not None else None
    return output is not None and output.inputs[socket].is_linked


def _exclude_indirect(layer: bpy.types.ViewLayer) -> set[bpy.types.Object]:
    """Exclude the collections of ``layer`` that are holdouts or only indirect.

    They are not hidden, since their objects may be shown as instances. Returns those of their
    objects that other collections still hold: one such collection is enough for an object.
    """
    root, *inside = _layer_collections(layer.layer_collection)
    excluded = {}
    indirect: set[bpy.types.Object] = set()
    for each in (root, *inside):
        left_out = each.holdout or each.indirect_only
        if left_out and not each.exclude:
            indirect.update(each.collection.objects)  # what lies inside has flags of its own
        excluded[each] = each.exclude or left_out
    for each in (root, *inside):
        each.holdout = each.indirect_only = False
    for each in inside:  # parents first: excluding a parent excludes its children
        if each.exclude != excluded[each]:
            each.exclude = excluded[each]
    held = [each.collection.objects for each in (root, *inside) if not excluded[each]]
    return indirect & {ob for objects in held for ob in objects}


def _is_sight_animated(ob: bpy.types.Object) -> bool:
    return any(_is_animated(ob, path) for path in _SEEN_BY.values())


def _hide_while_unseen(ob: bpy.types.Object) -> None:
    if not _is_animated(ob, "hide_render"):
        _drive_hiding(ob, _UNSEEN, _sight_of(ob))
        return
    if ob.library is not None:
        ob = ob.make_local()  # what is linked cannot read what is not
    # A driver cannot read what it drives: a copy that is in no scene keeps the animation.
    sources = _sight_of(ob) | {"hidden": (ob.copy(), "hide_render")}
    _drive_hiding(ob, f"hidden or {_UNSEEN}", sources)


def _sight_of(ob: bpy.types.Object) -> dict[str, tuple[bpy.types.Object, str]]:
    return {name: (ob, path) for name, path in _SEEN_BY.items()}


def _drive_hiding(
    ob: bpy.types.Object,
    expression: str,
    sources: Mapping[str, tuple[bpy.types.Object, str]] = MappingProxyType({}),
) -> None:
    """Let ``expression`` of properties decide whether ``ob`` is hidden from the render.

    A driver overrules keys and NLA strips, whose actions other objects may use as well. One of this
    form needs no Python, so it works where scripts may not run.
    """
    ob.driver_remove("hide_render")
    driver = ob.driver_add("hide_render").driver
    for name, (source, path) in sources.items():
        variable = driver.variables.new()
        variable.name = name
        variable.targets[0].id, variable.targets[0].data_path = source, path
    driver.type, driver.expression = "SCRIPTED", expression


def _shown(objects: bpy.types.bpy_prop_collection) -> list[bpy.types.Object]:
    return [ob for ob in objects if not ob.hide_render or _is_animated(ob, "hide_render")]


def _is_animated(ob: bpy.types.Object, path: str) -> bool:
    animation = ob.animation_data
    if animation is None:
        return False
    curves = [*compat.fcurves_of(animation.action, animation.action_slot), *animation.drivers]
    for track in animation.nla_tracks:
        for strip in track.strips:
            curves += compat.fcurves_of(strip.action, strip.action_slot)
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
