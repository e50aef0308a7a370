"""A remote engine's models: suggested, found, estimated, and never waited for while drawing."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import bpy
import harness
import pytest

CARD = {
    "name": "far-away", "sha256": "a" * 64, "native": {"width": 512, "height": 512, "frames": 16,
    "fps": 8}, "guides": ["depth"], "defaults": {"steps": 25, "guidance": 8.0}, "lineart_width": 4,
}  # fmt: skip
let_go = threading.Event()


class Engine(BaseHTTPRequestHandler):
    """Says which models it has, once it is let go."""

    def do_GET(self) -> None:
        """Answer."""
        assert let_go.wait(20)
        body = json.dumps({"models": [CARD], "broken": []}).encode()
        self.send_response(200)
        self.send_header("X-Animatic-Protocol", "1")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Be quiet."""


with harness.extension():
    remote, errors = harness.module("ui.remote_models"), harness.module("errors")
    estimate, speeds = harness.module("ui.estimate"), harness.module("ui.speeds")
    properties = harness.module("ui.properties")
    harness.save_scene("shot.blend")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chosen = bpy.context.preferences.addons[harness.MODULE].preferences
    chosen.engine_where, chosen.remote_token = "remote", "secret"
    chosen.remote_address = f"http://127.0.0.1:{server.server_port}"
    settings = bpy.context.scene.animatic
    settings.model = "far-away"

    # the engine is slow: nothing waits for it
    began = time.monotonic()
    estimate.refresh()
    assert properties._suggest_models(settings, bpy.context, "") == []
    with pytest.raises(errors.AnimaticError, match="has not said yet"):
        remote.remote_models.find("far-away")
    assert time.monotonic() - began < 1
    assert estimate.current(bpy.context.scene).time == ""

    let_go.set()
    assert harness.module("ui.asked").find_model("far-away").native == 512
    assert properties._suggest_models(settings, bpy.context, "far") == ["far-away"]
    estimate.refresh()
    assert estimate.current(bpy.context.scene).time == "Time unknown"
    estimate.speeds().learn("far-away", "127.0.0.1", speeds.Speed("cuda", 10.0, 0.05, 0.0))
    estimate.refresh(anew=True)  # 25 steps of 8 frames, with guidance
    assert estimate.current(bpy.context.scene).time == "About 30 s", estimate.current(
        bpy.context.scene
    )
    with pytest.raises(errors.AnimaticError, match="It has: far-away"):
        remote.remote_models.find("near")
    server.shutdown()
    server.server_close()

    # it is gone, or its address is wrong: a sentence for whoever presses a button
    chosen.remote_address = "http://127.0.0.1:9"
    words = harness.refusal("guide_frames_suggest")
    assert "does not answer" in words, words
    estimate.refresh()
    assert estimate.current(bpy.context.scene).time == ""
print("DONE")
