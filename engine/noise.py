"""The noise that covers clips, in training and in sampling."""

from collections.abc import Collection

import torch
import torch.nn.functional as F


def noise_of(
    generator: torch.Generator,
    shape: tuple[int, ...],
    device: torch.device | str = "cpu",
    shared: int = 0,
) -> torch.Tensor:
    """Noise of ``shape`` [b, C, F, h, w] on ``device``, drawn where ``generator`` is.

    One on the CPU gives the same on every device. ``shared`` is the side of the squares whose means
    all frames have in common (see ``with_shared_means``); 0 leaves the noise as it is drawn.
    """
    noise = torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)
    return (with_shared_means(noise, shared) if shared else noise).to(device)


def with_shared_means(noise: torch.Tensor, side: int) -> torch.Tensor:
    """``noise`` [b, C, F, h, w] with the same means over squares of ``side`` latents in all frames.

    In its broad parts a latent hardly differs from its neighbours, and noise of the clip's
    brightness is all that hides it: a model that has seen few clips takes what the broad parts of a
    frame's noise happen to be for a trace of that frame, and its clips flicker. What all frames
    share cannot flicker, and still says, for example, which of two colours a thing is to have. One
    frame's noise stays as it is: normal and independent. Source: the mixed noise of PYoCo (Ge et
    al. 2023, arXiv 2305.10474, section 4.1), here for the broad parts alone.
    """
    means = F.avg_pool3d(noise, (1, side, side), ceil_mode=True, count_include_pad=False)
    # Of F means that know nothing of each other, this sum has the spread of one.
    common = means.mean(dim=2, keepdim=True) * means.shape[2] ** 0.5
    change = (common - means).repeat_interleave(side, dim=3).repeat_interleave(side, dim=4)
    return noise + change[..., : noise.shape[3], : noise.shape[4]]


def shared_side(card: int, keyed: Collection[int], frames: int) -> int:
    """The side of the squares whose means all frames share, in a clip of so many ``frames`` that is
    held to guides on the frames ``keyed``.

    As the model's ``card`` says; but where guides that lie half of the clip apart, or more, say how
    things move, all of the noise is shared (1): it would only flicker. Elsewhere what differs from
    frame to frame is all that a clip's motion can come from. What it brings with blockout-mini is
    in docs/blockout-mini.md.
    """
    told = bool(keyed) and 2 * (max(keyed) - min(keyed)) >= frames
    return min(card, 1) if told else card
