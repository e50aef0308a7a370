"""Figures of a made clip against the known one."""

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor

from .estimator import border_scores, estimate_at_its_size, object_borders, structure_error, thin
from .truth import COLOUR_STRIDE, KnownClip, erode

# Objects are counted where at least this share of the picture is safely inside them.
_SEEN = 60 / 128**2
_SLIP = 2 / 128  # borders may slip by this share of the width before a colour is read


def colours_right(made: Tensor, clip: KnownClip) -> dict[str, int]:
    """How many objects have a colour that the caption names for their shape, and of how many.

    Counted twice: over all, and over those whose colour and shape were held out of the training.

    ``made`` is [F, 3, h, w]. In each region of an object, the mean colour is compared with what
    the same object would look like in each of the eight colours; the nearest look's colour is the
    one read, once under the true sun and once under any of ``clip.expected``, because neither
    caption nor guide says where the sun stands. One right reading is enough: what is white in the
    shade may be what is grey in the sun. Any colour that the caption names for the object's
    shape is right, because nothing says which of "two blue cones and two grey cones" is blue.
    Frames 0, COLOUR_STRIDE, ... are looked at.
    """
    frames = made[::COLOUR_STRIDE]
    ident = clip.ident[::COLOUR_STRIDE]
    side = made.shape[-1]
    counts = {"colours_right": 0, "colours_seen": 0, "unseen_right": 0, "unseen_seen": 0}
    for slot, allowed in enumerate(clip.allowed):
        if not allowed.any():
            continue
        inside = erode(ident == slot + 1, max(1, round(_SLIP * side)))
        for frame in range(len(frames)):
            mask = inside[frame]
            if mask.sum() < _SEEN * side * side:
                continue
            found = frames[frame][:, mask].mean(dim=1)
            looks = clip.expected[:, :, frame][..., mask].float().mean(dim=-1)
            apart = (looks - found).norm(dim=-1)
            right = int(allowed[apart[0].argmin()] or allowed[apart.amin(dim=0).argmin()])
            for what in ("colours", "unseen") if clip.unseen[slot] else ("colours",):
                counts[f"{what}_right"] += right
                counts[f"{what}_seen"] += 1
    return counts


def warp_error(made: Tensor, clip: KnownClip) -> float:
    """Mean absolute change of what stays in sight, followed along the exact flow, of 0 to 1."""
    height, width = made.shape[-2:]
    rows = torch.arange(height)[:, None].expand(height, width)
    columns = torch.arange(width)[None].expand(height, width)
    flow, visible = clip.flow.forward[0], clip.flow.forward_visible[0]
    x = (columns + flow[:, 0] + 0.5) / width * 2 - 1
    y = (rows + flow[:, 1] + 0.5) / height * 2 - 1
    places = torch.stack([x, y], dim=-1)
    # The outermost half of a pixel is seen, too: what lies past it is not black.
    warped = F.grid_sample(
        made[1:], places, mode="bilinear", padding_mode="border", align_corners=False
    )
    change = (warped - made[:-1]).abs().mean(dim=1)
    return change[visible].mean().item() if visible.any() else 0.0


def psnr(made: Tensor, true: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]."""
    return (-10 * (made - true).square().mean().clamp(min=1e-10).log10()).item()


def change(pictures: Tensor) -> float:
    """Mean absolute change from frame to frame, of 0 to 1."""
    return pictures.diff(dim=0).abs().mean().item()


@torch.no_grad()
def clip_figures(
    estimator: UNet2DModel, made: Tensor, clip: KnownClip, keyframes: list[int]
) -> dict[str, float]:
    """All figures of ``made`` [F, 3, h, w] in [0, 1]; sums that `mean_figures` brings together."""
    disparity, logits = estimate_at_its_size(estimator, made)
    errors = structure_error(disparity, clip.depth)
    precision, recall = border_scores(thin(logits), object_borders(clip.ident))
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-8)
    keyed = torch.zeros(len(made), dtype=torch.bool)
    keyed[keyframes] = True
    figures = {
        "structure": errors.mean().item(),
        "boundary_f1": f1.mean().item(),
        **colours_right(made, clip),
        "warp": warp_error(made, clip),
        "change_made": change(made),
        "change_true": change(clip.pictures),
    }
    if keyed.any():
        figures["structure_keyed"] = errors[keyed].mean().item()
        figures["boundary_f1_keyed"] = f1[keyed].mean().item()
        figures["psnr_keyed"] = psnr(made[keyed], clip.pictures[keyed])
    if not keyed.all():
        figures["structure_unkeyed"] = errors[~keyed].mean().item()
        figures["psnr_unkeyed"] = psnr(made[~keyed], clip.pictures[~keyed])
    return figures


def mean_figures(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over clips; colours are counted over all objects of all clips.

    Liveliness is the change from frame to frame over that of the true clips: 1 where it moves as
    much. It is taken over all clips, for one that stands still has no ratio.
    """
    sums = ("_right", "_seen", "_made", "_true")
    names = [name for name in rows[0] if not name.endswith(sums)]
    means = {name: sum(row[name] for row in rows) / len(rows) for name in names}
    made, true = (sum(row[f"change_{what}"] for row in rows) for what in ("made", "true"))
    if true:
        means["liveliness"] = made / true
    for what, figure in (("colours", "colour_accuracy"), ("unseen", "colour_accuracy_unseen")):
        if seen := sum(row[f"{what}_seen"] for row in rows):
            means[figure] = sum(row[f"{what}_right"] for row in rows) / seen
    return {name: round(value, 4) for name, value in means.items()}
