"""Stage estimator: the depth and border estimator that ``animatic evaluate`` measures with."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor

from ..evaluation.estimator import aligned, estimate, object_borders, structure_error
from ..vae import Vae, decode, encode
from .data import save_atomically
from .diffusion import half_precision
from .guides import encode_depth
from .loop import Loop, LoopConfig
from .pictures import write_grid
from .raycast import camera_rays, shade, trace
from .scenes import make_blockouts

# Seeds of its own: neither the generator's training shards nor its held-out scenes.
FIRST_SEED = 3_000_000
STILLS = 256


def write_lesson(folder: Path, number: int, side: int, device: torch.device) -> None:
    """Render one shard of pictures [n, 3, h, w] uint8 with depth and object borders."""
    path = folder / f"{number:05d}.pt"
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    times = torch.rand(STILLS, 1, generator=torch.Generator().manual_seed(number))
    scene = make_blockouts(FIRST_SEED + number, STILLS, times).scene.to(device)
    parts: dict[str, list[Tensor]] = {"colour": [], "depth": [], "borders": []}
    for first in range(0, STILLS, 16):
        some = scene.select(slice(first, first + 16))
        centre = trace(some, camera_rays(some, side))
        depth = encode_depth(centre.distance.unflatten(2, (side, side)))[:, 0]
        fine = shade(some, trace(some, camera_rays(some, 2 * side)))
        fine = fine.reshape(len(some), 2 * side, 2 * side, 3).permute(0, 3, 1, 2)
        parts["colour"].append((F.avg_pool2d(fine, 2) * 255).round().to(torch.uint8))
        parts["depth"].append((depth / 257).round().to(torch.uint8))
        parts["borders"].append(object_borders(centre.ident[:, 0].unflatten(1, (side, side))))
    save_atomically({name: torch.cat(tensors).cpu() for name, tensors in parts.items()}, path)


def estimator_loss(model: UNet2DModel, pictures: Tensor, depth: Tensor, borders: Tensor) -> Tensor:
    """Absolute error of disparity and of its slopes, and cross entropy of the borders.

    A still's range is its own, so that the picture alone decides its disparity; a loss free of
    scale and shift would be needless, and has a dead corner at negative scales.
    """
    disparity, logits = (value.float() for value in estimate(model, pictures))
    loss = 4 * F.l1_loss(disparity, depth)
    for dim in (1, 2):
        loss = loss + 4 * F.l1_loss(disparity.diff(dim=dim), depth.diff(dim=dim))
    # A picture has some ten times as many places without a border, or one beside them, as with.
    weight = torch.tensor(2.0, device=logits.device)
    return loss + F.binary_cross_entropy_with_logits(logits, _likely(borders), pos_weight=weight)


def _likely(borders: Tensor) -> Tensor:
    """Borders [n, h, w] as a goal that forgives a slip of one pixel: half as likely beside them.

    Asked for the very pixel, the network answers with a doubt that no threshold sees.
    """
    certain = borders.float()
    return torch.maximum(certain, 0.5 * F.max_pool2d(certain[:, None], 3, 1, 1)[:, 0])


def train_estimator(
    model: UNet2DModel, vae: Vae, lessons: Path, folder: Path, config: LoopConfig
) -> UNet2DModel:
    """Train on true pictures and on the same through the autoencoder; returns averaged weights.

    What is measured later comes out of the autoencoder's decoder, softer than true pictures are.
    """
    device = next(model.parameters()).device
    paths = sorted(lessons.glob("*.pt"))
    loaded = (torch.load(path, weights_only=True) for path in paths)
    shards = [{name: each.to(device) for name, each in shard.items()} for shard in loaded]
    *train, held_out = shards
    rng = random.Random(config.seed)

    def batch(shard: dict[str, Tensor], picks: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.tensor(picks, device=device)
        colour = shard["colour"][rows].float() / 255
        return colour, shard["depth"][rows].float() / 255, shard["borders"][rows]

    @torch.no_grad()
    def softened(pictures: Tensor) -> Tensor:
        latents = encode(vae, pictures)
        latents = latents + rng.uniform(0, 0.3) * torch.randn_like(latents)
        return decode(vae, latents)

    def loss_of(step: int) -> Tensor:
        picks = rng.sample(range(STILLS), config.batch)
        colour, depth, borders = batch(rng.choice(train), picks)
        half = config.batch // 2
        colour = torch.cat([colour[:half], softened(colour[half:])])
        if rng.random() < 0.5:
            colour, depth, borders = colour.flip(-1), depth.flip(-1), borders.flip(-1)
        with half_precision(device):
            return estimator_loss(model, colour, depth, borders)

    @torch.no_grad()
    def sample(averaged: Mapping[str, Any], step: int) -> None:
        colour, depth, borders = batch(held_out, list(range(min(64, STILLS))))
        disparity, logits = estimate(averaged["estimator"], colour)
        error = structure_error(disparity, depth).mean().item()
        print(f"estimator: error {error:.4f} of the disparity range", flush=True)
        rows = [colour, depth, aligned(disparity, depth).clamp(0, 1), borders.float()]
        rows.append(logits.sigmoid())
        write_grid(
            [row[:10] if row.dim() == 4 else row[:10, None] for row in rows],
            folder / "grids" / f"estimator_{step:06d}.png",
        )

    loop = Loop(folder, "estimator", {"estimator": model}, config)
    loop.draw_anew(rng)
    loop.run(loss_of, sample)
    trained: Any = loop.average.modules["estimator"]
    return trained
