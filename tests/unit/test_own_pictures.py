"""Reference and first picture: taken along as they are, named by content, refused in sentences."""

from __future__ import annotations

import hashlib

import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.own_pictures import OwnPictures


def test_what_the_request_holds(tmp_path):
    photo, first = tmp_path / "photo", tmp_path / "first.PNG"
    photo.write_bytes(b"\xff\xd8\xff the rest")
    first.write_bytes(b"RIFF\0\0\0\0WEBP")
    pictures = OwnPictures(reference=photo, scale=1, first=first, share=False)
    pictures.check()
    folder = tmp_path / "guides"
    folder.mkdir()
    placed = pictures.place(folder)
    # By what they are, not by what they are called.
    assert [path.name for path in placed.files] == ["reference.jpg", "first.webp"]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (photo, first)]
    assert placed.request == {"image_prompt": {"sha256": hashes[0], "scale": 1.0}}
    assert placed.sampling == {"first_frame": {"sha256": hashes[1], "share": False}}
    assert [path.read_bytes() for path in placed.files] == [photo.read_bytes(), first.read_bytes()]
    nothing = OwnPictures().place(folder)
    assert not nothing.files
    assert not nothing.request
    assert not nothing.sampling
    for asked, expected in (
        (OwnPictures(generate=True), {"generated": True, "share": True}),
        (OwnPictures(generate=True, first_seed=0), {"generated": True, "seed": 0, "share": True}),
    ):
        asked.check()
        assert asked.place(folder).sampling == {"first_frame": expected}


def test_what_cannot_be_used_is_a_sentence(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("x")
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8\xff")
    for asked, sentence in (
        (OwnPictures(reference=text), "neither PNG, JPEG"),
        (OwnPictures(first=text), "neither PNG, JPEG"),
        (OwnPictures(reference=tmp_path / "no.png"), "cannot be read: No such file"),
        (OwnPictures(reference=photo, scale=float("nan")), "scale is nan: set it from 0 to 2"),
        (OwnPictures(first=photo, generate=True), "choose either"),
        (OwnPictures(generate=True, first_seed=2**32), "seed 4294967296 is out of range"),
    ):
        with pytest.raises(ShotError, match=sentence):
            asked.check()
