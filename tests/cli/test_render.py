"""``animatic render`` and ``generate`` as an artist runs them: real Blender, real engine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from .conftest import command, run


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def rendered(scenes, models, tmp_path_factory):
    """One finished run with two takes, which several tests look at."""
    out = tmp_path_factory.mktemp("run") / "shot"
    scene = scenes()
    before = digest(scene)
    result = run(
        "render", scene, "--prompt", "a red box", "--model", "tiny", "--models", models,
        "--steps", 2, "--takes", 2, "--seed", 7, "--out", out, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert digest(scene) == before
    return out, result


def test_render_leaves_a_whole_take(rendered):
    out, result = rendered
    summary = result.summary
    frames = summary["shot"]["clip"]["frames"]
    assert summary["files"] == sorted(
        str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()
    )
    for folder in (out, out / "take-02"):
        names = [path.name for path in sorted((folder / "frames").iterdir())]
        assert names == [f"{n:04d}.png" for n in range(1, frames + 1)]
        assert (folder / "video.mp4").stat().st_size > 0
        take = json.loads((folder / "take.json").read_text())
        assert take["frames"] == [digest(p) for p in sorted((folder / "frames").iterdir())]
    assert [take["seed"] for take in summary["takes"]] == [7, 8]
    assert (out / "shot.blend").is_file()
    assert (out / "guides" / "contact_sheet.png").is_file()
    assert [k["asked"] for k in summary["keyframes"]] == ["1", "12", "24"]
    assert len(summary["shot"]["frame_map"]) == 24
    assert summary["depth"]["near"] < summary["depth"]["far"]
    # A frame belongs to one take: nothing hidden is left beside the output folder.
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_where_nobody_chose_keyframes_the_models_card_does(scenes, tmp_path):
    result = run(
        "render", scenes("no_keys"), "--model", "blockout-mini", "--guides-only", "--json",
        "--prompt", "a red robot", "--out", tmp_path / "shot",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert result.err.startswith('This model has never read "robot".')
    guides = [path.name for path in (tmp_path / "shot" / "guides").glob("depth_*.png")]
    assert len(guides) == result.summary["shot"]["clip"]["frames"] == 8


def test_a_take_is_replayed_to_the_same_bits(rendered, models, tmp_path):
    """A later one; test_in_between_and_steadied_frames replays a first."""
    folder, again = rendered[0] / "take-02", tmp_path / "again"
    result = run("generate", folder / "take.json", "--models", models, "--out", again)
    assert result.code == 0, result.err
    for frame in (folder / "frames").iterdir():
        assert digest(again / "frames" / frame.name) == digest(frame)


def test_an_earlier_take_is_never_overwritten(rendered, scenes, models):
    out, _ = rendered
    before = {path: digest(path) for path in out.rglob("*") if path.is_file()}
    result = run(
        "render", scenes(), "--prompt", "x", "--model", "tiny", "--models", models, "--out", out
    )
    assert result.code == 1
    assert "--force" in result.err
    assert {path: digest(path) for path in out.rglob("*") if path.is_file()} == before


def processes_of(folder: Path) -> dict[int, str]:
    """Processes whose command lines name ``folder``, by process id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found[int(entry.name)] = line
    return found


