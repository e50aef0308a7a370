"""Figures as a table, and what is shown of a clip in a picture grid."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_COLUMNS = (
    ("structure_keyed", "structure, keyed", "{:.3f}"),
    ("structure_unkeyed", "structure, unkeyed", "{:.3f}"),
    ("structure", "structure", "{:.3f}"),
    ("boundary_f1", "boundary F1", "{:.2f}"),
    ("colour_accuracy", "colours right", "{:.0%}"),
    ("colour_accuracy_unseen", "of held-out pairs", "{:.0%}"),
    ("warp", "warp error", "{:.4f}"),
    ("liveliness", "liveliness", "{:.2f}"),
    ("psnr_keyed", "PSNR, keyed", "{:.1f}"),
    ("psnr_unkeyed", "PSNR, unkeyed", "{:.1f}"),
)
# A picture grid shows every so many frames.
_SHOWN = 8


def markdown(report: Mapping[str, Any]) -> str:
    """The table of a report as `evaluate` makes it."""
    sources = ", ".join(f"{count} by the {name}" for name, count in report["clips"].items())
    sources = sources.replace("the Blender", "Blender")
    lines = [
        f"`{report['command']}`: {report['checkpoint']}, weights {report['sha256'][:12]}, "
        f"estimator {report['estimator']}, seed {report['seed']}, "
        f"clips: {sources}, on {report['machine']}.",
        "",
        "| | steps | " + " | ".join(title for _, title, _ in _COLUMNS) + " |",
        "| --- | --- |" + " --- |" * len(_COLUMNS),
    ]
    for row in report["rows"]:
        cells = [
            form.format(row["figures"][name]) if name in row["figures"] else ""
            for name, _, form in _COLUMNS
        ]
        lines.append(f"| {row['name']} | {row['steps'] or ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def shown(clip: Tensor) -> Tensor:
    """Every second frame or so of a clip [F, 3, h, w] in [0, 1], for the eye, as `write_grid` takes
    a row; in half precision, since the rows of all clips wait for each other.
    """
    return clip[torch.linspace(0, len(clip) - 1, min(_SHOWN, len(clip))).round().long()].half()
