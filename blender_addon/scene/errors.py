"""The error of this package."""

from __future__ import annotations

from ..errors import AnimaticError


class SceneError(AnimaticError):
    """The scene cannot give what was asked. ``str(error)`` says what is wrong and what to do."""
