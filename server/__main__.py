"""Starts the service (``python -m animatic.server``), a model's download (``... download``) or,
for the service itself, its worker.

Run as a plain file, it finds the package by its own place, so nothing need be installed.
"""

import importlib.util
import sys
from pathlib import Path


def _load_package() -> None:
    root = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(
        "animatic", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["animatic"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    if not __package__:
        _load_package()
        __package__ = "animatic.server"  # what the relative imports below start from
    try:
        if sys.argv[1:2] == ["worker"]:
            from .worker import main as run_worker

            run_worker(sys.argv[2:])
        elif sys.argv[1:2] == ["download"]:
            from .models_cli import main as download

            sys.exit(download(sys.argv[2:]))
        else:
            from .launcher import main as run_service

            sys.exit(run_service(sys.argv[1:]))
    except ModuleNotFoundError as error:
        print(
            f"This Python ({sys.executable}) lacks {error.name}, which the engine needs. "
            "Install the engine's environment: pip install animatic[engine]",
            file=sys.stderr,
        )
        sys.exit(5)
