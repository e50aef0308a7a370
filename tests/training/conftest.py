"""A recipe for a model and stages that take seconds, and clips in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.training.recipe import Recipe, read_recipe  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small() -> dict[str, Any]:
    """A model smaller still than "tiny", whose size other tests rely on."""
    return {
        "size": "tiny", "name": "small", "native": 32, "frames": 4, "widths": [16, 32], "heads": 2,
    }  # fmt: skip


@pytest.fixture
def small_recipe(small: dict[str, Any]) -> Callable[[int | None], Recipe]:
    """The CPU's recipe, for so many steps per stage at most where a number is given."""

    def make(steps: int | None) -> Recipe:
        recipe = read_recipe("blockout-mini")
        recipe |= {"model": small, "data": {"stills": 0, "clips": 1, "places": {}}}
        for stage in (
            "vae",
            "decoder",
            "image",
            "motion",
            "sparsectrl",
            "joint",
            "image-prompt",
            "few-steps",
            "motionlora",
            "estimator",
        ):
            recipe[stage] |= {"warmup": 2} | ({"steps": steps} if steps else {})
        # Clip stages draw alike, and drawing takes longer than so few steps: joint's are enough.
        for stage in ("motion", "sparsectrl", "motionlora"):
            recipe[stage]["sample_seconds"] = 0
        recipe["vae"] |= {"batch": 4, "crop": 32}
        recipe["decoder"] |= {"batch": 2, "crop": 16}
        return recipe

    return make


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three ray-cast clips as people would have them, four frames of 32x24."""
    import numpy as np
    from animatic.engine.training.guides import render
    from animatic.engine.training.scenes import make_blockouts
    from PIL import Image

    folder = tmp_path_factory.mktemp("clips")
    blockouts = make_blockouts(5, 3, torch.linspace(0, 1, 4))
    rendered = render(blockouts.scene, 32)
    for number, caption in enumerate(blockouts.captions):
        clip = folder / f"clip{number}"
        for name in ("frames", "depth/guides", "lineart"):
            (clip / name).mkdir(parents=True)
        (clip / "caption.txt").write_text(f"{caption}, dolly in\n")
        for frame in range(4):
            rows = slice(4, 28)
            colour = rendered.colour[number, frame, :, rows].permute(1, 2, 0).numpy()
            depth = rendered.depth[number, frame, rows].numpy().astype(np.uint16)
            lineart = rendered.lineart[number, frame, rows].numpy()
            Image.fromarray(colour).save(clip / "frames" / f"{frame + 1:04d}.png")
            # As `animatic render --guides-only --out clip/depth` leaves them.
            Image.fromarray(depth).save(clip / "depth" / "guides" / f"depth_{frame + 1:04d}.png")
            Image.fromarray(lineart).save(clip / "lineart" / f"{frame + 1:04d}.png")
        (clip / "depth" / "guides" / "contact_sheet.png").write_bytes(b"")
    return folder
