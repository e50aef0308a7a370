"""A real Blender window on a screen of its own, driven by a script: for tests and the guide."""
