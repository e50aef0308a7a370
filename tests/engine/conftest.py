"""A tiny untrained checkpoint, guides, and requests for the engine's tests."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.run import Engine
from animatic.engine.training.architecture import build_untrained
from PIL import Image

from .image_parts import add_image_parts

SIZE = 32
FRAMES = 4

# On a busy machine two threads wait for each other at every one of the tiny model's operations.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint's folder; tests that damage it work on a copy."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_untrained(folder, tiny=True)
    return folder


@pytest.fixture(scope="session")
def engine(checkpoint: Path) -> Engine:
    """An engine with the tiny checkpoint loaded."""
    engine = Engine("cpu")
    engine.load(checkpoint, lambda event: None)
    return engine


@pytest.fixture(scope="module")
def equipped_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny checkpoint with a depth ControlNet and an IP-Adapter."""
    copy = tmp_path_factory.mktemp("equipped") / "tiny"
    shutil.copytree(checkpoint, copy)
    add_image_parts(copy)
    return copy


@pytest.fixture(scope="module")
def equipped(equipped_folder: Path) -> Engine:
    """An engine with that copy loaded."""
    engine = Engine("cpu")
    engine.load(equipped_folder, lambda event: None)
    return engine


@pytest.fixture(scope="session")
def guides(tmp_path_factory: pytest.TempPathFactory) -> "Guides":
    """Guide pictures of every kind, at two moments."""
    return Guides(tmp_path_factory.mktemp("guides"))


class Guides(dict[str, Path]):
    """Content hash to file, as the engine gets it; ``sha[kind, moment]`` gives the hashes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.sha: dict[tuple[str, int], str] = {}
        noise = np.random.default_rng(0)
        for moment in range(2):
            codes = noise.integers(0, 65536, (SIZE, SIZE), dtype=np.uint16)
            lines = noise.integers(0, 2, (SIZE, SIZE), dtype=np.uint8) * 255
            colour = noise.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            pictures = {"depth": codes, "lineart": lines, "render": colour}
            for kind, pixels in pictures.items():
                self.sha[kind, moment] = self.add(f"{kind}{moment}.png", Image.fromarray(pixels))

    def add(self, name: str, picture: Image.Image) -> str:
        picture.save(self.folder / name)
        sha256 = hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        self[sha256] = self.folder / name
        return sha256

    def control(
        self, kind: str, keyframes: dict[int, float], strength: float = 1.0
    ) -> dict[str, Any]:
        """A request's control: guides of ``kind`` at clip frames, with their strengths."""
        keyed = [
            {"clip_frame": frame, "sha256": self.sha[kind, k % 2], "strength": own}
            for k, (frame, own) in enumerate(keyframes.items())
        ]
        return {"guide": kind, "strength": strength, "keyframes": keyed}


@pytest.fixture
def request_for(guides: Guides) -> Callable[..., dict[str, Any]]:
    """A function that makes a request of the given controls, with whatever else is set."""

    def make(*controls: dict[str, Any], **changes: Any) -> dict[str, Any]:
        request: dict[str, Any] = {
            "schema": 1,
            "prompt": "a red box",
            "negative_prompt": "",
            "checkpoint": {"name": "blockout-tiny", "sha256": None},
            "loras": [],
            "clip": {"frames": FRAMES, "fps": "8", "width": SIZE, "height": SIZE},
            "controls": list(controls),
            "sampling": {"steps": 2, "guidance": 7.5},
            "seeds": [1],
            "shot": {},
        }
        for section, values in changes.items():
            request[section] = request[section] | values if isinstance(values, dict) else values
        return request

    return make
