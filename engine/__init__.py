"""Checkpoints to conditions to sampling to frames. No bpy, no network."""

import os

# Read once, when torch loads its thread library, hence here, before any import of torch. By default
# a waiting thread keeps its core busy, which on a machine that something else keeps busy too
# (Blender rendering) takes that core from the thread it waits for. The bits are the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Likewise by cuBLAS when it starts, which loading a checkpoint may do; without it its sums depend
# on timing.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