@pytest.fixture
def long_run(scenes, models, tmp_path):
    """Start a run that takes long; return it, its own models folder and its output folder."""
    own, out = tmp_path / "models", tmp_path / "out" / "shot"
    shutil.copytree(models, own)
    arguments = ["render", scenes(), "--prompt", "x", "--model", "tiny", "--models", own]
    process = subprocess.Popen(
        command(*arguments, "--steps", 150, "--out", out),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.set_blocking(process.stderr.fileno(), False)
    yield process, own, out
    process.kill()
    process.wait()


def wait_for(process: subprocess.Popen, phase: str) -> None:
    """Read the progress of ``process`` until it names ``phase``."""
    seen = b""
    deadline = time.monotonic() + 120
    while phase.encode() not in seen:
        assert time.monotonic() < deadline, seen
        seen += process.stderr.read() or b""
        time.sleep(0.05)


@pytest.mark.parametrize("phase", ["guides", "sampling"])
def test_ctrl_c_leaves_nothing_behind(long_run, phase):
    process, own, out = long_run
    wait_for(process, phase)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not out.parent.exists()
    assert processes_of(own) == {}


@pytest.mark.parametrize("phase", ["guides", "sampling"])
def test_no_child_outlives_a_run_that_is_killed(long_run, phase):
    process, own, out = long_run
    wait_for(process, phase)
    scratch = [line for line in processes_of(process_scratch()).values() if "child.py" in line]
    assert scratch or phase == "sampling"
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while processes_of(own) or set(scratch) & set(processes_of(process_scratch()).values()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not out.exists()


def process_scratch() -> Path:
    return Path(tempfile.gettempdir()) / "animatic-"


def test_an_engine_that_dies_is_told_in_a_sentence(long_run):
    process, own, out = long_run
    wait_for(process, "sampling")
    services = [pid for pid, line in processes_of(own).items() if "--watch-stdin" in line]
    for pid in services:
        os.kill(pid, signal.SIGKILL)
    assert len(services) == 1
    assert process.wait(timeout=60) == 1
    said = process.stderr.read().decode()
    assert "The engine has ended" in said
    assert "Traceback" not in said
    assert not out.parent.exists()
    assert processes_of(own) == {}


BAD_INPUT = {
    "no camera": (["no_camera"], "camera"),
    "no keyframes": (["no_keys"], "every:"),
    "nothing in view": (["empty"], "no surface"),
    "keyframes outside": (["plain", "--keyframes", "1,99"], "99"),
    "bad keyframes": (["plain", "--keyframes", "sometimes"], "sometimes"),
    "negative keyframes outside": (["plain", "--keyframes", "-9,99"], "-9"),
    "unknown model": (["plain", "--model", "no-such"], "no-such"),
    "a prompt for a model": (["plain", "--model", "a street of red towers, " * 20], "no model"),
    "nobody's model": (["plain", "--model", "~nobody-here/model"], "no model"),
    "empty prompt": (["plain", "--prompt", " "], "prompt"),
    "unknown shot": (["plain", "--shot", "7"], "7"),
    "too many frames": (["plain", "--frames", "500"], "500"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_with_a_sentence(scenes, models, tmp_path, case):
    (variant, *more), word = BAD_INPUT[case]
    out = tmp_path / "shot"
    result = run(
        "render", scenes(variant), "--prompt", "x", "--model", "tiny", "--models", models,
        "--steps", 1, "--out", out, *more,
    )  # fmt: skip
    assert result.code == 1, result.err
    assert word in result.err
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_scenes(tmp_path, models):
    broken = tmp_path / "broken.blend"
    for content in (b"not a blend file", b"BLENDER-v999" + b"\0" * 64, b""):
        broken.write_bytes(content)
        result = run(
            "render", broken, "--prompt", "x", "--model", "tiny", "--models", models,
            "--out", tmp_path / "shot",
        )  # fmt: skip
        assert result.code == 1
        assert "broken.blend" in result.err
        assert "Traceback" not in result.err


def test_a_damaged_model_is_named(scenes, models, tmp_path):
    shutil.copytree(models / "tiny", tmp_path / "models" / "tiny")
    weights = next((tmp_path / "models" / "tiny" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    result = run(
        "render", scenes(), "--prompt", "x", "--model", "tiny", "--models", tmp_path / "models",
        "--out", tmp_path / "shot",
    )  # fmt: skip
    assert result.code == 1
    assert weights.name in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "shot").exists()


def test_a_port_in_use_is_named(scenes, models, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(
            "render", scenes(), "--prompt", "x", "--model", "tiny", "--models", models,
            "--port", port, "--out", tmp_path / "shot",
        )  # fmt: skip
    assert result.code == 1
    assert str(port) in result.err


def test_guides_only_starts_no_engine(scenes, models, tmp_path):
    out = tmp_path / "shot"
    result = run(
        "render", scenes(), "--guides-only", "--guide", "lineart", "--model", "tiny",
        "--models", models, "--out", out, "--engine-python", "/no/such/python", "--json",
        "--also", "depth@0.5:1,24",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert {path.name for path in out.iterdir()} == {"guides"}
    assert len(list((out / "guides").glob("lineart_*.png"))) == 3
    assert len(list((out / "guides").glob("depth_*.png"))) == 2
    assert "Also depth guides: 1 on clip frame 1; 24 on clip frame" in result.err


def test_in_between_and_steadied_frames_and_again_in_a_replay(scenes, models, tmp_path):
    out, again = tmp_path / "shot", tmp_path / "again"
    result = run(
        "render", scenes(), "--prompt", "a box", "--model", "tiny", "--models", models, "--steps",
        1, "--range", "1:10", "--near", 2, "--in-between", "--deflicker", "--out", out, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    summary = result.summary
    assert summary["shot"]["in_between"] is True
    assert summary["shot"]["guide_settings"] == {"near": 2.0}
    assert summary["depth"]["near"] == 2.0
    request = json.loads((out / "request.json").read_text())
    assert request["shot"]["in_between"] is True
    ends = [(each["clip_frame"], each["to"]) for each in request["deflicker"]]
    assert ends == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
    take = json.loads((out / "take.json").read_text())
    assert take["in_between"] == {"frames": "frames-24", "video": "video-24.mp4"}
    assert (out / "video-24.mp4").stat().st_size > 0
    made = {path.name: digest(path) for path in (out / "frames-24").iterdir()}
    assert sorted(made) == [f"{n:04d}.png" for n in range(1, 11)]
    own = [digest(path) for path in sorted((out / "frames").iterdir())]
    # Clip frames at 8 per second lie on every third scene frame.
    assert [made[f"{n:04d}.png"] for n in (1, 4, 7, 10)] == own
    assert len(set(made.values())) == 10
    strip = (
        "import bpy, sys; bpy.ops.wm.open_mainfile(filepath=sys.argv[1]); print([e.filename"
        " for s in bpy.data.scenes if s.sequence_editor for strip in s.sequence_editor.strips"
        " for e in strip.elements])"
    )
    told = subprocess.run(
        [sys.executable, "-c", strip, out / "shot.blend"], capture_output=True, text=True
    )
    assert str(sorted(made)) in told.stdout
    replay = run("generate", out / "take.json", "--models", models, "--out", again)
    assert replay.code == 0, replay.err
    assert {path.name: digest(path) for path in (again / "frames-24").iterdir()} == made
    for folder in ("motion", "deflicker"):
        shutil.rmtree(again / "guides" / folder)
        refused = run("generate", again / "take.json", "--models", models, "--out", tmp_path / "no")
        assert refused.code == 1
        assert "otion" in refused.err
        assert "render the scene again" in refused.err
    assert not (tmp_path / "no").exists()
