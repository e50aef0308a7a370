"""Rendered blockouts on disk: made once, in shards, read by every stage.

A shard is one torch file: colour, depth and line-art of some clips (a still is a clip of one
frame), and their captions. Stages that need latents store them beside it.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .guides import render
from .scenes import make_blockouts

_CHUNK = 16  # clips rendered at once, for stills; bounds memory


def save_atomically(content: object, path: Path) -> None:
    """torch.save that never leaves half a file under the final name."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def _times(clips: int, frames: int, seed: int) -> Tensor:
    if frames > 1:
        return torch.linspace(0, 1, frames).expand(clips, frames)
    # A still is a random moment of a clip, so that stills look like frames.
    return torch.rand(clips, 1, generator=torch.Generator().manual_seed(seed))


def write_shard(
    folder: Path, number: int, clips: int, frames: int, side: int, lineart_width: float
) -> None:
    """Render clips number*clips .. (number+1)*clips-1 of the data set; nothing if it is there."""
    path = folder / f"{number:05d}.pt"
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    blockouts = make_blockouts(number, clips, _times(clips, frames, number))
    chunk = max(1, _CHUNK // frames)
    parts = []
    for first in range(0, clips, chunk):
        scene = blockouts.scene.select(slice(first, first + chunk))
        parts.append(render(scene, side, lineart_width))
    shard = {
        "colour": torch.cat([part.colour for part in parts]),
        # 16 bits in the guide; 8 are enough to learn from and keep the set in memory.
        "depth": (torch.cat([part.depth for part in parts]) / 257).round().to(torch.uint8),
        "lineart": torch.cat([part.lineart for part in parts]),
        "captions": blockouts.captions,
    }
    save_atomically(shard, path)


class Shards:
    """All shards in a folder, in memory; ``refresh`` takes up those written since."""

    def __init__(self, folder: Path, fields: tuple[str, ...] = ("colour", "depth", "lineart")):
        self.folder, self.fields = folder, fields
        self.parts: dict[str, dict] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the shards that are new on disk."""
        for path in sorted(self.folder.glob("*.pt")):
            latents = self.folder / "latents" / path.name
            if path.name not in self.parts and ("latents" not in self.fields or latents.exists()):
                shard = torch.load(path, weights_only=True, mmap=True)
                if "latents" in self.fields:
                    shard["latents"] = torch.load(latents, weights_only=True)
                self.parts[path.name] = {
                    name: shard[name] for name in (*self.fields, "captions") if name in shard
                }

    def __len__(self) -> int:
        return sum(len(part["captions"]) for part in self.parts.values())

    def sample(self, rng: random.Random, count: int) -> dict:
        """``count`` random clips: tensors [count, f, ...] by field, and a list of captions."""
        names = list(self.parts)
        picks = []
        for _ in range(count):
            part = self.parts[rng.choice(names)]
            picks.append((part, rng.randrange(len(part["captions"]))))
        batch: dict = {
            name: torch.stack([part[name][index] for part, index in picks]) for name in self.fields
        }
        batch["captions"] = [part["captions"][index] for part, index in picks]
        return batch


@torch.no_grad()
def add_latents(folder: Path, encode: Callable[[Tensor], Tensor], mirror: bool) -> int:
    """Store latents beside the pictures of every shard that has none yet; returns how many.

    ``encode`` maps pictures [n, 3, h, w] in [0, 1] to scaled latents. With ``mirror`` (stills)
    the field is [clips, 2, 4, h/8, w/8], the second of each pair that of the mirrored picture;
    without it is [clips, f, 4, h/8, w/8].
    """
    done = 0
    for path in sorted(folder.glob("*.pt")):
        target = folder / "latents" / path.name
        if target.exists():
            continue
        target.parent.mkdir(exist_ok=True)
        colour = torch.load(path, weights_only=True)["colour"]
        flat = colour.flatten(0, 1)
        versions = [flat, flat.flip(-1)] if mirror else [flat]
        latents = [
            torch.cat([encode(part.float() / 255) for part in version.split(32)])
            for version in versions
        ]
        stacked = (
            torch.stack(latents, dim=1) if mirror else latents[0].unflatten(0, colour.shape[:2])
        )
        save_atomically(stacked.half(), target)
        done += 1
    return done
