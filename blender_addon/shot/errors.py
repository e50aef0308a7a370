"""The error of this package: a sentence for the artist, and a ValueError for the caller."""

from __future__ import annotations

from ..errors import AnimaticError


class ShotError(AnimaticError, ValueError):
    """What was asked cannot be done. ``str(error)`` says what is wrong and what to do."""
