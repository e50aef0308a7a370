"""The preview shows the picture that the latents stand for."""

from types import SimpleNamespace

import numpy as np
import torch
from animatic.engine.decode import PreviewDecoder


class LinearVae:
    """A VAE whose latents are linear in colour, so that the right preview is known exactly."""

    config = SimpleNamespace(scaling_factor=0.5)
    dtype = torch.float32

    def encode(self, pictures: torch.Tensor) -> SimpleNamespace:
        small = torch.nn.functional.avg_pool2d(pictures, 8)
        mixed = torch.stack([small[:, 0] - small[:, 2], small.sum(1), small[:, 1], small[:, 0]], 1)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: mixed * 3 + 1))


def test_colours_come_back_through_any_vaes_latents() -> None:
    plan = SimpleNamespace(torch_device=torch.device("cpu"))
    vae = LinearVae()
    clip = torch.rand(5, 3, 16, 24, generator=torch.Generator().manual_seed(3))
    latents = vae.encode(clip * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    parts = SimpleNamespace(vae=vae, plan=plan, latent_scale=8)
    shown = PreviewDecoder(parts).frames(latents.transpose(0, 1)[None])
    wanted = torch.nn.functional.avg_pool2d(clip, 8).permute(0, 2, 3, 1) * 255
    assert shown.shape == (5, 2, 3, 3)
    assert np.abs(shown - wanted.numpy()).max() < 0.6
