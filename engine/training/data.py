"""Rendered blockouts on disk: made once, in shards, read by every stage.

A shard is one torch file: colour, depth and line-art of some clips (a still is a clip of one
frame), what stands where in them, and their captions. Stages that need latents store them beside
it.
"""

import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from . import together
from .grounding import regions
from .guides import render
from .scenes import make_blockouts

# Stills rendered at once, and pixels encoded at once; they bound memory.
_CHUNK = {"cpu": 16, "cuda": 128}
_PIXELS = 32 * 128 * 128


def save_atomically(content: object, path: Path) -> None:
    """torch.save that never leaves half a file under the final name."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def eight_bits(depth: Tensor) -> Tensor:
    """Depth codes 0..65535 as uint8: enough to learn from, and the set stays in memory."""
    return (depth / 257).round().to(torch.uint8)


def _times(clips: int, frames: int, seed: int) -> Tensor:
    if frames > 1:
        return torch.linspace(0, 1, frames).expand(clips, frames)
    # A still is a random moment of a clip, so that stills look like frames.
    return torch.rand(clips, 1, generator=torch.Generator().manual_seed(seed))


def write_shard(
    folder: Path,
    number: int,
    clips: int,
    frames: int,
    side: int,
    lineart_width: float,
    places: Mapping[str, float],
    device: torch.device,
) -> None:
    """Render clips number*clips .. (number+1)*clips-1 of the data set; nothing if it is there.

    ``places``: see ``make_blockouts``.
    """
    path = folder / f"{number:05d}.pt"
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    blockouts = make_blockouts(number, clips, _times(clips, frames, number), places)
    scenes = blockouts.scene.to(device)
    chunk = max(1, _CHUNK[device.type] // frames)
    parts = [
        render(scenes.select(slice(first, first + chunk)), side, lineart_width)
        for first in range(0, clips, chunk)
    ]
    shard = {
        "colour": torch.cat([part.colour.cpu() for part in parts]),
        "depth": eight_bits(torch.cat([part.depth.cpu() for part in parts])),
        "lineart": torch.cat([part.lineart.cpu() for part in parts]),
        "regions": regions(
            torch.cat([part.ident.cpu() for part in parts]), [w.things for w in blockouts.words]
        ),
        "captions": blockouts.captions,
    }
    save_atomically(shard, path)


class Shards:
    """All shards in a folder; ``refresh`` takes up those written since.

    They stay mapped to their files, and a batch goes to ``device``: a graphics card has better use
    for its memory. ``wanted`` chooses clips by their caption. Shards without one of the ``fields``
    are passed over.
    """

    def __init__(
        self,
        folder: Path,
        fields: tuple[str, ...] = ("colour", "depth", "lineart"),
        device: torch.device | str = "cpu",
        wanted: Callable[[str], bool] | None = None,
    ):
        self.folder, self.fields, self.device = folder, fields, torch.device(device)
        self.wanted = wanted
        self.parts: list[dict] = []
        self._read: set[str] = set()
        self.refresh()

    def refresh(self) -> None:
        """Read the shards that are new on disk."""
        for path in sorted(self.folder.glob("*.pt")):
            latents = self.folder / "latents" / path.name
            if path.name in self._read or ("latents" in self.fields and not latents.exists()):
                continue
            self._read.add(path.name)
            shard = torch.load(path, weights_only=True, mmap=True)
            if "latents" in self.fields:
                shard["latents"] = torch.load(latents, weights_only=True)
            if set(self.fields) <= set(shard):
                self._take_up({name: shard[name] for name in (*self.fields, "captions")})

    def _take_up(self, part: dict) -> None:
        if self.wanted is not None:
            rows = [i for i, text in enumerate(part["captions"]) if self.wanted(text)]
            part = {name: part[name][rows] for name in self.fields} | {
                "captions": [part["captions"][row] for row in rows]
            }
        if part["captions"]:
            self.parts.append(part)

    def __len__(self) -> int:
        return sum(len(part["captions"]) for part in self.parts)

    def sample(self, rng: random.Random, count: int) -> dict:
        """``count`` random clips: tensors [count, f, ...] on ``device`` by field, and a list of
        captions.
        """
        rows: dict[int, list[int]] = {}
        for _ in range(count):
            number = rng.randrange(len(self))
            part = 0
            while number >= len(self.parts[part]["captions"]):
                number -= len(self.parts[part]["captions"])
                part += 1
            rows.setdefault(part, []).append(number)
        at = {part: torch.tensor(picks) for part, picks in rows.items()}
        batch: dict = {
            name: torch.cat([self.parts[p][name][picks] for p, picks in at.items()]).to(self.device)
            for name in self.fields
        }
        batch["captions"] = [self.parts[p]["captions"][row] for p in rows for row in rows[p]]
        return batch


def cropped(batch: dict, side: int, rng: random.Random) -> dict:
    """A batch's latents, guides and regions in a square of ``side`` pixels at a random place.

    ``side`` is a multiple of 8, and 0 or not smaller than the pictures for all of them.
    """
    height, width = batch["latents"].shape[-2:]
    cut = side // 8
    if not 0 < cut < min(height, width):
        return batch
    top, left = (rng.randint(0, whole - cut) for whole in (height, width))
    made = {"captions": batch["captions"]}
    for name in batch.keys() - made.keys():
        # Guides and regions are finer than latents.
        times = batch[name].shape[-1] // width
        rows, columns = (slice(times * at, times * (at + cut)) for at in (top, left))
        made[name] = batch[name][..., rows, columns]
    return made


@torch.no_grad()
def add_latents(
    folder: Path, encode: Callable[[Tensor], Tensor], mirror: bool, device: torch.device
) -> int:
    """Store latents beside the pictures of every shard that has none yet; returns how many.

    ``encode`` maps pictures [n, 3, h, w] in [0, 1] to scaled latents. With ``mirror`` (stills)
    the field is [clips, 2, 4, h/8, w/8], the second of each pair that of the mirrored picture;
    without it is [clips, f, 4, h/8, w/8].
    """
    done = 0
    for path in sorted(folder.glob("*.pt"))[together.number() :: together.count()]:
        target = folder / "latents" / path.name
        if target.exists():
            continue
        target.parent.mkdir(exist_ok=True)
        colour = torch.load(path, weights_only=True)["colour"]
        flat = colour.flatten(0, 1).to(device)
        count = max(1, _PIXELS // flat[0, 0].numel())
        versions = [flat, flat.flip(-1)] if mirror else [flat]
        latents = [
            torch.cat([encode(part.float() / 255) for part in version.split(count)])
            for version in versions
        ]
        stacked = (
            torch.stack(latents, dim=1) if mirror else latents[0].unflatten(0, colour.shape[:2])
        )
        save_atomically(stacked.half().cpu(), target)
        done += 1
    return done
