"""An ordinary image ControlNet as a control encoder: frame by frame, where a guide is set.

It is the second filling of a guide's slot, and the only public one for depth. All frames keyed is
MoonShot's and Make-Your-Video's depth on every frame; some frames keyed holds the clip to the
keyframes: elsewhere its residuals are zero, and the motion modules carry over what it does.
Sources: ControlNet (Zhang et al. 2023); MoonShot (Zhang et al. 2024), section 3.3; huggingface/
diffusers, ``AnimateDiffControlNetPipeline``, and its issue #9329 for the sum with SparseCtrl.
"""

from typing import TypeAlias

import torch
from diffusers import ControlNetModel

from .conditions import Condition

# One tensor for each skip connection of the UNet and, last, one for its middle;
# each [batch*frames, channels, h, w].
Residuals: TypeAlias = tuple[torch.Tensor, ...]


def image_residuals(
    encoder: ControlNetModel,
    condition: Condition,
    latents: torch.Tensor,
    t: torch.Tensor,
    text: torch.Tensor,
) -> Residuals | None:
    """Residuals of a clip's frames at timestep ``t``; None where no frame has a guide.

    ``latents`` [1, C, F, h, w] are the clip as the UNet gets it, ``text`` [halves, tokens,
    channels] or [halves, F, tokens, channels]. Only frames with a guide are computed, each at its
    strength; the others get zeros.
    """
    held = condition.keyed
    if not held:
        return None
    halves, frames = len(text), latents.shape[2]
    words = text[:, None].expand(-1, len(held), -1, -1) if text.ndim == 3 else text[:, held]

    def each(clip: torch.Tensor) -> torch.Tensor:
        pictures = clip[0, :, held].transpose(0, 1).to(text.dtype)
        return pictures.repeat(halves, 1, 1, 1)

    skips, middle = encoder(
        each(latents),
        t,
        encoder_hidden_states=words.flatten(0, 1),
        controlnet_cond=each(condition.values),
        return_dict=False,
    )
    strengths = condition.strengths[held].to(middle)[:, None, None, None]
    spread = []
    for residual in (*skips, middle):
        clip = residual.new_zeros((halves, frames, *residual.shape[1:]))
        clip[:, held] = residual.unflatten(0, (halves, -1)) * strengths
        spread.append(clip.flatten(0, 1))
    return tuple(spread)
