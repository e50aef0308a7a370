"""Trains blockout-mini, and SparseCtrl encoders at any size."""
