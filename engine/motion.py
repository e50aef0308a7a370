"""Motion modules as the published AnimateDiff code computes them."""

from typing import Any, TypeVar

import torch
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn
from torch.utils.checkpoint import checkpoint

ModuleT = TypeVar("ModuleT", bound=nn.Module)
# How many pixels attend over their frames at once: attention on CUDA lays them out along a side of
# the grid that ends at MOST_ROWS. Where there are more they go in parts of ROWS.
MOST_ROWS = 65535
ROWS = 32768


class FrameNormMotionModule(AnimateDiffTransformer3D):
    """A motion module whose GroupNorm takes its statistics from each frame by itself.

    diffusers pools mean and variance over all frames of a clip; the published weights were trained
    with one set of statistics per frame.
    Source: guoyww/AnimateDiff, animatediff/models/motion_module.py, ``TemporalTransformer3DModel``
    (frames are folded into the batch before ``self.norm``).

    ``motion_scale`` multiplies what the module adds to each frame; at 0 frames are images by
    themselves. With ``gradient_checkpointing``, which a model's ``enable_gradient_checkpointing``
    sets, training computes the module once more on the way back in place of keeping all of it:
    diffusers' own blocks leave out their motion modules, which take the most memory.
    """

    motion_scale: float = 1.0
    gradient_checkpointing: bool = False

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        timestep: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
        num_frames: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """Mix the frames of each clip.

        ``hidden_states`` is [batch*num_frames, channels, height, width], frames of one clip next to
        each other; so is the result. The other arguments are diffusers' own.
        """
        if self.motion_scale == 0:
            return hidden_states
        inputs = (
            hidden_states,
            encoder_hidden_states,
            timestep,
            class_labels,
            num_frames,
            cross_attention_kwargs,
        )
        if self.gradient_checkpointing and torch.is_grad_enabled():
            mixed = checkpoint(self._mixed, *inputs, use_reentrant=False)
        else:
            mixed = self._mixed(*inputs)
        return mixed + hidden_states

    def _mixed(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        timestep: torch.Tensor | None,
        class_labels: torch.Tensor | None,
        num_frames: int,
        cross_attention_kwargs: dict[str, Any] | None,
    ) -> torch.Tensor:
        """What the module adds to ``hidden_states``."""
        batch_frames, channels, height, width = hidden_states.shape
        batch = batch_frames // num_frames
        x = self.norm(hidden_states)
        x = x.reshape(batch, num_frames, channels, height, width).permute(0, 3, 4, 1, 2)
        x = self.proj_in(x.reshape(batch * height * width, num_frames, channels))

        def attended(rows: torch.Tensor) -> torch.Tensor:
            for block in self.transformer_blocks:
                rows = block(
                    hidden_states=rows,
                    encoder_hidden_states=encoder_hidden_states,
                    timestep=timestep,
                    cross_attention_kwargs=cross_attention_kwargs,
                    class_labels=class_labels,
                )
            return rows

        if len(x) <= MOST_ROWS:
            x = attended(x)
        else:
            x = torch.cat([attended(rows) for rows in x.split(ROWS)])
        x = self.proj_out(x).reshape(batch, height, width, num_frames, channels)
        x = x.permute(0, 3, 4, 1, 2).reshape(batch_frames, channels, height, width)
        return x if self.motion_scale == 1 else self.motion_scale * x


def use_reference_normalisation(module: ModuleT) -> ModuleT:
    """Make every motion module inside ``module`` normalise per frame; returns ``module`` itself.

    Weights and their names stay as they are, and a second call changes nothing. Raises ValueError
    where there is no motion module at all, since a forgotten one would go unnoticed in pictures.
    """
    found = [m for m in module.modules() if isinstance(m, AnimateDiffTransformer3D)]
    if not found:
        raise ValueError(f"{type(module).__name__} holds no AnimateDiff motion module.")
    for motion_module in found:
        # The class is exchanged, not the bound method: a deep copy (an average of weights in
        # training, say) would otherwise go on computing with the original's weights.
        motion_module.__class__ = FrameNormMotionModule
    return module


def set_motion_scale(module: nn.Module, scale: float) -> None:
    """Set how much the motion modules inside ``module`` add to the frames; 1 is as trained."""
    for motion_module in module.modules():
        if isinstance(motion_module, FrameNormMotionModule):
            motion_module.motion_scale = scale
