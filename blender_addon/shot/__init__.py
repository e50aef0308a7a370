"""Pure code: shots, timing, depth encoding, requests. No bpy."""
