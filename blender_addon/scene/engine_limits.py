"""What Freestyle and Workbench render otherwise than visibility.py has it, found so as to tell it.

Freestyle draws no hair and no points. Both draw what particles and geometry nodes scatter of an
object that does not count (a fog box, say): of instances they ask only whether the object that
scatters them is hidden, where Cycles asks what is scattered, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import bpy

from .surfaces import as_rendered
from .visibility import rendered_objects

# As a render has them: curves, texts and metaballs come as meshes.
_STRANDS = frozenset({"CURVES", "POINTCLOUD"})
BY_FREESTYLE = frozenset({"MESH"})
BY_WORKBENCH = BY_FREESTYLE | _STRANDS
"""The types of objects that an engine draws."""
_WITH_SURFACE = BY_WORKBENCH | {"CURVE", "SURFACE", "META", "FONT"}
_MOST_NAMES = 5


@dataclass
class EngineLimits:
    """Looks for what an engine, which draws objects of the types ``drawn``, gets wrong in a scene.

    ``hide_what_does_not_count`` comes before the first ``look``. Gathers names of objects:
    ``strands`` are hair and points that are not drawn (by the object whose particles or nodes make
    them), ``scattered`` is drawn though it does not count.
    """

    scene: bpy.types.Scene
    drawn: frozenset[str]
    strands: set[str] = field(default_factory=set)
    scattered: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        rendered = rendered_objects(self.scene)
        self._makes = any(
            modifier.type in {"NODES", "PARTICLE_SYSTEM"}
            for ob in rendered
            for modifier in ob.modifiers
        )
        made = self._makes or any(ob.type in _STRANDS for ob in rendered)
        self._may_lack = made and not self.drawn >= _STRANDS

    def look(self) -> None:
        """Add what is there at the scene's present time."""
        uncounted = (ob.type in _WITH_SURFACE and not ob.visible_camera for ob in bpy.data.objects)
        # To read the scene as a render has it is to evaluate it once more: only where it may tell.
        if self._may_lack or (self._makes and any(uncounted)):
            as_rendered(self.scene, self._read)

    def _read(self, depsgraph: bpy.types.Depsgraph) -> None:
        for instance in depsgraph.object_instances:
            item, shown = instance.object, instance.show_self
            if not item.visible_camera:
                # An instance: such an object itself is hidden from the render.
                if shown and item.type in self.drawn:
                    self.scattered.add(item.name)
                continue
            strands = shown and item.type in _STRANDS and len(item.data.points) > 0
            if strands or (instance.show_particles and any(map(_grows_hair, item.modifiers))):
                self.strands.add(item.name)


def names_of(objects: Iterable[str]) -> str:
    """Return up to five of the names ``objects`` for a sentence."""
    names = sorted(objects)
    told = ", ".join(f"'{name}'" for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{told} and {more} more" if more > 0 else told


def _grows_hair(modifier: bpy.types.Modifier) -> bool:
    if modifier.type != "PARTICLE_SYSTEM" or not modifier.show_render:
        return False
    system = modifier.particle_system
    rendered = system.settings.type == "HAIR" and system.settings.render_type == "PATH"
    return rendered and len(system.particles) > 0
