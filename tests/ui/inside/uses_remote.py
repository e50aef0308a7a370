"""An engine elsewhere, by TLS and through an SSH tunnel: asked how it is, and a job to its end.

As ``uses_remote.py ZIP SCRATCH TOKEN TLS_ADDRESS CERTIFICATE [TUNNEL_ADDRESS]``.
"""

import os
import sys

import bpy
import harness

TOKEN, TLS, CERTIFICATE, *TUNNEL = sys.argv[3:]


def check(address: str, token: str = TOKEN) -> tuple[str, str]:
    """Press Check Connection; returns the state's word and the sentence."""
    chosen.remote_address, chosen.remote_token = address, token
    assert bpy.ops.animatic.engine_check_remote() == {"FINISHED"}
    return control.remote_state.value, control.remote_message


def generate() -> None:
    """A job to its end, with the strip on the frames of the shot."""
    scenes = [scene.name for scene in bpy.data.scenes]
    assert bpy.ops.animatic.generate() == {"FINISHED"}
    made = [scene for scene in bpy.data.scenes if scene.name not in scenes]
    edit = made[0] if made else bpy.data.scenes["Scene Edit"]
    newest = max(edit.sequence_editor.strips, key=lambda strip: strip.channel)
    assert len(newest.elements) == 24
    assert (session.status().folder / "video.mp4").is_file()


with harness.extension() as session:
    control = harness.module("ui.preferences").control
    chosen = bpy.context.preferences.addons[harness.MODULE].preferences
    chosen.engine_where = "remote"
    path = harness.save_scene("shot.blend")
    settings = bpy.context.scene.animatic
    settings.use_steps, settings.steps = True, 2
    bpy.ops.wm.save_mainfile(filepath=str(path))
    before = path.read_bytes()

    # nobody is trusted who cannot show who he is
    state, sentence = check(TLS)
    assert state == "Failed"
    assert "certificate that this machine does not trust" in sentence, sentence
    assert "does not trust" in harness.refusal()
    os.environ["SSL_CERT_FILE"] = CERTIFICATE

    state, sentence = check(TLS, "x" * 30)
    assert state == "Failed"
    assert "token" in sentence, sentence
    assert "token" in harness.refusal()

    state, sentence = check(TLS)
    assert state == "Ready", sentence
    assert "blockout-mini" in sentence
    generate()
    for address in TUNNEL:
        state, sentence = check(address)
        assert state == "Ready", sentence
        generate()
    assert path.read_bytes() == before
print("DONE")
