"""What the engine's environment holds: torch for this machine, and the engine with its libraries.

The extension's zip carries the engine's wheel; a checkout of the repository installs from itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ... import __version__
from ..errors import AnimaticError
from .install_torch import AUTO, choose_build, torch_arguments

ROOT = Path(__file__).resolve().parents[2]
WHEEL_FOLDER = "engine_wheel"
# Run in the finished environment: it must import all that the engine does, and names the versions.
_CHECK = "\n".join(
    (
        "import importlib.metadata, json, torch",
        "import accelerate, av, diffusers, fastapi, huggingface_hub, jsonschema, transformers",
        "import animatic.server.launcher",
        "device = 'cuda' if torch.cuda.is_available() else 'cpu'",
        "device = 'mps' if torch.backends.mps.is_available() else device",
        "names = ('animatic', 'torch', 'diffusers', 'transformers', 'huggingface_hub')",
        "versions = {name: importlib.metadata.version(name) for name in names}",
        "print(json.dumps({'device': device, 'versions': versions}))",
    )
)


@dataclass(frozen=True)
class Recipe:
    """How an environment is made.

    ``steps`` are phases with the arguments of one pip run each; ``check`` is Python that runs in
    the environment at last and prints a JSON object with "device" and "versions"; the two sizes
    are in MB (10^6 bytes); ``version`` is that of Animatic, ``build`` that of torch.
    """

    steps: tuple[tuple[str, tuple[str, ...]], ...]
    check: str
    download_mb: int
    disk_mb: int
    version: str = __version__
    build: str = "cpu"


def engine_recipe(build: str = AUTO, root: Path = ROOT) -> Recipe:
    """The engine with the build of torch that was asked for ("auto": for the card that is here).

    Raises AnimaticError where there is no such build, or no engine to install.
    """
    chosen = choose_build(build)
    return Recipe(
        steps=(
            ("torch", tuple(torch_arguments(chosen))),
            ("packages", (f"animatic[engine] @ {_engine_source(root).as_uri()}",)),
        ),
        check=_CHECK,
        download_mb=chosen.download_mb,
        disk_mb=chosen.disk_mb,
        build=chosen.name,
    )


def _engine_source(root: Path) -> Path:
    wheels = sorted((root / WHEEL_FOLDER).glob("animatic-*.whl"))
    if wheels:
        return wheels[-1]
    if (root / "pyproject.toml").is_file():
        return root
    raise AnimaticError(
        "This copy of the extension carries no engine to install: install the extension from its "
        "released zip, or name the Python of an engine that is here already."
    )
