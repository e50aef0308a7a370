"""Everything that touches a Blender scene. Main thread only."""
