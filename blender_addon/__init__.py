"""What runs inside Blender: numpy and the standard library only."""
