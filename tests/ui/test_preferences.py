"""The preferences in a background Blender, and what the zip carries for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from animatic.tests.ways import Certificate, ssh_daemon, ssh_tunnel, tls_proxy

from .conftest import ROOT

ENGINE_PYTHON = ROOT / ".venv" / "engine" / "bin" / "python"


def test_zip_carries_the_engine(extension_zip: Path) -> None:
    with zipfile.ZipFile(extension_zip) as archive:
        names = archive.namelist()
        (wheel,) = [name for name in names if name.endswith(".whl")]
        with archive.open(wheel) as inner:
            carried = zipfile.ZipFile(inner).namelist()
    assert wheel.startswith("engine_wheel/animatic-")
    assert {"animatic/server/launcher.py", "animatic/presets/catalogue.json"} <= set(carried)
    # the model lies in the zip once
    assert not [name for name in carried if name.endswith(".safetensors")]
    assert "presets/blockout-mini/unet/diffusion_pytorch_model.safetensors" in names
    assert extension_zip.stat().st_size < 80e6


@pytest.mark.skipif(not ENGINE_PYTHON.is_file(), reason="the engine's environment is not here")
def test_engine_and_models(run_inside: Callable[..., str]) -> None:
    run_inside("uses_preferences.py", ENGINE_PYTHON, own_engine=False)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """An engine, started as on a machine of its own; gives its port and token."""
    data = tmp_path / "elsewhere"
    program = Path(sys.executable).with_name("animatic")
    command = [str(program), "serve", "--data", str(data), "--engine-python", str(ENGINE_PYTHON)]
    environment = {**os.environ, "ANIMATIC_DATA": str(data)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        told = process.stdout.readline()  # Engine at http://127.0.0.1:PORT, its token in FILE
        port = int(told.partition("127.0.0.1:")[2].partition(",")[0])
        yield port, (data / "token").read_text(encoding="utf-8")
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.mark.slow
@pytest.mark.skipif(not ENGINE_PYTHON.is_file(), reason="the engine's environment is not here")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_remote_engine(
    run_inside: Callable[..., str], served: tuple[int, str], tmp_path: Path
) -> None:
    port, token = served
    certificate = Certificate.make(tmp_path)
    with ExitStack() as open_ways:
        outside = open_ways.enter_context(tls_proxy(port, certificate))
        ways = [f"https://localhost:{outside}", certificate.file]
        if ssh_daemon() is not None:
            here = open_ways.enter_context(ssh_tunnel(port, tmp_path))
            ways.append(f"http://127.0.0.1:{here}")
        run_inside("uses_remote.py", token, *ways, own_engine=False)


@pytest.mark.slow
def test_real_installation(run_inside: Callable[..., str]) -> None:
    run_inside("installs_engine.py", limit=1500, own_engine=False)
