"""Properties, panels, operators and preferences."""

import bpy

from . import operators, panel, preferences, properties, session

_CLASSES: tuple[type, ...] = (
    properties.AnimaticSettings,
    preferences.AnimaticPreferences,
    *operators.CLASSES,
    *panel.CLASSES,
)


def register() -> None:
    """Register classes, the scene's settings and the handler that notices another file."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.animatic = bpy.props.PointerProperty(type=properties.AnimaticSettings)
    session.register()


def unregister() -> None:
    """End a running job, then take back all that ``register`` added."""
    session.unregister()
    del bpy.types.Scene.animatic
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
