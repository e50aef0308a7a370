"""Guides become conditions as SparseCtrl wants them."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animatic.engine.conditions import build_condition, frame_strengths, read_guide
from animatic.engine.run import Engine, EngineError
from PIL import Image

from .conftest import FRAMES, SIZE, Guides

CLIP = {"width": SIZE, "height": SIZE, "frames": FRAMES}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def build(engine: Engine, guides: Guides, control: dict[str, Any]) -> Any:
    return build_condition(engine._parts, control, guides, CLIP)


@pytest.mark.parametrize(
    ("kind", "channels", "side"), [("depth", 3, SIZE), ("lineart", 3, SIZE), ("render", 4, 4)]
)
def test_frames_without_a_keyframe_are_zero_with_mask_zero(
    engine: Engine, guides: Guides, kind: str, channels: int, side: int
) -> None:
    made = build(engine, guides, guides.control(kind, {3: 1.0, 1: 1.0}))
    assert made.values.shape == (1, channels, FRAMES, side, side)
    assert made.mask.shape == (1, 1, FRAMES, side, side)
    assert made.mask.flatten(3).amin(3).flatten().tolist() == [0, 1, 0, 1]
    assert made.mask.flatten(3).amax(3).flatten().tolist() == [0, 1, 0, 1]
    assert not made.values[:, :, [0, 2]].any()
    assert made.values[:, :, 1].any()
    assert made.values[:, :, 3].any()


def test_depth_codes_keep_their_sixteen_bits(guides: Guides) -> None:
    codes = np.linspace(0, 65535, SIZE * SIZE).round().astype(np.uint16).reshape(SIZE, SIZE)
    sha = guides.add("ramp.png", Image.fromarray(codes))
    values = read_guide("depth", sha, guides, SIZE, SIZE)
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])
    np.testing.assert_array_equal((values[0].double().numpy() * 65535).round(), codes)
    assert (values.min(), values.max()) == (0, 1)


def test_pictures_keep_their_orientation(guides: Guides) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    sha = guides.add("wide.png", Image.fromarray(pixels))
    values = read_guide("render", sha, guides, 16, 8)
    np.testing.assert_allclose(values.numpy() * 255, pixels.transpose(2, 0, 1), atol=1e-4)


def test_render_guides_are_encoded_the_same_way_every_time(engine: Engine, guides: Guides) -> None:
    control = guides.control("render", {0: 1.0})
    first = build(engine, guides, control)
    torch.rand(7)  # the global generator must not matter
    assert torch.equal(build(engine, guides, control).values, first.values)


def test_a_keyframe_of_strength_zero_is_as_if_never_set(engine: Engine, guides: Guides) -> None:
    with_zero = build(engine, guides, guides.control("depth", {0: 1.0, 2: 0.0}))
    without = build(engine, guides, guides.control("depth", {0: 1.0}))
    assert torch.equal(with_zero.values, without.values)
    assert torch.equal(with_zero.mask, without.mask)
    assert torch.equal(with_zero.strengths, without.strengths)


def test_strength_fades_from_keyframe_to_keyframe() -> None:
    curve = frame_strengths([1, 3], [1.0, 0.5], 2.0, 5)
    assert curve.tolist() == [2.0, 2.0, 1.5, 1.0, 1.0]


WRONG = {
    "eight-bit depth": ("depth", Image.new("L", (SIZE, SIZE)), "mode L; a depth guide is a 16-bit"),
    "gray render": ("render", Image.new("L", (SIZE, SIZE)), "a render guide is an 8-bit RGB PNG"),
    "another size": ("lineart", Image.new("L", (SIZE, 8)), "32x8 pixels and the clip is 32x32"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_guide_is_named(guides: Guides, name: str) -> None:
    kind, picture, sentence = WRONG[name]
    sha = guides.add(f"{name}.png", picture)
    with pytest.raises(EngineError, match=sentence) as caught:
        read_guide(kind, sha, guides, SIZE, SIZE)
    assert f"{name}.png" in str(caught.value)


def test_a_guide_that_claims_to_be_huge_is_named(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("I;16", (SIZE, SIZE)).save(path)
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 16, 0, 0, 0, 0)
    content = bytearray(path.read_bytes())
    content[12:33] = header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(content)
    sha = hashlib.sha256(content).hexdigest()
    with pytest.raises(EngineError, match=r"huge\.png cannot be read .* Render the guides again"):
        read_guide("depth", sha, {sha: path}, SIZE, SIZE)


def test_guides_that_show_nothing_are_refused_where_all_of_them_do(
    engine: Engine, guides: Guides
) -> None:
    codes = np.full((SIZE, SIZE), 700, np.uint16)
    sha256 = guides.add("one_shade.png", Image.fromarray(codes))
    flat = {"clip_frame": 0, "sha256": sha256, "strength": 1.0}
    control = {"guide": "depth", "strength": 1.0, "keyframes": [flat]}
    with pytest.raises(EngineError, match="show one shade and nothing else"):
        build(engine, guides, control)
    control["keyframes"] = [flat, guides.control("depth", {2: 1.0})["keyframes"][0]]
    assert build(engine, guides, control) is not None


def test_a_guide_that_changed_or_went_missing_is_named(guides: Guides) -> None:
    sha = guides.add("changed.png", Image.new("I;16", (SIZE, SIZE)))
    guides[sha].write_bytes(guides[sha].read_bytes()[:-20])
    with pytest.raises(EngineError, match=r"changed\.png is not the depth guide"):
        read_guide("depth", sha, guides, SIZE, SIZE)
    guides[sha].unlink()
    with pytest.raises(EngineError, match=f"depth guide {sha[:12]} is missing"):
        read_guide("depth", sha, guides, SIZE, SIZE)
