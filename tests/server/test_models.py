"""Downloads from a small hub on this machine that cuts connections and tells untruths."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from animatic.blender_addon.errors import AnimaticError, Cancelled
from animatic.blender_addon.link.install_models import ModelDownload

BIG = os.urandom(3_500_000)
SMALL = b'{"a": 1}\n'
COMMIT = "0" * 40


class Hub:
    """What the hub serves and how it misbehaves; ``ranges`` are the starts that were asked for.

    ``cut_after``: bytes after which the connection is cut, once for each entry of the list.
    ``slow``: seconds between blocks. ``lengths``: whether a download says how long it is; without,
    a cut looks like its end. ``token``: what it asks for, if anything; files with weights are then
    on another host, and ``strangers`` are the authorizations that were shown to that one.
    """

    def __init__(self) -> None:
        self.files = {"weights.safetensors": BIG, "tokenizer/vocab.json": SMALL}
        self.told: dict[str, str] = {}
        self.cut_after: list[int] = []
        self.ranges: list[int] = []
        self.slow = 0.0
        self.lengths = True
        self.token = ""
        self.strangers: list[str | None] = []
        self.port, self.address = 0, ""

    def etag(self, name: str) -> str:
        """As the hub has it: SHA-256 for large files, git's hash for small ones."""
        data = self.files[name]
        if name in self.told:
            return self.told[name]
        if name.endswith(".json"):
            return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return hashlib.sha256(data).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def name(self) -> str | None:
            prefix = f"/some/model/resolve/{COMMIT}/"
            name = self.path.removeprefix(prefix)
            return name if self.path.startswith(prefix) and name in hub.files else None

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            name = self.name()
            if name is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = hub.files[name]
            shown = self.headers["Authorization"]
            if self.headers["Host"].startswith("localhost"):
                hub.strangers.append(shown)
            elif hub.token and shown != f"Bearer {hub.token}":
                self.send_response(401)
                self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            elif hub.token and name.endswith(".safetensors"):
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{hub.port}{self.path}")
                self.send_header("X-Linked-ETag", f'"{hub.etag(name)}"')
                self.send_header("X-Linked-Size", str(len(data)))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
            self.send_response(206 if start else 200)
            if hub.lengths or not body:
                self.send_header("Content-Length", str(len(data) - start))
            else:
                self.send_header("Connection", "close")
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", f'"{hub.etag(name)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if not body:
                return
            if name.endswith(".safetensors"):
                hub.ranges.append(start)
            cut = hub.cut_after.pop(0) if hub.cut_after and len(data) > 1000 else len(data)
            for at in range(start, min(start + cut, len(data)), 100_000):
                self.wfile.write(data[at : min(at + 100_000, start + cut, len(data))])
                self.wfile.flush()
                time.sleep(hub.slow)
            if cut < len(data):
                self.close_connection = True
                self.connection.close()

        def log_message(self, *_: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None: ...  # a client that was killed is no news

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.port = server.server_port
    hub.address = f"http://127.0.0.1:{hub.port}"
    yield hub
    server.shutdown()
    server.server_close()


def write_catalogue(folder: Path, sha256: str | None = None, size: int = len(BIG)) -> Path:
    def file(name: str, **more: object) -> dict:
        common = {"repository": "some/model", "revision": COMMIT, "file": name, "to": name}
        return {**common, "bytes": 10, "sha256": None, **more}

    files = [file("tokenizer/vocab.json"), file("weights.safetensors", bytes=size, sha256=sha256)]
    card = {"schema": 1, "name": "some"}
    path = folder / "catalogue.json"
    path.write_text(json.dumps({"models": [{"name": "some", "card": card, "files": files}]}))
    return path


def start(hub: Hub, catalogue: Path, models: Path, **more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "animatic.server", "download", "some"]
    command += ["--catalogue", str(catalogue), "--models", str(models), "--watch-stdin"]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(models / "home"), **more},
    )


def finish(process: subprocess.Popen[str]) -> list[dict]:
    with process:
        assert process.stdout is not None
        told = [line.removeprefix("@animatic ") for line in process.stdout]
    return [json.loads(line) for line in told]


