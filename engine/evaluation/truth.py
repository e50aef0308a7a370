"""Held-out clips of which everything is known: pictures, guides, ids, flow, expected colours."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..deflicker import encode_motion
from ..training.arrangements import COLOURS, HELD_OUT_PAIRS
from ..training.captions import SHAPE_NAMES
from ..training.flow import Flow, optical_flow
from ..training.guides import render
from ..training.raycast import Scene, camera_rays, shade, trace
from ..training.scenes import Blockouts, make_blockouts

# Scenes that no training stage draws: the generator's other seeds are elsewhere.
HELD_OUT_SEED, BLENDER_SEED = 2_000_000, 2_000_001
# Streets and rooms are looked at in pictures: most of what is in them is walls, and of one colour.
PLACES = {"city": 0.15}
# Colours are looked at in every so many frames; in between they hardly change.
COLOUR_STRIDE = 5


@dataclass(frozen=True)
class KnownClip:
    """One held-out clip of F frames with its guides as the add-on would send them.

    ``guides`` maps a guide's name to one PNG (bytes) per frame. ``expected`` holds what frames 0,
    COLOUR_STRIDE, ... would look like under several suns, with all objects in one colour, for every
    colour name in order: neither caption nor guide says where the sun stands. The suns are the true
    one, the same turned about the vertical by 90, 180 and 270 degrees, and none at all, which is
    the shade. ``allowed`` marks every colour that the caption names for an object's shape, as it
    does not say which object of that shape has which; no colour where there is no object.
    ``unseen`` marks the objects whose colour and shape no training scene brings together.
    """

    name: str
    source: str  # "ray caster", or "Blender": where the guides come from
    caption: str
    pictures: Tensor  # [F, 3, h, w] in [0, 1]
    depth: Tensor  # [F, h, w] in [0, 1], 0: nothing there
    ident: Tensor  # [F, h, w], 0 the ground, object number + 1, -1 the sky
    flow: Flow  # of this one clip, with a batch dimension of 1
    expected: Tensor  # [suns, colours, ceil(F / COLOUR_STRIDE), 3, h, w], half precision: large
    allowed: Tensor  # [objects, colours] bool
    unseen: Tensor  # [objects] bool
    guides: dict[str, list[bytes]]

    def guide_files(self, guide: str, frames: Sequence[int], folder: Path) -> dict[int, Path]:
        """Write the guides of ``frames`` into ``folder``, each named by its SHA-256."""
        files = {}
        for frame in frames:
            content = self.guides[guide][frame]
            files[frame] = folder / f"{hashlib.sha256(content).hexdigest()}.png"
            files[frame].write_bytes(content)
        return files

    def motion_files(self, folder: Path) -> dict[tuple[int, int], Path]:
        """Write the motion from frame to frame into ``folder``, each named by its SHA-256; return
        the files by (frame, other frame).
        """
        files = {}
        flow = self.flow
        for k in range(flow.forward.shape[1]):
            for ends, way, seen in (
                ((k, k + 1), flow.forward, flow.forward_visible),
                ((k + 1, k), flow.backward, flow.backward_visible),
            ):
                content = encode_motion(way[0, k], seen[0, k].float())
                files[ends] = folder / f"{hashlib.sha256(content).hexdigest()}.png"
                files[ends].write_bytes(content)
        return files


def held_out_blockouts(count: int, frames: int, seed: int = HELD_OUT_SEED) -> Blockouts:
    """The first ``count`` scenes of a seed; a longer set begins with the shorter one."""
    return make_blockouts(seed, count, torch.linspace(0, 1, frames), PLACES, held_out=True)


def ray_cast_clips(count: int, frames: int, side: int, lineart_width: float) -> list[KnownClip]:
    """Held-out clips with guides of the ray caster."""
    blockouts = held_out_blockouts(count, frames)
    return [_known(blockouts, index, side, lineart_width) for index in range(count)]


def blender_clips(
    count: int, frames: int, side: int, lineart_width: float, folder: Path
) -> list[KnownClip]:
    """Other held-out clips, whose depth and line-art guides Blender has rendered.

    ``folder`` holds <clip name>/<guide>/<guide>_0001.png ... for all frames. Pictures, ids and flow
    are the ray caster's, of the same scenes. Line-art may be left out as a whole. Raises
    FileNotFoundError where a guide is missing.
    """
    blockouts = held_out_blockouts(count, frames, BLENDER_SEED)
    made = []
    for index in range(count):
        clip = _known(blockouts, index, side, lineart_width)
        # Its own look in Blender is not the one that was learned from.
        guides = {"render": clip.guides["render"]}
        for guide in ("depth", "lineart"):
            place = folder / clip.name / guide
            if guide == "lineart" and not place.is_dir():
                continue  # a quick run asks for depth alone
            names = [f"{guide}_{frame + 1:04d}.png" for frame in range(frames)]
            guides[guide] = [(place / name).read_bytes() for name in names]
        codes = [np.asarray(Image.open(io.BytesIO(content))) for content in guides["depth"]]
        depth = torch.from_numpy(np.stack(codes).astype(np.float32) / 65535)
        made.append(replace(clip, source="Blender", guides=guides, depth=depth))
    return made


def _known(blockouts: Blockouts, index: int, side: int, lineart_width: float) -> KnownClip:
    scene = blockouts.scene.select(slice(index, index + 1))
    words = blockouts.words[index]
    rendered = render(scene, side, lineart_width)
    codes = rendered.depth[0]
    allowed = torch.zeros(scene.kind.shape[1], len(COLOURS), dtype=torch.bool)
    unseen = torch.zeros(len(allowed), dtype=torch.bool)
    for slot, (colour, shape) in enumerate(words.things):
        allowed[slot] = torch.tensor([(name, shape) in words.things for name in COLOURS])
        unseen[slot] = (colour, SHAPE_NAMES.index(shape)) in HELD_OUT_PAIRS
    pictures = rendered.colour[0].float() / 255
    guides = {
        "depth": [_png(code.numpy().astype(np.uint16)) for code in codes],
        "lineart": [_png(lines.numpy()) for lines in rendered.lineart[0]],
        "render": [_png(picture.permute(1, 2, 0).numpy()) for picture in rendered.colour[0]],
    }
    return KnownClip(
        name=f"{index:04d}",
        source="ray caster",
        caption=blockouts.captions[index],
        pictures=pictures,
        depth=codes.float() / 65535,
        ident=rendered.ident[0],
        flow=optical_flow(scene, side),
        expected=_expected(scene, side),
        allowed=allowed,
        unseen=unseen,
        guides=guides,
    )


def _expected(scene: Scene, side: int) -> Tensor:
    """``KnownClip.expected`` of the one clip of ``scene``."""
    some = slice(None, None, COLOUR_STRIDE)
    few = replace(
        scene,
        centre=scene.centre[:, some],
        camera=scene.camera[:, some],
        camera_rotation=scene.camera_rotation[:, some],
        focal=scene.focal[:, some],
    )
    hits = trace(few, camera_rays(few, side))
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    lit = [few]
    for _ in range(3):
        lit.append(replace(few, sun=lit[-1].sun @ quarter.T))
    lit.append(replace(few, sun_colour=torch.zeros_like(few.sun_colour)))
    looks = [
        shade(replace(one, object_colour=torch.tensor(colour).expand_as(one.object_colour)), hits)
        for one in lit
        for colour in COLOURS.values()
    ]
    # [suns * colours, 1, frames, pixels, 3]
    pictures = torch.stack(looks)[:, 0].unflatten(2, (side, side)).permute(0, 1, 4, 2, 3)
    return pictures.unflatten(0, (len(lit), len(COLOURS))).half()


def _png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def erode(mask: Tensor, by: int) -> Tensor:
    """Bool [n, h, w] without the ``by`` pixels next to where it is false."""
    outside = F.max_pool2d((~mask)[:, None].float(), 2 * by + 1, 1, by)
    return outside[:, 0] == 0


def save_index(clips: list[KnownClip], path: Path) -> None:
    """Write what the clips are called and what their captions say, beside a picture grid."""
    rows = [{"name": c.name, "source": c.source, "caption": c.caption} for c in clips]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
