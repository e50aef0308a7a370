"""Talks to the engine and to background Blenders. No bpy."""