@pytest.mark.parametrize("lengths", [True, False])
def test_resumes_after_cuts_and_checks_the_whole(hub: Hub, tmp_path: Path, lengths: bool) -> None:
    hub.cut_after, hub.lengths = [1_200_000, 1_500_000], lengths
    catalogue = write_catalogue(tmp_path, hashlib.sha256(BIG).hexdigest())
    events = finish(start(hub, catalogue, tmp_path / "models"))
    folder = tmp_path / "models" / "some"
    assert events[-1] == {"folder": str(folder)}
    assert (folder / "weights.safetensors").read_bytes() == BIG
    assert (folder / "tokenizer" / "vocab.json").read_bytes() == SMALL
    assert json.loads((folder / "animatic.json").read_text())["name"] == "some"
    assert len(list(folder.rglob("*"))) == 4  # three files, one folder, no rest
    # each connection went on where the last one was cut; in whole blocks where that was noticed
    assert hub.ranges == ([0, 1 << 20, 2 << 20] if lengths else [0, 1_200_000, 2_700_000])
    done = [event["done"] for event in events if event.get("phase") == "download"]
    assert done == sorted(done)
    asked = len(hub.ranges)
    assert finish(start(hub, catalogue, tmp_path / "models")) == [{"folder": str(folder)}]
    assert len(hub.ranges) == asked


