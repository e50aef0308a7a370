"""The errors an artist may see: each message is a sentence that says what to do next."""


class AnimaticError(Exception):
    """Something the artist can act on. ``str(error)`` is shown as it is."""


class Cancelled(AnimaticError):
    """The artist stopped the run; nothing was left behind."""

    def __init__(self) -> None:
        super().__init__("Cancelled: nothing was written.")
