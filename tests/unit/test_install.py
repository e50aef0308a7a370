"""The installer on real environments: a tiny wheel stands where torch would, all else is real."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from animatic import __version__
from animatic.blender_addon.errors import AnimaticError, Cancelled
from animatic.blender_addon.link import install, install_python
from animatic.blender_addon.link.engine_process import find_engine_python
from animatic.blender_addon.link.install_command import Commands, explain
from animatic.blender_addon.link.install_places import python_in
from animatic.blender_addon.link.install_recipe import Recipe, engine_recipe
from animatic.blender_addon.link.install_torch import builds, choose_build, torch_arguments

CHECK = 'import json, tinytorch; print(json.dumps({"device": "cpu", "versions": tinytorch.V}))'


def make_wheel(folder: Path, version: str = "1.0", code: str | None = None) -> Path:
    """A wheel as pip takes it, with one module in it."""
    info = f"tinytorch-{version}.dist-info"
    files = {
        "tinytorch.py": code or f'V = {{"tinytorch": "{version}"}}\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tinytorch\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        record += f"{name},sha256={digest.rstrip(b'=').decode()},{len(text)}\n"
    wheel = folder / f"tinytorch-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return wheel


def recipe_of(*arguments: str, check: str = CHECK, disk_mb: int = 50) -> Recipe:
    """A small environment instead of the engine's."""
    return Recipe((("torch", ("--no-deps", *arguments)),), check, 10, disk_mb)


def left_over(data: Path) -> list[str]:
    """What lies in the data folder and is neither environment nor log nor lock."""
    usual = {install.NAME, install.LOG, "install.lock"}
    return [path.name for path in data.iterdir() if path.name not in usual]


@pytest.fixture
def stalling_index() -> Iterator[tuple[str, threading.Event]]:
    """A package index that sends half a wheel and then nothing; the event says when."""
    stalled, over = threading.Event(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if not self.path.endswith(".whl"):
                page = b'<a href="/tinytorch-2.0-py3-none-any.whl">tinytorch-2.0</a>'
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)
                return
            self.send_header("Content-Length", "8000000")
            self.end_headers()
            for _ in range(4):
                self.wfile.write(bytes(1_000_000))
                self.wfile.flush()
                time.sleep(0.4)
            stalled.set()
            over.wait(30)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", stalled
    over.set()
    server.shutdown()
    server.server_close()


def test_refusals_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(AnimaticError, match="Allow Online Access"):
        install.Installer(recipe_of("x"), online=False, data=tmp_path).run(print)
    huge = recipe_of("x", disk_mb=10**9)
    with pytest.raises(AnimaticError, match=r"needs 1000000\.0 GB .* GB free"):
        install.Installer(huge, online=True, data=tmp_path).run(print)
    wrong = install.Installer(recipe_of("x"), online=True, data=tmp_path, python=tmp_path / "wrong")
    with pytest.raises(AnimaticError, match=r"must be a Python 3\.11 to 3\.13"):
        wrong.run(print)
    assert install.read_installed(tmp_path) is None
    assert left_over(tmp_path) == []


def test_only_one_installation_at_a_time(tmp_path: Path) -> None:
    with (
        install._only_one(tmp_path),
        pytest.raises(AnimaticError, match="Another Blender is installing"),
    ):
        install.Installer(recipe_of("x"), online=True, data=tmp_path).run(print)


def test_a_change_of_names_that_was_broken_off_is_undone(tmp_path: Path) -> None:
    for name in ("engine.old-1", "engine.new-2", "engine.removed-3"):
        (tmp_path / name).mkdir()
    (tmp_path / "engine.old-1" / install.MARKER).write_text("{}")
    install._sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_a_damaged_environment_asks_for_repair(tmp_path: Path) -> None:
    folder = install.engine_folder(tmp_path)
    folder.mkdir()
    for text in ("{", '{"a": 1}', '{"animatic":"1","build":"cpu","device":"cpu","base":"/gone"}'):
        (folder / install.MARKER).write_text(text)
        with pytest.raises(AnimaticError, match="press Repair"):
            install.read_installed(tmp_path)


def test_remarks_on_what_is_installed() -> None:
    fine = install.Installed(__version__, "cuda", "cuda", "python3")
    assert fine.remark(__version__) == ""
    assert "press Repair to bring it up to date" in fine.remark("99")
    slow = install.Installed(__version__, "cuda", "cpu", "python3")
    assert "driver" in slow.remark(__version__)


def test_python_that_suits(tmp_path: Path) -> None:
    found = install_python.find_python()
    assert found is not None
    assert install_python.suits(found) in install_python.VERSIONS
    assert install_python.suits(tmp_path / "none") is None
    assert install_python.suits("/bin/echo") is None


def test_torch_for_each_system() -> None:
    assert torch_arguments(builds("linux")["cuda"])[0] == "--no-deps"  # PyPI's own
    assert "cu130" in torch_arguments(builds("win32")["cuda"])[1]
    assert list(builds("darwin")) == ["metal"]
    assert choose_build("cpu", "linux").index is not None
    with pytest.raises(AnimaticError, match="no build of torch for rocm"):
        choose_build("rocm", "win32")


