"""The eye that measures structure: disparity and object borders, estimated from one picture.

It plays the part that MiDaS plays in SparseCtrl's evaluation (section 4.3), for pictures of
blockouts: a small network, trained on the ray caster's pictures and then frozen.
"""

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor

from .eight_bits import read_weights

FOLDER = "depth_estimator"
# Pixels of the picture to one of the network, along a side: most of the cost is at full size.
_PATCH = 4
# How far a border may be from the true one, of a picture 256 pixels wide.
TOLERANCE = 2 / 256


def build_estimator(side: int | None = None) -> UNet2DModel:
    """The network, untrained, for pictures of ``side`` (None: of whatever size).

    It has a time input as all of its class, which is always zero.
    """
    outputs = 2 * _PATCH**2
    return UNet2DModel(
        sample_size=side,
        in_channels=3 * _PATCH**2,
        out_channels=outputs,
        block_out_channels=(48, 64, 96),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        add_attention=False,
    )


def load_estimator(folder: Path) -> UNet2DModel:
    """The trained network of a checkpoint folder. Raises OSError where there is none."""
    model: UNet2DModel = UNet2DModel.from_config(UNet2DModel.load_config(folder))
    model.load_state_dict(read_weights(folder))
    return model.eval()


def fingerprint(folder: Path) -> str:
    """The first 12 digits of the SHA-256 of the network's weights, to be named beside figures."""
    weights = next(folder.glob("*.safetensors")).read_bytes()
    return hashlib.sha256(weights).hexdigest()[:12]


def estimate(model: UNet2DModel, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Disparity and borders of ``pictures`` [n, 3, h, w] in [0, 1], sides multiples of 16.

    Disparity [n, h, w] is known but for scale and shift (see ``aligned``); borders [n, h, w] are
    logits of a border of an object being there.
    """
    time = torch.zeros(len(pictures), dtype=torch.long, device=pictures.device)
    packed = F.pixel_unshuffle(2 * pictures - 1, _PATCH)
    both = F.pixel_shuffle(model(packed, time, return_dict=False)[0], _PATCH)
    return both[:, 0], both[:, 1]


def estimate_at_its_size(model: UNet2DModel, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """As ``estimate``, for pictures larger than those that the network has learned from.

    Disparity is then read from, and as large as, the picture made small: how far apart things are
    shows in the whole of it. Borders show in their neighbourhood, and are read at full size.
    """
    disparity, borders = estimate(model, pictures)
    side, width = model.config["sample_size"], pictures.shape[-1]
    if side is not None and width > side:
        small = F.interpolate(pictures, scale_factor=side / width, mode="area")
        disparity, _ = estimate(model, small)
    return disparity, borders


def aligned(estimated: Tensor, true: Tensor) -> Tensor:
    """``estimated`` [n, h, w] under the scale (not negative) and shift nearest to ``true``.

    Least squares for each picture by itself, as for any affine-invariant estimator (Ranftl et al.
    2020, section 5).
    """
    e, t = estimated.flatten(1), true.flatten(1)
    centred = e - e.mean(dim=1, keepdim=True)
    spread = (centred * centred).mean(dim=1).clamp(min=1e-8)
    scale = ((centred * t).mean(dim=1) / spread).clamp(min=0)
    shift = t.mean(dim=1) - scale * e.mean(dim=1)
    return scale[:, None, None] * estimated + shift[:, None, None]


def structure_error(estimated: Tensor, true: Tensor) -> Tensor:
    """Mean absolute error [n] of the aligned disparity, as a share of its range.

    ``true`` [n, h, w] is a depth guide over 65535: 1 is near, 0 is nothing there. It may be larger
    than ``estimated``, in whose size they are compared.
    """
    true = F.interpolate(true[:, None], estimated.shape[-2:], mode="area")[:, 0]
    return (aligned(estimated, true) - true).abs().mean(dim=(1, 2))


def object_borders(ident: Tensor) -> Tensor:
    """Where two different things meet: bool [n, h, w] from ids [n, h, w]."""
    borders = torch.zeros(ident.shape, dtype=torch.bool, device=ident.device)
    borders[:, 1:] |= ident[:, 1:] != ident[:, :-1]
    borders[:, :, 1:] |= ident[:, :, 1:] != ident[:, :, :-1]
    return borders


def border_scores(borders: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Precision and recall [n] of ``borders`` against ``true``, both bool [n, h, w].

    A border counts as right within ``TOLERANCE`` of a true one, and the other way round.
    Pictures without any border have a score of 1 where the other side has none either.
    """
    reach = max(1, round(TOLERANCE * true.shape[-1]))

    def widened(mask: Tensor) -> Tensor:
        return F.max_pool2d(mask[:, None].float(), 2 * reach + 1, 1, reach)[:, 0] > 0

    def share(part: Tensor, whole: Tensor) -> Tensor:
        found, of = (part & whole).sum(dim=(1, 2)), whole.sum(dim=(1, 2))
        return torch.where(of > 0, found / of.clamp(min=1), (part.sum(dim=(1, 2)) == 0).float())

    return share(widened(true), borders), share(widened(borders), true)


def thin(logits: Tensor) -> Tensor:
    """Borders one or two pixels wide, bool [n, h, w], from logits: the ridges of what is likely."""
    ridge = torch.zeros_like(logits, dtype=torch.bool)
    for dim in (1, 2):
        before, after = torch.roll(logits, 1, dim), torch.roll(logits, -1, dim)
        highest = (logits >= before) & (logits >= after)
        # Along a border nothing rises or falls: that is no ridge of this direction.
        ridge |= highest & ((logits > before) | (logits > after))
    return ridge & (logits > 0)
