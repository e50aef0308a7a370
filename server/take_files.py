"""Writes a take's files and publishes them as one folder."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from .store import TEMPORARY

PNG_COMPRESSION = 6
"""Fixed, so that the same pixels give the same bytes (with the same Pillow)."""


def publish_take(
    folder: Path,
    index: int,
    made: Any,
    request: Mapping[str, Any],
    request_sha256: str,
    checkpoint: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """Write frames, video and take.json of one take; returns what take.json holds.

    Args:
        folder: the job's takes folder; the take appears in it as ``<index>``, whole or not at all.
        made: the engine's take: ``frames`` uint8 [F,H,W,3], ``plan``, ``seconds`` and ``notes``.
        request: the checked request that was answered.
        request_sha256: hash of its canonical JSON.
        checkpoint: name and sha256 of what was loaded.
        seed: the take's seed.

    Raises:
        OSError: if the disk is full or not writable.
    """
    # Imported here: PyAV is the engine's, and tests run the service with engines that lack it.
    from ..engine.video import write_video

    part = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        (part / "frames").mkdir(parents=True)
        hashes = []
        for number, frame in enumerate(made.frames, start=1):
            file = part / "frames" / f"{number:04d}.png"
            Image.fromarray(frame).save(file, compress_level=PNG_COMPRESSION)
            hashes.append(hashlib.sha256(file.read_bytes()).hexdigest())
        write_video(made.frames, Fraction(request["clip"]["fps"]), part / "video.mp4")
        take = {
            "schema": 1,
            "id": str(uuid.uuid4()),
            "seed": seed,
            "request_sha256": request_sha256,
            "checkpoint": dict(checkpoint),
            "plan": made.plan,
            "frames": hashes,
            "video": "video.mp4",
            "seconds": made.seconds,
            "notes": made.notes,
        }
        (part / "take.json").write_text(json.dumps(take, indent=2) + "\n", encoding="utf-8")
        for file in filter(Path.is_file, part.rglob("*")):
            with file.open("rb+") as written:
                os.fsync(written)  # or a power cut may leave a take of empty files
        os.replace(part, folder / str(index))
    finally:
        if part.exists():
            shutil.rmtree(part)
    return take
