"""A real service in its own process, with an engine that misbehaves on request."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from animatic.blender_addon.link.engine_process import EngineProcess

HERE = Path(__file__).parent
FAULT_ENGINE = ("--engine", "fault_engines", "--stall-seconds", "1.5", "--cancel-seconds", "1")


def write_guide(path: Path, value: int) -> Path:
    """A 16-bit gray 64x64 PNG, as a depth guide is, without any library: two shades."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    pixels = zlib.compress((b"\0" + bytes([value, 0]) * 32 + bytes([value, 255]) * 32) * 64)
    header = struct.pack(">IIBBBBB", 64, 64, 16, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return path


def make_request(prompt: str = "a box", seeds: tuple[int, ...] = (1,), steps: int = 3, **more):
    """A valid request of two frames without guides."""
    return {
        "schema": 1,
        "prompt": prompt,
        "negative_prompt": "",
        "checkpoint": {"name": "tiny", "sha256": None},
        "loras": [],
        "clip": {"frames": 2, "fps": "24000/1001", "width": 64, "height": 64},
        "controls": [],
        "sampling": {"steps": steps, "guidance": 7.5},
        "seeds": list(seeds),
        **more,
    }


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A model folder with one good checkpoint and two broken ones (in name only)."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("tiny", "broken", "odd"):
        (folder / name).mkdir()
        (folder / name / "animatic.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def launch(models):
    """Return a function that makes (not starts) a service on a data folder."""

    def make(data: Path, **options) -> EngineProcess:
        return EngineProcess(
            models=[models],
            data=data,
            arguments=FAULT_ENGINE,
            environment={"PYTHONPATH": str(HERE)},
            **options,
        )

    return make


@pytest.fixture(scope="session")
def service(launch, tmp_path_factory):
    """One running service for all tests that leave it as they found it."""
    with launch(tmp_path_factory.mktemp("service") / "data") as engine:
        yield engine


@pytest.fixture
def client(service):
    """A client of the shared service."""
    return service.client()
