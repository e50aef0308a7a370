"""Animatic: from a keyframed Blender blockout to video.

The repository root is both the Python package ``animatic`` and the Blender extension. Blender calls
``register`` and ``unregister``; nothing here imports bpy before that, so that the engine, the
service and the tests can import the same package in a Python that has no Blender.
"""

__version__ = "0.1.0"


def register() -> None:
    """Register the extension's classes with the running Blender."""
    from .blender_addon import ui

    ui.register()


def unregister() -> None:
    """Undo ``register``; Blender must be left without any class, property or timer of ours."""
    from .blender_addon import ui

    ui.unregister()
