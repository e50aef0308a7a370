"""The engine is missing, of another protocol, killed, hung: Blender goes on and says what to do."""

import http.server
import json
import os
import signal
import threading
import time
from pathlib import Path

import bpy


class OtherProtocol(http.server.BaseHTTPRequestHandler):
    """An engine of a later Animatic."""

    def do_GET(self) -> None:
        """Answer whatever is asked."""
        sentence = "The engine speaks protocol 99, the add-on speaks 1: update the extension."
        body = json.dumps({"error": sentence, "protocol": 99})
        self.send_response(426)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def engine_processes() -> list[int]:
    """The processes of the engine that this Blender has started."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if os.environ["BLENDER_USER_RESOURCES"] in words and "server" in words:
            found.append(int(place.parent.name))
    return found


def steps(driver):
    settings = driver.settings
    bpy.ops.extensions.package_install_files(
        filepath=settings["zip"], repo="user_default", enable_on_install=True
    )
    yield 1.0
    bpy.ops.wm.open_mainfile(filepath=settings["blend"])
    yield 1.5
    yield from driver.open_tab()
    preferences = bpy.context.preferences.addons["bl_ext.user_default.animatic"].preferences
    session = driver.module("ui.session")
    mine = bpy.context.scene.animatic
    mine.prompt, mine.model, mine.quality = "a street", settings["model"], "final"
    gaps = []

    def alive() -> bool:
        now = time.monotonic()
        gaps.append(now - alive.last)
        alive.last = now
        return not session.busy()

    def ends_with(name, words, limit_s=90.0):
        alive.last = time.monotonic()
        yield from driver.until(alive, limit_s, name)
        status = session.status()
        assert status.state.value == "failed", (name, status)
        assert all(word in status.message for word in words), (name, status.message)
        assert bpy.ops.animatic.generate.poll(), "the next one can be started"
        yield 1.0
        yield from driver.picture(name)
        driver.tell(name=name, said=status.message)

    def samples():
        yield from driver.push("bpy.ops.animatic.generate(")
        yield from driver.until(
            lambda: session.status().phase.startswith("Sampling") or not session.busy(),
            180,
            "sampling",
        )
        assert session.busy(), session.status()

    preferences.engine_python = "/nowhere/python"
    yield from driver.push("bpy.ops.animatic.generate(")
    yield from ends_with("missing", ["/nowhere/python"])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherProtocol) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        preferences.engine_where = "remote"
        preferences.remote_address = f"http://127.0.0.1:{server.server_port}"
        preferences.remote_token = "token"
        yield from driver.push("bpy.ops.animatic.generate(")
        yield from ends_with("other_protocol", ["protocol 99", "update"])
        server.shutdown()
    preferences.engine_where = "local"

    preferences.engine_python = settings["engine"]
    yield from samples()
    for process in engine_processes():
        os.kill(process, signal.SIGKILL)
    yield from ends_with("killed", ["engine has ended", "Try again"])

    # a hung engine is noticed by its silence, and ended
    yield from samples()
    for process in engine_processes():
        os.kill(process, signal.SIGSTOP)
    yield from ends_with("hung", ["does not answer", "Start it again"])
    yield from driver.until(lambda: not engine_processes(), 20, "the hung engine is ended")
    driver.tell(slowest=max(gaps))
    # other work on a shared machine holds a window up at times
    assert max(gaps) < 5.0, max(gaps)
