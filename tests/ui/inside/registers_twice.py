"""Enabling and disabling it leaves Blender as it was: twice."""

import bpy
import harness


def footprint() -> dict:
    handlers = {
        name: len(value)
        for name in dir(bpy.app.handlers)
        if isinstance(value := getattr(bpy.app.handlers, name), list)
    }
    kinds = (
        bpy.types.Panel,
        bpy.types.Operator,
        bpy.types.PropertyGroup,
        bpy.types.AddonPreferences,
    )
    registered = {
        cls.__name__
        for kind in kinds
        for cls in kind.__subclasses__()
        if cls.__module__.startswith(harness.MODULE) and cls.is_registered
    }
    return {
        "handlers": handlers,
        "classes": registered,
        "types": {name for name in dir(bpy.types) if "animatic" in name.lower()},
        "operators": dir(bpy.ops.animatic),
        "property": hasattr(bpy.types.Scene, "animatic"),
    }


harness.install()
before = footprint()
assert not before["property"]
for _ in range(2):
    harness.enable()
    during = footprint()
    assert during["property"]
    assert len(during["classes"]) >= 5, during
    assert "generate" in during["operators"]
    harness.disable()
    assert footprint() == before, (before, footprint())
print("DONE")
