"""An engine without torch whose prompt says how it misbehaves. The worker imports it by name."""

import os
import signal
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

STEP_SECONDS = 0.05


class Cancelled(Exception):
    """As the real engine's."""


class EngineError(Exception):
    """As the real engine's."""


@dataclass
class Take:
    """As the real engine's."""

    frames: np.ndarray
    plan: dict
    seconds: dict
    notes: list = field(default_factory=list)


def describe(folder: Path) -> dict:
    """Name and hash from the folder's name; a folder called broken or odd is refused."""
    if folder.name == "broken":
        raise EngineError(f"{folder / 'unet'} is missing.")
    if folder.name == "odd":
        int(float("inf"))
    return {"name": folder.name, "sha256": folder.name.encode().hex().ljust(64, "0")}


def out_of_memory(error: BaseException) -> bool:
    """As the real engine's, in short."""
    return isinstance(error, MemoryError)


class Engine:
    """Random pixels from the seed, or the fault that the prompt names."""

    def __init__(self, device: str | None) -> None:
        self.device = device or "cpu"

    def load(self, folder, on_event, plan) -> None:
        """Report one phase."""
        on_event({"type": "phase", "phase": "load", "done": 1, "of": 1})

    def generate_takes(
        self, request, guides, seeds, on_event, on_take, should_cancel, plan
    ) -> None:
        """One take after the other."""
        for index, seed in enumerate(seeds):

            def tell(event: dict, take: int = index) -> None:
                on_event({**event, "take": take})

            on_take(index, self._take(request, guides, seed, tell, should_cancel, plan))

    def _take(self, request, guides, seed, on_event, should_cancel, plan) -> Take:
        """Take a sampling step every 50 ms, unless the prompt says otherwise."""
        prompt, steps = request["prompt"], request["sampling"]["steps"]
        for path in guides.values():
            path.read_bytes()
        for step in range(steps):
            if should_cancel():
                raise Cancelled
            time.sleep(STEP_SECONDS)
            on_event({"type": "phase", "phase": "sampling", "done": step + 1, "of": steps})
            on_event({"type": "preview", "jpeg": bytes([step]) * 100, "step": step})
            if prompt == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            elif prompt == "fault":
                raise AssertionError("a bug of ours")
            elif prompt == "memory":
                raise MemoryError
            elif prompt == "CUDA":
                raise RuntimeError("CUDA error: bad address\nCompile with `DSA` to see more.")
            elif prompt == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            elif prompt == "killed while it wrote":
                for pipe in range(3, 16):
                    with suppress(OSError):
                        if stat.S_ISFIFO(os.fstat(pipe).st_mode):
                            os.write(pipe, b'{"type": "eve')
                os.kill(os.getpid(), signal.SIGKILL)
            elif prompt == "hang" or (prompt == "hang on second" and seed == 2):
                time.sleep(3600)
            elif prompt == "refuse":
                raise EngineError("The weights are damaged. Install the checkpoint again.")
        clip = request["clip"]
        shape = (clip["frames"], clip["height"], clip["width"], 3)
        frames = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        return Take(frames, plan or {"device": self.device, "pid": os.getpid()}, {"sampling": 0.1})
