"""How closely a depth guide is to be followed: Gen-1's blur levels.

Source: Gen-1 (Esser et al. 2023), section 3.4: the structure estimate is blurred and downsampled
before it conditions the model, so that less of it is left to follow; the model is trained with
random levels.
"""

import torch
import torch.nn.functional as F

# At the last level a place of the guide is the mean of 2^4 pixels each way: two latents wide.
BLUR_LEVELS = 5


def blur_structure(guide: torch.Tensor, level: int) -> torch.Tensor:
    """``guide`` [n, c, h, w] with details under 2^level pixels taken away; level 0 is the guide.

    Values and size stay; sides are multiples of 8 or more. Raises ValueError for a level outside
    0..BLUR_LEVELS-1.
    """
    if not 0 <= level < BLUR_LEVELS:
        raise ValueError(f"A blur level is 0 to {BLUR_LEVELS - 1}; {level} was asked for.")
    if level == 0:
        return guide
    size = guide.shape[-2:]
    coarse = [max(1, side >> level) for side in size]
    small = F.interpolate(guide, coarse, mode="area")
    return F.interpolate(small, size, mode="bilinear", align_corners=False)
