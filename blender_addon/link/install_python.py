"""Finds a Python that can make the engine's environment, or has uv bring one."""

from __future__ import annotations

import hashlib
import html.parser
import http.client
import io
import os
import platform
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import AnimaticError
from .install_command import Commands

VERSIONS = ("3.11", "3.12", "3.13")
"""In the order they are preferred: the engine's own tests run with the first."""
UV = "0.13.9"
INDEX_VARIABLE = "PIP_INDEX_URL"
_PYPI = "https://pypi.org/simple"
_PROBE = (
    "import ensurepip, sys, sysconfig, venv;"
    "print('{}.{}'.format(*sys.version_info), sys.maxsize > 2**32,"
    " bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
)


def candidates(version: str) -> Iterator[str]:
    """Programs that may be this Python: on the path, and where installers put it.

    A Blender that was started from a desktop does not see the shell's path.
    """
    name = f"python{version}"
    if found := shutil.which(name):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/{name}"), reverse=True))
    if sys.platform == "darwin":
        frameworks = f"/Library/Frameworks/Python.framework/Versions/{version}/bin"
        for folder in ("/opt/homebrew/bin", "/usr/local/bin", frameworks):
            yield f"{folder}/{name}"
    if sys.platform == "win32" and (launcher := shutil.which("py")):
        program = "import sys; print(sys.executable)"
        asked = [launcher, f"-{version}", "-X", "utf8", "-c", program]  # a user may be called José
        answer = subprocess.run(asked, capture_output=True, text=True, encoding="utf-8")
        if answer.returncode == 0:
            yield answer.stdout.strip()


def find_python() -> Path | None:
    """The first Python here that suits: the machine's own before Blender's, which goes with it."""
    for version in VERSIONS:
        for candidate in candidates(version):
            if suits(candidate) == version:
                return Path(candidate)
    return Path(sys.executable) if suits(sys.executable) else None


def suits(candidate: str | Path) -> str | None:
    """Its version if it has 64 bits, can make virtual environments and is one of VERSIONS."""
    try:
        # -I: whatever Blender's surroundings set for Python does not reach it.
        answer = subprocess.run(
            [str(candidate), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version, *rest = answer.stdout.split() or [""]
    return version if version in VERSIONS and rest == ["True", "False"] else None


def bring_python(folder: Path, commands: Commands) -> Path:
    """Load uv from the package index into ``folder`` and have it install a Python there.

    Returns the Python. Raises AnimaticError (CommandFailed among them) with a sentence, or
    Cancelled.
    """
    uv = _bring_uv(folder / "uv")
    environment = {"UV_PYTHON_INSTALL_DIR": str(folder / "python"), "UV_NO_CONFIG": "1"}
    version = VERSIONS[1]  # the one that is kept up longest of those that torch has known longest
    commands.run([uv, "python", "install", "--no-bin", version], env=environment)
    lines = commands.run([uv, "python", "find", "--managed-python", version], env=environment)
    python = Path(lines[-1])
    if suits(python) is None:
        raise AnimaticError(
            f"uv brought a Python that does not work here ({python}): install Python "
            f"{VERSIONS[-1]} yourself, then install again."
        )
    return python


def _bring_uv(folder: Path) -> Path:
    name = "uv.exe" if sys.platform == "win32" else "uv"
    program = folder / UV / name
    if program.is_file():
        return program
    index = os.environ.get(INDEX_VARIABLE, _PYPI).rstrip("/") + "/uv/"
    try:
        address = _uv_wheel(index, _open(index).decode("utf-8", "replace"))
        wheel = _open(address)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise AnimaticError(
            f"No suitable Python is here, and uv, which would bring one, could not be loaded from "
            f"{index} ({error}). Check the network connection, or install Python "
            f"{VERSIONS[-1]} yourself; then install again."
        ) from error
    expected = urllib.parse.urlsplit(address).fragment.removeprefix("sha256=")
    if hashlib.sha256(wheel).hexdigest() != expected:
        raise AnimaticError("uv arrived damaged from the package index: install again.")
    program.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        data = archive.read(f"uv-{UV}.data/scripts/{name}")
    part = program.with_suffix(".part")
    part.write_bytes(data)
    part.chmod(0o755)
    part.replace(program)
    return program


def _uv_wheel(index: str, page: str) -> str:
    """The address of uv's wheel for this machine, with its hash, on an index's page (PEP 503)."""
    links = _Links()
    links.feed(page)
    tags = _tags()
    for link in links.addresses:
        file = urllib.parse.unquote(link.partition("#")[0].rpartition("/")[2])
        if file.startswith(f"uv-{UV}-") and all(tag in file for tag in tags):
            return urllib.parse.urljoin(index, link)
    raise ValueError(f"it has no uv {UV} for {' '.join(tags)}")


def _tags() -> tuple[str, str]:
    machine = platform.machine().lower()
    arm = machine in ("arm64", "aarch64")
    if sys.platform == "win32":
        return ("win_", "arm64" if arm else "amd64")
    if sys.platform == "darwin":
        return ("macosx_", "arm64" if arm else "x86_64")
    return ("manylinux", machine)


class _Links(html.parser.HTMLParser):
    """The addresses that a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser for each tag."""
        address = dict(attrs).get("href")
        if tag == "a" and address:
            self.addresses.append(address)


def _open(address: str) -> bytes:
    if not address.startswith(("https://", "http://")):
        raise ValueError(f"{address} is no web address")
    asked = urllib.request.Request(address, headers={"Accept": "text/html, */*"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return answer.read()
