"""The output folder: nothing half-written, nothing lost, and takes that can be read back."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.request import canonical_json, request_hash
from animatic.blender_addon.shot.take_folder import OutputFolder, load_take


def fill(folder: OutputFolder, text: str = "new", takes: int = 2, frames: int = 2) -> None:
    """Write what a run writes."""
    (folder.staging / "guides").mkdir()
    for name in ("depth_0001.png", "contact_sheet.png"):
        (folder.staging / "guides" / name).write_text(f"{text} {name}")
    guide = hashlib.sha256(f"{text} depth_0001.png".encode()).hexdigest()
    request = {
        "schema": 1,
        "prompt": text,
        "controls": [{"guide": "depth", "keyframes": [{"clip_frame": 0, "sha256": guide}]}],
    }
    (folder.staging / "request.json").write_bytes(canonical_json(request))
    (folder.staging / "shot.blend").write_text(text)
    for index in range(takes):
        take = folder.take(index)
        (take / "frames").mkdir()
        for k in range(frames):
            (take / "frames" / f"{k + 1:04d}.png").write_text(f"{text} {index} {k}")
        content = {"schema": 1, "seed": index, "request_sha256": request_hash(request)}
        (take / "take.json").write_text(json.dumps(content))


def run(out: Path, **options: object) -> Path:
    folder = OutputFolder.prepare(out, **options.pop("prepare", {}))
    fill(folder, **options)
    return folder.publish()


def tree(folder: Path) -> dict[str, str]:
    """Everything under ``folder``, hidden or not: contents of files, "" for folders."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def test_nothing_has_its_final_name_before_publish(tmp_path):
    out = tmp_path / "a" / "b" / "shot"
    folder = OutputFolder.prepare(out)
    fill(folder)
    assert not out.exists()
    # Beside the output folder: paths relative to shot.blend stay true.
    assert folder.staging.parent == out.parent
    assert folder.staging.name.startswith(".")
    assert folder.publish() == out
    assert [path.name for path in out.parent.iterdir()] == ["shot"]
    assert (out / "take-02" / "frames" / "0002.png").read_text() == "new 1 1"
    mask = os.umask(0)
    os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o777 & ~mask
    folder.discard()
    assert (out / "take.json").is_file()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    def until_full():
        with OutputFolder.prepare(tmp_path / "shot") as folder:
            fill(folder)
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ShotError, match="shot cannot be written: No space left"):
        until_full()
    assert tree(tmp_path) == {}


def test_discard_leaves_everything_as_it_was(tmp_path):
    folder = OutputFolder.prepare(tmp_path / "a" / "b" / "shot")
    fill(folder)
    folder.discard()
    folder.discard()
    assert tree(tmp_path) == {}
    run(tmp_path / "shot")
    before = tree(tmp_path)
    folder = OutputFolder.prepare(tmp_path / "shot", force=True)
    fill(folder, "other")
    folder.discard()
    assert tree(tmp_path) == before


def test_a_take_is_refused_with_the_next_free_name(tmp_path):
    out = run(tmp_path / "shot")
    run(tmp_path / "shot-2")
    before = tree(tmp_path)
    with pytest.raises(ShotError, match=r"already holds a take.*shot-3, .*--force"):
        OutputFolder.prepare(out)
    assert tree(tmp_path) == before


def test_other_files_in_the_folder_are_kept(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "notes.txt").write_text("mine")
    (tmp_path / "scene.blend").write_text("mine")
    run(tmp_path)
    assert (tmp_path / "frames" / "notes.txt").read_text() == "mine"
    run(tmp_path, prepare={"force": True}, text="second", takes=1, frames=1)
    assert tree(tmp_path) == {
        "frames": "",
        "frames/0001.png": "second 0 0",
        "frames/notes.txt": "mine",
        "guides": "",
        "guides/contact_sheet.png": "second contact_sheet.png",
        "guides/depth_0001.png": "second depth_0001.png",
        "request.json": (tmp_path / "request.json").read_text(),
        "scene.blend": "mine",
        # What the artist may have changed in it is kept as Blender keeps it.
        "shot.blend": "second",
        "shot.blend1": "new",
        "take.json": (tmp_path / "take.json").read_text(),
    }


@pytest.mark.parametrize("force", [False, True])
def test_files_with_our_names_that_are_not_ours_are_never_replaced(tmp_path, force):
    (tmp_path / "shot.blend").write_text("mine")
    with pytest.raises(ShotError, match=r"holds shot\.blend.*not from Animatic"):
        OutputFolder.prepare(tmp_path, force=force)
    assert tree(tmp_path) == {"shot.blend": "mine"}


def test_force_never_replaces_the_file_that_is_rendered(tmp_path):
    out = run(tmp_path / "shot")
    with pytest.raises(ShotError, match=r"shot\.blend lies in .*shot-2"):
        OutputFolder.prepare(out, force=True, source=out / "shot.blend")


def test_a_failure_while_publishing_is_rolled_back(tmp_path):
    out = run(tmp_path / "shot", takes=1)
    # A file of the artist's where the new run needs a folder.
    (out / "take-02").write_text("mine")
    before = tree(tmp_path)
    folder = OutputFolder.prepare(out, force=True)
    fill(folder, "other")
    with pytest.raises(ShotError, match="could not be moved"):
        folder.publish()
    folder.discard()
    assert tree(tmp_path) == before


