"""Pictures and guides of a batch of scenes: colour, depth as disparity, line-art."""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .raycast import NOTHING, Hits, Scene, camera_rays, shade, trace

# Four samples a pixel; also the finer grid on which lines are found.
_FINE = 2
# Found points lie to both sides of their line, so that a full pen would make it wider: by so many
# quarters of a pixel. With it as much is inked as by Freestyle, to some percent.
_SCATTER = 0.25


@dataclass
class Rendered:
    """Frames of ``b`` clips; sides are those of the pictures."""

    colour: Tensor  # [b, f, 3, h, w] uint8, as displayed
    depth: Tensor  # [b, f, h, w] uint16 codes: 0 nothing, 1..65535 far to near
    lineart: Tensor  # [b, f, h, w] uint8, white lines on black
    ident: Tensor  # [b, f, h, w] int8, as in Hits


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
    """Where Freestyle draws: borders, silhouettes and creases. bool [b, f, 2 side + 1, 2 side + 1].

    A line lies between two neighbouring samples of different objects, or of faces more than 60
    degrees apart (a bent one is no two faces, however fast it turns). The solids are convex, so
    none of them can hide a part of itself. Where two objects pass through each other there is no
    edge of either, and so no line. Points of the result are half a sample apart: sample (y, x) is
    at (2 y + 1, 2 x + 1), lines are between samples.
    """
    shape = (*hits.ident.shape[:2], side, side)
    ident, met, bent = (x.reshape(shape) for x in (hits.ident, hits.met, hits.bent))
    normal = hits.normal.reshape(*shape, 3)
    points = (*shape[:2], 2 * side + 1, 2 * side + 1)
    lines = torch.zeros(points, dtype=torch.bool, device=ident.device)
    for axis in (2, 3):
        n = side - 1
        a, b = ident.narrow(axis, 0, n), ident.narrow(axis, 1, n)
        met_a, met_b = met.narrow(axis, 0, n), met.narrow(axis, 1, n)
        solid = (a != NOTHING) & (b != NOTHING)
        both = 1 << a.clamp(min=0).int() | 1 << b.clamp(min=0).int()
        crossing = solid & (met_a & met_b & both == both)
        facing = (normal.narrow(axis, 0, n) * normal.narrow(axis, 1, n)).sum(-1)
        bend = bent.narrow(axis, 0, n) & bent.narrow(axis, 1, n)
        crease = (a == b) & solid & ~bend & (facing < 0.5)
        between = [slice(1, None, 2)] * 2
        between[axis - 2] = slice(2, -1, 2)
        lines[:, :, between[0], between[1]] = (a != b) & ~crossing | crease
    return lines


def draw_lines(lines: Tensor, width: float) -> Tensor:
    """Lines as found -> uint8 [b, f, h, w], ``width`` pixels of the picture wide, antialiased."""
    cells = 2 * _FINE  # of a pixel's side
    side = lines.shape[-1] - 1
    radius = max(0.75, width * cells / 2 - _SCATTER)
    reach = math.ceil(radius)
    padded = F.pad(lines, (reach - 1,) * 4)
    inked = torch.zeros(*lines.shape[:2], side, side, dtype=torch.bool, device=lines.device)
    # The cells lie between the points: each takes the points around it that a round pen covers.
    for y, x in itertools.product(range(2 * reach), repeat=2):
        if math.hypot(y + 0.5 - reach, x + 0.5 - reach) <= radius:
            inked |= padded[:, :, y : y + side, x : x + side]
    soft = F.avg_pool2d(inked.flatten(0, 1).float(), cells)
    return (soft * 255).round().to(torch.uint8).unflatten(0, lines.shape[:2])


def render(scene: Scene, side: int, lineart_width: float = 1.5) -> Rendered:
    """Colour with four samples a pixel, depth through pixel centres, and line-art."""
    clips, frames = scene.camera.shape[:2]
    centre = trace(scene, camera_rays(scene, side))
    shape = (clips, frames, side, side)
    depth = encode_depth(centre.distance.reshape(shape))
    fine_side = side * _FINE
    fine = trace(scene, camera_rays(scene, fine_side))
    colour = shade(scene, fine).reshape(clips * frames, fine_side, fine_side, 3)
    colour = F.avg_pool2d(colour.permute(0, 3, 1, 2), _FINE)
    return Rendered(
        colour=(colour * 255).round().to(torch.uint8).unflatten(0, (clips, frames)),
        depth=depth,
        lineart=draw_lines(find_lines(fine, fine_side), lineart_width),
        ident=centre.ident.reshape(shape).to(torch.int8),
    )
