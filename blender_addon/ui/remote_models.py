"""The models of a remote engine: asked for in a thread, so that no dead network stops Blender."""

from __future__ import annotations

import threading
import time

from ..errors import AnimaticError
from ..link.catalogue import Checkpoint
from ..link.remote import RemoteEngine, checkpoint_there

_AGAIN_S = 20.0


class RemoteModels:
    """What the engine at one address told last. No bpy."""

    def __init__(self) -> None:
        self.models: list[Checkpoint] = []
        self.error = ""
        self.changes = 0
        self._asked_for: tuple[str, str] | None = None
        self._asked_at = 0.0
        self._thread: threading.Thread | None = None

    def ask(self, address: str, token: str) -> None:
        """Have the models of this engine asked for, unless that was a moment ago."""
        if self._thread is not None and self._thread.is_alive():
            return
        now = time.monotonic()
        if self._asked_for == (address, token) and now - self._asked_at < _AGAIN_S:
            return
        if self._asked_for != (address, token):
            self.models, self.error = [], ""
        self._asked_for, self._asked_at = (address, token), now
        self._thread = threading.Thread(
            target=self._run, args=(address, token), name="animatic-models", daemon=True
        )
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for an answer that is on its way."""
        if self._thread is not None:
            self._thread.join(seconds)

    def find(self, name: str) -> Checkpoint:
        """The model of this name. Raises AnimaticError where it is not known (yet)."""
        for model in self.models:
            if model.name == name:
                return model
        if self.error:
            raise AnimaticError(self.error)
        if not self.models:
            raise AnimaticError(
                "The remote engine has not said yet which models it has: try again in a moment."
            )
        known = ", ".join(model.name for model in self.models)
        raise AnimaticError(f"The remote engine has no model called {name!r}. It has: {known}.")

    def _run(self, address: str, token: str) -> None:
        try:
            told = RemoteEngine(address, token).client().models()
            self.models, self.error = [checkpoint_there(each) for each in told], ""
        except AnimaticError as error:
            self.error = str(error)
        self.changes += 1


remote_models = RemoteModels()
