"""``python -m animatic.server download NAME --models DIR``: one download, told line by line.

On standard output: ``@animatic {json}`` for each event, at last ``{"folder"}`` or ``{"error"}``.
It ends when standard input closes, with ``--watch-stdin``; the next run goes on from there.
"""

import argparse
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PREFIX = "@animatic "


def main(arguments: Sequence[str]) -> int:
    """Download; returns the exit code, 1 for an error that was told."""
    parser = argparse.ArgumentParser(prog="animatic.server download", description=__doc__)
    parser.add_argument("name", help="a name from the catalogue")
    parser.add_argument("--models", type=Path, required=True, help="the models folder")
    parser.add_argument("--catalogue", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--watch-stdin", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(arguments)
    if options.watch_stdin:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    # The library reads these when it is imported; its bars would get between our lines.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    from .models import CATALOGUE, ModelError, find_model
    from .models_download import Download

    try:
        model = find_model(options.name, options.catalogue or CATALOGUE)
        folder = Download(model, options.models.expanduser().absolute(), _tell).run()
    except ModelError as error:
        _tell({"error": str(error)})
        return 1
    _tell({"folder": str(folder)})
    return 0


def _tell(event: dict[str, Any]) -> None:
    print(PREFIX + json.dumps(event), flush=True)


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock would be held while Python ends.
    while os.read(0, 1024):
        pass
    os._exit(1)  # from a thread, while another waits for the network
