"""The two ways in which the engine does not return a take."""


class EngineError(Exception):
    """A sentence for the artist: what is wrong, and what to do about it."""


class Cancelled(Exception):
    """The job was cancelled; nothing was made and nothing is held any more."""
