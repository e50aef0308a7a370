"""Teaches condition encoders to recognise shapes in their guide.

The diffusion loss alone taught blockout-mini's encoders where things stand, and not what they are:
after four hours a classifier that read their residuals took three of four cylinders for boxes. A
prompt's words then have nothing to be bound to while there is only noise. So a layer beside each
level (deep supervision, Lee et al. 2015, arXiv 1409.5185, section 2) names the shape at each place,
and is left behind when the stage is done.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel
from torch import Tensor, nn

from .captions import SHAPE_NAMES
from .grounding import shapes


class Recognition(nn.Module):
    """One layer of 1x1 for each level of an encoder's residuals; all guides share them, as the
    image model takes the residuals of each alike.
    """

    def __init__(self, encoder: SparseControlNetModel):
        super().__init__()
        config: Any = encoder.config
        self.layers = nn.ModuleList(
            nn.Conv2d(width, 1 + len(SHAPE_NAMES), 1) for width in config.block_out_channels
        )
        # The last residual of each level before it is halved: it has passed the level's layers.
        layers = config.layers_per_block
        self._places = [level * (layers + 1) + layers for level in range(len(self.layers))]
        self._seen: list[Tensor] = []

    def watch(self, encoder: SparseControlNetModel) -> None:
        """Keep the residuals of each forward pass of ``encoder`` for ``loss``."""
        encoder.register_forward_hook(self._look_on)

    def _look_on(self, encoder: nn.Module, inputs: tuple, outputs: Any) -> None:
        down = outputs[0]
        self._seen = [down[place] for place in self._places]

    def loss(self, regions: Tensor) -> Tensor:
        """Cross entropy of the shape (or none) at each place, mean over levels, for the residuals
        of the last forward pass.

        ``regions`` is [b, h, w]. All shapes there are count alike, however many places they fill.
        """
        there = F.one_hot(shapes(regions), 1 + len(SHAPE_NAMES)).movedim(-1, 1).float()
        total = regions.new_zeros((), dtype=torch.float32)
        for layer, residual in zip(self.layers, self._seen, strict=True):
            said = layer(residual.float()).float().log_softmax(dim=1)
            height, width = residual.shape[-2:]
            cover = F.adaptive_avg_pool2d(there, (height, width))
            missed = -(cover * said).sum(dim=(0, 2, 3))
            filled = cover.sum(dim=(0, 2, 3))
            total = total + (missed / filled.clamp(min=1.0))[filled > 0].mean()
        self._seen = []
        return total / len(self.layers)