def test_recipe_takes_the_wheel_that_the_zip_carries(tmp_path: Path) -> None:
    with pytest.raises(AnimaticError, match="carries no engine"):
        engine_recipe("cpu", tmp_path)
    (tmp_path / "engine_wheel").mkdir()
    wheel = tmp_path / "engine_wheel" / "animatic-9.9-py3-none-any.whl"
    wheel.touch()
    (_, torch), (_, package) = engine_recipe("cpu", tmp_path).steps
    assert "torch==" in torch[-1]
    assert package == (f"animatic[engine] @ {wheel.as_uri()}",)


def test_failures_in_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert "disk became full" in explain(["OSError: [Errno 28] No space left on device"], log)
    assert "network" in explain(["WARNING: Retrying ... NewConnectionError('...')"], log)
    assert "PIP_CERT" in explain(["SSLError: CERTIFICATE_VERIFY_FAILED"], log)
    told = explain(["x", "ERROR: No matching distribution found for y.", "z"], log)
    assert "No matching distribution found for y. The log is" in told


@pytest.mark.skipif(os.name == "nt", reason="asks for processes by signal")
def test_cancel_ends_the_whole_tree(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('child', child.pid, flush=True); time.sleep(60)"
    )
    cancelled, pids = threading.Event(), []

    def on_line(line: str) -> None:
        pids.append(int(line.split()[1]))
        cancelled.set()

    commands = Commands(tmp_path / "log", on_line, cancelled)
    began = time.monotonic()
    with pytest.raises(Cancelled):
        commands.run([sys.executable, "-c", code])
    assert time.monotonic() - began < 10
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pids[0]}/cmdline").exists() and time.monotonic() < deadline:
        if not Path(f"/proc/{pids[0]}/cmdline").read_bytes():
            break  # ended, waiting to be collected
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pids[0]}").exists()


@pytest.mark.slow
def test_install_repair_cancel_remove(
    tmp_path: Path,
    stalling_index: tuple[str, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("ANIMATIC_DATA", str(data))
    events: list[dict] = []
    first = recipe_of(str(make_wheel(tmp_path, "1.0")))
    made = install.Installer(first, online=True).run(events.append)
    assert made.versions == {"tinytorch": "1.0"}
    assert install.read_installed() == made
    assert {event["phase"] for event in events} == {"python", "environment", "torch", "check"}
    assert any("Successfully installed tinytorch-1.0" in e.get("text", "") for e in events)
    assert left_over(data) == []
    python = python_in(install.engine_folder())
    assert find_engine_python(root=tmp_path) == python
    # pip works under the environment's final name too
    listed = subprocess.run([python, "-I", "-m", "pip", "list"], capture_output=True, text=True)
    assert "tinytorch" in listed.stdout

    def version() -> str:
        asked = [python, "-I", "-c", "import tinytorch; print(tinytorch.V['tinytorch'])"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    # A repair that fails at its last step leaves what was there.
    broken = recipe_of(str(make_wheel(tmp_path, "1.1", "raise SystemExit('no GPU today')\n")))
    with pytest.raises(AnimaticError, match=r"no GPU today.*install\.log"):
        install.Installer(broken, online=True).run(events.append)
    assert (version(), left_over(data)) == ("1.0", [])

    # So does one that is cancelled in the middle of a download.
    address, stalled = stalling_index
    cut = install.Installer(recipe_of("--index-url", address, "tinytorch==2.0"), online=True)
    waiter = threading.Thread(target=lambda: (stalled.wait(60), cut.cancel()))
    waiter.start()
    with pytest.raises(Cancelled):
        cut.run(events.append)
    waiter.join()
    assert stalled.is_set()
    assert max(event["done"] for event in events) >= 2  # of the 4 MB that came
    assert (version(), left_over(data)) == ("1.0", [])

    # An index that nobody answers for is told as what it is.
    dead = recipe_of("--retries", "1", "--index-url", "http://127.0.0.1:9", "tinytorch==3.0")
    with pytest.raises(AnimaticError, match="could not be reached"):
        install.Installer(dead, online=True).run(events.append)
    assert version() == "1.0"

    # A repair that works replaces it.
    second = recipe_of(str(make_wheel(tmp_path, "1.2")))
    install.Installer(second, online=True).run(events.append)
    assert (version(), left_over(data)) == ("1.2", [])
    install.remove()
    assert install.read_installed() is None
    assert left_over(data) == []


@pytest.mark.slow
def test_uv_is_brought_where_no_python_suits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real uv from the package index; the Python it is asked for lies on a dead mirror."""
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    commands = Commands(tmp_path / "log", lambda _: None, threading.Event())
    with pytest.raises(AnimaticError, match="could not be reached"):
        install_python.bring_python(tmp_path, commands)
    (uv,) = (tmp_path / "uv" / install_python.UV).iterdir()
    told = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True)
    assert install_python.UV in told.stdout
