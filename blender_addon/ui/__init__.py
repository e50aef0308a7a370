"""Properties, panels, operators and preferences."""

import bpy

from . import (
    headless,
    keyframe_list,
    keyframe_operators,
    lists,
    loras,
    operators,
    panel,
    pending,
    preferences_operators,
    previews,
    properties,
    queue_operators,
    session,
    status_bar,
    take_index,
    take_operators,
    take_views,
    timeline,
    user_presets,
    watch,
)

_CLASSES: tuple[type, ...] = (
    keyframe_list.AnimaticGuideFrame,
    keyframe_list.ANIMATIC_UL_guide_frames,
    *loras.CLASSES,
    properties.AnimaticSettings,
    *preferences_operators.CLASSES,
    *operators.CLASSES,
    *queue_operators.CLASSES,
    *keyframe_operators.CLASSES,
    *lists.CLASSES,
    *take_operators.CLASSES,
    *take_views.CLASSES,
    *user_presets.CLASSES,
    *panel.CLASSES,
)


def register() -> None:
    """Register classes, the scene's settings and the handler that notices another file."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.animatic = bpy.props.PointerProperty(type=properties.AnimaticSettings)
    bpy.types.WindowManager.animatic = bpy.props.PointerProperty(type=lists.AnimaticScenes)
    previews.register()
    session.register()
    preferences_operators.register()
    take_index.register()
    status_bar.register()
    timeline.register()
    watch.register()
    headless.register()


def unregister() -> None:
    """End a running job, then take back all that ``register`` added."""
    headless.unregister()
    watch.unregister()
    timeline.unregister()
    status_bar.unregister()
    take_index.unregister()
    session.unregister()
    pending.forget()
    preferences_operators.unregister()
    previews.unregister()
    del bpy.types.WindowManager.animatic
    del bpy.types.Scene.animatic
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
