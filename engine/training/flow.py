"""Exact optical flow of ray-cast blockouts, from their geometry instead of an estimator.

Objects move rigidly, the camera moves and turns, the lens zooms. Axes are those of torch's
pictures: x right, y down, in pixels, pixel centres at whole numbers.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .raycast import NOTHING, Hits, Scene, camera_rays, trace

# A point counts as hidden when what the camera meets on the way is nearer by more than this share
# of the depth: far above the error of single precision, far below the size of any object.
_HIDDEN = 1e-3


@dataclass
class Flow:
    """Where the pixels of ``f`` frames go; the last frame has no next one, the first no last one.

    ``forward[:, t]`` is for the pixels of frame t, to frame t + 1; ``backward[:, t]`` for those of
    frame t + 1, to frame t. The masks tell whether what a pixel shows is still seen there: inside
    the picture and not hidden.
    """

    forward: Tensor  # [b, f - 1, 2, h, w] pixels (x, y)
    backward: Tensor  # [b, f - 1, 2, h, w]
    forward_visible: Tensor  # [b, f - 1, h, w] bool
    backward_visible: Tensor  # [b, f - 1, h, w] bool


def optical_flow(scene: Scene, side: int) -> Flow:
    """The flow between neighbouring frames of ``scene``, in pictures ``side`` pixels square.

    The sky is at infinity: it moves with the camera's turn and the lens alone.
    """
    frames = scene.camera.shape[1]
    hits = trace(scene, camera_rays(scene, side))
    earlier, later = slice(0, frames - 1), slice(1, frames)
    forward, forward_visible = _move(scene, hits, side, earlier, later)
    backward, backward_visible = _move(scene, hits, side, later, earlier)
    return Flow(forward, backward, forward_visible, backward_visible)


def _move(scene: Scene, hits: Hits, side: int, at: slice, to: slice) -> tuple[Tensor, Tensor]:
    """Flow and visibility from the frames ``at`` to as many frames ``to``."""
    ident, direction = hits.ident[:, at], hits.direction[:, at]
    sky = ident == NOTHING
    depth = torch.where(sky, 1.0, hits.distance[:, at])
    # From the eye it goes to, what stands still is where it was; the sky has no place, only a
    # direction.
    parallax = scene.camera[:, at] - scene.camera[:, to]
    travel = _travel(scene, ident, at, to)
    sight = depth[..., None] * direction
    sight = torch.where(sky[..., None], direction, sight + travel + parallax[:, :, None])
    right, up, back = torch.einsum("bfpi,bfij->jbfp", sight, scene.camera_rotation[:, to])
    ahead = -back
    plane = torch.stack([right, -up], dim=-1) / ahead[..., None]
    target = (plane * (scene.focal[:, to] / 18.0)[..., None, None] + 1) * side / 2 - 0.5
    grid = torch.arange(side, dtype=target.dtype, device=target.device)
    start = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), dim=-1).reshape(-1, 2)
    inside = (ahead > 0) & ((target >= -0.5) & (target < side - 0.5)).all(dim=-1)
    seen = trace(_frames(scene, to), sight / ahead[..., None])
    clear = torch.where(sky, seen.ident == NOTHING, seen.distance > ahead * (1 - _HIDDEN))
    flow = (target - start).unflatten(2, (side, side)).permute(0, 1, 4, 2, 3)
    return flow, (inside & clear).unflatten(2, (side, side))


def _travel(scene: Scene, ident: Tensor, at: slice, to: slice) -> Tensor:
    """How far what each ray meets (``ident`` [b, f, p]) moves in the world, [b, f, p, 3]."""
    moves = scene.centre[:, to] - scene.centre[:, at]
    still = torch.zeros_like(moves[:, :, :1])
    moves = torch.cat([still, moves], dim=2)
    index = ident.clamp(min=0).long()[..., None].expand(-1, -1, -1, 3)
    return moves.gather(2, index)


def _frames(scene: Scene, frames: slice) -> Scene:
    """The scene with only some of its frames."""
    return replace(
        scene,
        centre=scene.centre[:, frames],
        camera=scene.camera[:, frames],
        camera_rotation=scene.camera_rotation[:, frames],
        focal=scene.focal[:, frames],
    )