def largest(parts: Path) -> int:
    """Bytes of the largest file in the making; one may be finished and renamed at any moment."""
    sizes = [0]
    for part in parts.glob("*.incomplete"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(part.stat().st_size)
    return max(sizes)


@pytest.mark.parametrize("end", ["kill", "stdin"])
def test_goes_on_in_the_next_run(hub: Hub, tmp_path: Path, end: str) -> None:
    hub.slow = 0.1
    catalogue, models = write_catalogue(tmp_path), tmp_path / "models"
    first = start(hub, catalogue, models)
    parts = models / ".part" / "some"
    deadline = time.monotonic() + 60
    while largest(parts) < 500_000:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if end == "kill":
        first.send_signal(signal.SIGTERM)
    else:
        assert first.stdin is not None
        first.stdin.close()
    first.wait(10)
    finish(first)
    assert not (models / "some").exists()
    (part,) = parts.glob("*.incomplete")
    had = part.stat().st_size
    hub.slow = 0.0
    assert "folder" in finish(start(hub, catalogue, models))[-1]
    assert hub.ranges == [0, had]
    assert (models / "some" / "weights.safetensors").read_bytes() == BIG


def test_only_one_download_at_a_time(hub: Hub, tmp_path: Path) -> None:
    hub.slow = 1.0
    catalogue, models = write_catalogue(tmp_path), tmp_path / "models"
    first = start(hub, catalogue, models)
    while not hub.ranges:
        assert first.poll() is None
        time.sleep(0.02)
    told = finish(start(hub, catalogue, models))[-1]
    assert "wait until it has finished" in told["error"]
    hub.slow = 0.0
    assert "folder" in finish(first)[-1]
    assert hub.ranges == [0]
    assert (models / "some" / "weights.safetensors").read_bytes() == BIG


def test_what_an_earlier_run_left_is_checked_again(hub: Hub, tmp_path: Path) -> None:
    parts = tmp_path / "models" / ".part" / "some"
    (parts / "tokenizer").mkdir(parents=True)
    (parts / "tokenizer" / "vocab.json").touch()  # emptied by a power cut
    (parts / "weights.safetensors").write_bytes(BIG)
    (parts / f"{'0' * 64}.incomplete").write_bytes(b"of an older catalogue")
    assert "folder" in finish(start(hub, write_catalogue(tmp_path), tmp_path / "models"))[-1]
    folder = tmp_path / "models" / "some"
    assert (folder / "tokenizer" / "vocab.json").read_bytes() == SMALL
    assert (folder / "weights.safetensors").read_bytes() == BIG
    assert hub.ranges == []  # what was right has been kept
    assert len(list(folder.rglob("*"))) == 4


def test_the_token_is_for_the_hub_alone(hub: Hub, tmp_path: Path) -> None:
    hub.token = "right"
    catalogue, models = write_catalogue(tmp_path), tmp_path / "models"
    refused = finish(start(hub, catalogue, models, HF_TOKEN="wrong"))[-1]
    assert "correct or unset HF_TOKEN" in refused["error"]
    assert "folder" in finish(start(hub, catalogue, models, HF_TOKEN="right"))[-1]
    assert hub.strangers == [None]


@pytest.mark.parametrize("fault", ["content", "catalogue", "unnamed", "gone", "disk"])
def test_refuses_and_leaves_nothing(hub: Hub, tmp_path: Path, fault: str) -> None:
    catalogue = write_catalogue(tmp_path)
    if fault == "content":
        hub.told["weights.safetensors"] = hashlib.sha256(b"other").hexdigest()
        words = "checksum is wrong, and it was thrown away"
    elif fault == "catalogue":
        catalogue = write_catalogue(tmp_path, hashlib.sha256(b"other").hexdigest())
        words = "another weights.safetensors than Animatic knows"
    elif fault == "unnamed":
        hub.told["weights.safetensors"] = "W/abc"
        words = "does not tell the checksum"
    elif fault == "gone":
        del hub.files["weights.safetensors"]
        words = "does not have some any more"
    else:
        catalogue = write_catalogue(tmp_path, size=10**16)
        words = "needs 10000000.2 GB more"
    told = finish(start(hub, catalogue, tmp_path / "models"))[-1]
    assert words in told["error"]
    assert not (tmp_path / "models" / "some").exists()
    assert not list((tmp_path / "models").rglob("*.incomplete"))
    assert not list((tmp_path / "models").rglob("weights.safetensors"))


def test_a_hub_that_is_away_is_told_in_a_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.address = "http://127.0.0.1:9"
    told = finish(start(hub, write_catalogue(tmp_path), tmp_path / "models"))[-1]
    assert "does not answer" in told["error"]
    assert "check the network connection" in told["error"]
    offline = start(hub, write_catalogue(tmp_path), tmp_path / "models", HF_HUB_OFFLINE="1")
    assert "by HF_HUB_OFFLINE" in finish(offline)[-1]["error"]


def test_the_add_on_downloads_cancels_and_goes_on(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("ANIMATIC_DATA", str(tmp_path / "data"))
    python, models, catalogue = Path(sys.executable), tmp_path / "models", write_catalogue(tmp_path)

    def download(online: bool = True) -> ModelDownload:
        return ModelDownload(
            "some", online=online, models=models, python=python, catalogue=catalogue
        )

    with pytest.raises(AnimaticError, match="Allow Online Access"):
        download(online=False).run(print)
    hub.slow = 0.1
    first, events = download(), []

    def on_event(event: dict) -> None:
        events.append(event)
        if event["done"] >= 1:
            first.cancel()

    part = models / "some" / "controlnet_depth" / "config.json"  # was downloaded before
    part.parent.mkdir(parents=True)
    part.write_text("{}")
    with pytest.raises(Cancelled):
        first.run(on_event)
    assert [path.name for path in (models / "some").iterdir()] == ["controlnet_depth"]
    hub.slow = 0.0
    assert download().run(events.append) == models / "some"
    assert len(hub.ranges) == 2
    assert hub.ranges[1] >= 1 << 20
    assert part.is_file()
    assert (models / "some" / "weights.safetensors").read_bytes() == BIG
    hub.told["weights.safetensors"] = "nonsense"
    with pytest.raises(AnimaticError, match="does not tell the checksum"):
        ModelDownload(
            "some", online=True, models=tmp_path / "other", python=python, catalogue=catalogue
        ).run(print)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("ANIMATIC_DATA", str(tmp_path))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from animatic.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "models", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    rows = json.loads(run("--json").stdout)
    assert {row["name"]: row["installed"] for row in rows} == {
        "blockout-mini": True,
        "sd15-animatediff-v3": False,
        "sd15-depth": False,
        "sd15-image-prompt": False,
    }
    assert "animatic models download sd15-depth" in run().stdout
    away = run("download", "sd15-depth")
    assert away.returncode == 1
    assert "does not answer" in away.stderr
    assert "has no model 'x'" in run("download", "x").stderr
