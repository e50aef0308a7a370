"""Runs one task in a background Blender: ``<bpy's python> child.py TASK.json``.

Or, in a Blender executable: ``blender -b --factory-startup --python child.py -- TASK.json``.
The task is JSON (tasks.py says what it holds) and names the file for its result. Progress goes to
standard output, one ``@animatic {json}`` a line. A task that cannot be done ends with exit code 1
and ``{"error": sentence}`` as its result. Nothing need be installed: the package is loaded from
where this file lies.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
from pathlib import Path
from types import ModuleType

PACKAGE = "animatic"
ROOT = Path(__file__).resolve().parents[2]


def load_package() -> ModuleType:
    """Import this source tree as the package ``animatic`` and return its task module."""
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]  # its modules are no top level
    spec = importlib.util.spec_from_file_location(
        PACKAGE, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    return importlib.import_module(f"{PACKAGE}.blender_addon.scene.tasks")


def emit(event: dict) -> None:
    """Print a progress event for the process that started this one."""
    print(f"@animatic {json.dumps(event)}", flush=True)


def end_with_parent() -> None:
    """End this process when the one that holds our standard input does, however that ends."""

    def wait() -> None:
        # Read past sys.stdin, whose lock would be held when Python ends and then abort it.
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str]) -> int:
    """Run the task that the last of ``arguments`` names; return the exit code."""
    tasks = load_package()
    errors = importlib.import_module(f"{PACKAGE}.blender_addon.errors")
    task = tasks.read_task(Path(arguments[-1]))
    if task.get("watch_stdin"):
        end_with_parent()
    try:
        result, code = tasks.run_task(task, emit), 0
    except errors.AnimaticError as error:
        result, code = {"error": str(error)}, 1
    except OSError as error:
        sentence = (
            f"Blender could not read or write a file ({error}): check that the disk is not full "
            "and that the folder can be written, then try again."
        )
        result, code = {"error": sentence}, 1
    target = Path(task["result"])
    unfinished = target.with_name(target.name + ".part")
    unfinished.write_text(json.dumps(result), encoding="utf-8")
    os.replace(unfinished, target)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
