"""Pictures and guides of a batch of scenes: colour, depth as disparity, line-art."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .raycast import NOTHING, Hits, Scene, camera_rays, shade, trace

# Four samples a pixel; also the finer grid on which lines are found.
_FINE = 2


@dataclass
class Rendered:
    """Frames of ``b`` clips; sides are those of the pictures."""

    colour: Tensor  # [b, f, 3, h, w] uint8, as displayed
    depth: Tensor  # [b, f, h, w] uint16 codes: 0 nothing, 1..65535 far to near
    lineart: Tensor  # [b, f, h, w] uint8, white lines on black


def encode_depth(z: Tensor) -> Tensor:
    """Planar depth [b, f, h, w] (inf: nothing there) -> codes 0..65535, int32.

    One range of disparity for all frames of a clip, near = 65535, as the add-on's guides:
    1 + round(65534 * (1/z - 1/far) / (1/near - 1/far)).
    """
    disparity = torch.where(z.isfinite(), 1 / z, 0.0)
    there = z.isfinite()
    near = disparity.amax(dim=(1, 2, 3), keepdim=True)
    far = torch.where(there, disparity, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    share = ((disparity - far) / (near - far).clamp(min=1e-12)).clamp(0, 1)
    return torch.where(there, 1 + (65534 * share).round(), 0).to(torch.int32)


def find_lines(hits: Hits, side: int) -> Tensor:
    """Where Freestyle would draw: borders of objects, silhouettes and creases. [b, f, side, side].

    A line lies between two neighbouring samples of different objects, or of normals more than 60
    degrees apart. The solids are convex, so none of them can hide a part of itself.
    """
    shape = (*hits.ident.shape[:2], side, side)
    ident = hits.ident.reshape(shape)
    normal = hits.normal.reshape(*shape, 3)
    lines = torch.zeros(shape, dtype=torch.bool)
    for axis in (2, 3):
        first = [slice(None)] * 4
        second = [slice(None)] * 4
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(first), tuple(second)
        border = ident[a] != ident[b]
        crease = (normal[a] * normal[b]).sum(-1) < 0.5
        crease &= (ident[a] != NOTHING) & (ident[b] != NOTHING)
        lines[a] |= border | crease
    return lines


def draw_lines(lines: Tensor, width: float) -> Tensor:
    """Lines on the fine grid -> uint8 [b, f, h, w], ``width`` pixels of the picture wide."""
    pen = max(1, round(width * _FINE))
    flat = lines.flatten(0, 1)[:, None].float()
    pad = pen // 2
    thick = F.max_pool2d(F.pad(flat, (pad, pen - 1 - pad, pad, pen - 1 - pad)), pen, stride=1)
    soft = F.avg_pool2d(thick, _FINE)
    return (soft[:, 0] * 255).round().to(torch.uint8).unflatten(0, lines.shape[:2])


def render(scene: Scene, side: int, lineart_width: float = 1.5) -> Rendered:
    """Colour with four samples a pixel, depth through pixel centres, and line-art."""
    clips, frames = scene.camera.shape[:2]
    centre = trace(scene, camera_rays(scene, side))
    depth = encode_depth(centre.distance.reshape(clips, frames, side, side))
    fine_side = side * _FINE
    fine = trace(scene, camera_rays(scene, fine_side))
    colour = shade(scene, fine).reshape(clips * frames, fine_side, fine_side, 3)
    colour = F.avg_pool2d(colour.permute(0, 3, 1, 2), _FINE)
    return Rendered(
        colour=(colour * 255).round().to(torch.uint8).unflatten(0, (clips, frames)),
        depth=depth,
        lineart=draw_lines(find_lines(fine, fine_side), lineart_width),
    )