def test_two_runs_at_once_both_keep_their_takes(tmp_path):
    first = OutputFolder.prepare(tmp_path / "shot")
    second = OutputFolder.prepare(tmp_path / "shot")
    fill(first, "first")
    fill(second, "second")
    assert first.publish() == tmp_path / "shot"
    assert second.publish() == tmp_path / "shot-2"
    assert (tmp_path / "shot" / "shot.blend").read_text() == "first"
    assert (tmp_path / "shot-2" / "shot.blend").read_text() == "second"


def test_a_number_is_given_when_a_run_begins_and_a_later_one_if_another_has_it_at_the_end(tmp_path):
    asked = tmp_path / "shot_###"
    (tmp_path / "shot_002").mkdir()  # not a run's, and not touched either
    first, second = OutputFolder.prepare(asked), OutputFolder.prepare(asked)
    fill(first, "first")
    fill(second, "second")
    assert second.publish() == tmp_path / "shot_001"
    assert run(asked, text="third") == tmp_path / "shot_003"
    assert first.publish() == tmp_path / "shot_004"
    assert (tmp_path / "shot_004" / "shot.blend").read_text() == "first"
    assert not list((tmp_path / "shot_002").iterdir())
    # A number that somebody names is his.
    with pytest.raises(ShotError, match=r"shot_001 already holds a take.*shot_001-2"):
        OutputFolder.prepare(tmp_path / "shot_001")


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ShotError, match="is a file"):
        OutputFolder.prepare(tmp_path / "file")
    with pytest.raises(ShotError, match="cannot be written: Not a directory"):
        OutputFolder.prepare(tmp_path / "file" / "shot")
    with pytest.raises(ShotError, match="cannot be written: File name too long"):
        OutputFolder.prepare(tmp_path / "a" / ("x" * 300))
    assert tree(tmp_path) == {"file": ""}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a read-only file system")
def test_a_read_only_place_is_a_sentence_for_root_too():
    with pytest.raises(ShotError, match=r"The output folder /proc/shot cannot be written"):
        OutputFolder.prepare(Path("/proc/shot"))


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write anywhere")
def test_folders_without_permission(tmp_path):
    for out in (tmp_path / "closed", tmp_path / "closed" / "shot"):
        (tmp_path / "closed").mkdir(exist_ok=True)
        (tmp_path / "closed").chmod(0o500)
        with pytest.raises(ShotError, match="Permission denied"):
            OutputFolder.prepare(out)


def test_next_free_counts_on(tmp_path):
    assert OutputFolder.next_free(tmp_path / "shot").name == "shot-2"
    (tmp_path / "shot-2").mkdir()
    assert OutputFolder.next_free(tmp_path / "shot").name == "shot-3"
    assert OutputFolder.next_free(tmp_path / "shot-2").name == "shot-3"
    out = run(tmp_path / "run")
    assert OutputFolder.next_free(out / "take-02") == tmp_path / "run-2"


def test_takes_and_requests_are_read_back(tmp_path):
    out = run(tmp_path / "shot")
    for index, folder in enumerate((out, out / "take-02")):
        take, request, guides = load_take(folder / "take.json")
        assert take["seed"] == index
        assert request["prompt"] == "new"
        assert list(guides.values()) == [out / "guides" / "depth_0001.png"]
    assert load_take(out / "request.json")[0] is None


def test_pictures_of_the_artists_own_are_read_back(tmp_path):
    out = run(tmp_path / "shot")
    files = {"reference.jpg": b"r", "first.png": b"f"}
    for name, content in files.items():
        (out / "guides" / name).write_bytes(content)
    reference, first = (hashlib.sha256(content).hexdigest() for content in files.values())
    request = json.loads((out / "request.json").read_text())
    request["image_prompt"] = {"sha256": reference, "scale": 1.0}
    request["sampling"] = {"first_frame": {"sha256": first, "share": True}}
    (out / "request.json").write_bytes(canonical_json(request))
    guides = load_take(out / "request.json")[2]
    assert guides[reference].name == "reference.jpg"
    assert guides[first].name == "first.png"
    (out / "guides" / "first.png").unlink()
    with pytest.raises(ShotError, match=r"first picture is not in .* any more"):
        load_take(out / "request.json")
    # They are a run's own: the next one with --force takes them away.
    run(out, prepare={"force": True})
    assert not (out / "guides" / "reference.jpg").exists()


def test_missing_and_changed_files_are_named(tmp_path):
    out = run(tmp_path / "shot")
    take, request, guide = out / "take.json", out / "request.json", out / "guides/depth_0001.png"
    original = {path: path.read_bytes() for path in (take, request, guide)}

    def refused(path: Path, content: bytes | None, match: str) -> None:
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(ShotError, match=match):
            load_take(take)
        path.write_bytes(original[path])

    refused(take, None, r"There is no file .*take\.json")
    refused(take, b"{", "is damaged")
    refused(take, b"[]", "neither a take nor a request")
    refused(take, b'{"schema": 2}', "version 2.*update")
    refused(request, None, r"no request\.json beside it")
    changed = canonical_json({**json.loads(original[request]), "prompt": "x"})
    refused(request, changed, r"request\.json has changed since")
    refused(guide, None, r"depth_0001\.png is missing")
    refused(guide, b"x", r"depth_0001\.png has changed")
    assert load_take(take)[0]["seed"] == 0
