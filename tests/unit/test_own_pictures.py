"""Reference and first picture: fitted to the clip, named by content, refused in sentences."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from animatic.blender_addon.shot.errors import ShotError
from animatic.blender_addon.shot.own_pictures import OwnPictures, fit, rgb8
from animatic.blender_addon.shot.png import read_png, write_png


def test_a_picture_is_fitted_by_its_middle():
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    assert fit(noise, 40, 24) is noise
    for width, height in ((8, 8), (16, 24), (64, 8), (80, 96)):
        flat = fit(np.full((24, 40, 3), 77, np.uint8), width, height)
        assert flat.shape == (height, width, 3)
        assert (flat == 77).all()
    # The left and right ends fall off; what is there stays where it is.
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = 200
    assert (fit(wide, 16, 16) == 200).all()
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:16] = (255, 0, 100)
    small = fit(halves, 8, 8).astype(int)
    assert (small[:3] == (255, 0, 100)).all()
    assert (small[5:] == 0).all()
    # Fine stripes become their mean, not a pattern of their own.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(fit(stripes, 16, 16)[:, 1:-1].astype(int) - 100).max() <= 2


def test_every_kind_of_png_becomes_rgb():
    deep = np.full((2, 3), 65535, np.uint16)
    assert (rgb8(deep) == 255).all()
    assert rgb8(np.zeros((2, 3, 4), np.uint8)).shape == (2, 3, 3)
    assert rgb8(np.zeros((2, 3, 2), np.uint8)).shape == (2, 3, 3)


def test_what_the_request_holds(tmp_path):
    photo, first = tmp_path / "photo", tmp_path / "first.PNG"
    photo.write_bytes(b"\xff\xd8\xff the rest")
    write_png(first, np.full((10, 30), 9, np.uint8))
    pictures = OwnPictures(reference=photo, scale=1, first=first)
    pictures.check()
    folder = tmp_path / "guides"
    folder.mkdir()
    placed = pictures.place(folder, 16, 8)
    assert [path.name for path in placed.files] == ["reference.jpg", "first.png"]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in placed.files]
    assert placed.request == {"image_prompt": {"sha256": hashes[0], "scale": 1.0}}
    assert placed.sampling == {"first_frame": {"sha256": hashes[1], "share": True}}
    assert placed.files[0].read_bytes() == photo.read_bytes()
    assert read_png(placed.files[1]).shape == (8, 16, 3)
    nothing = OwnPictures().place(folder, 16, 8)
    assert not nothing.files
    assert not nothing.request
    assert not nothing.sampling


def test_what_cannot_be_used_is_a_sentence(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("x")
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8\xff")
    for asked, sentence in (
        (OwnPictures(reference=text), "neither PNG nor JPEG"),
        (OwnPictures(reference=tmp_path / "no.png"), "cannot be read: No such file"),
        (OwnPictures(reference=photo, scale=float("nan")), "scale is nan: set it from 0 to 2"),
        (OwnPictures(first=photo), "is no PNG"),
    ):
        with pytest.raises(ShotError, match=sentence):
            asked.check()
