"""``blender -b SCENE.blend -c animatic``: what ``animatic render`` does, for the opened file."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import bpy

from ..link.generate import Host
from .preferences import host

_handles: list[object] = []


def register() -> None:
    """Let Blender know the command."""
    _handles.append(bpy.utils.register_cli_command("animatic", render_open_file))


def unregister() -> None:
    """Take the command back."""
    while _handles:
        bpy.utils.unregister_cli_command(_handles.pop())


def render_open_file(arguments: list[str]) -> int:
    """Run the command; return 0, or 1 for an error, 2 for bad usage, 130 when cancelled."""
    # Only a Blender that is asked for the command loads the command line.
    from ...cli import render_open_file as render

    blend = bpy.data.filepath
    asks_help = bool({"-h", "--help"} & set(arguments))
    if not blend and not asks_help:
        print(
            "Error: No file is open: name one before the command, as in "
            "`blender -b SCENE.blend -c animatic`.",
            file=sys.stderr,
        )
        return 2
    return render(arguments, Path(blend), bpy.context.scene.name, _host)


def _host(options: argparse.Namespace) -> Host:
    """The tools that the options name, for the rest those of the preferences."""
    chosen = host(bpy.context)
    engine_python = options.engine_python or chosen.engine_python
    return replace(
        chosen,
        blender=options.blender or chosen.blender,
        engine_python=engine_python,
        models=(*options.models, *chosen.models),
        device=options.device,
        port=options.port,
        engine=None if options.engine_python else chosen.engine,
    )
