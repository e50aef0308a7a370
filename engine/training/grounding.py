"""Teaches cross-attention which words of a caption speak of which place of the picture.

A caption that names several things in several colours says only indirectly, through the pictures'
colours, which words belong where; a small model keeps mixing them up. The renderer knows what
stands where, so the attention itself is told too. After TokenCompose (Wang et al. 2024, section
3.2), with one difference: what is compared at each place is the attention to one thing's noun with
that to the other nouns, so that words for ground and light stay free. Nouns alone, since CLIP's
text encoder reads from left to right: a noun knows its colour, a colour not its noun.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor
from transformers import CLIPTokenizer

from .captions import COLOUR_NAMES, SHAPE_NAMES, mentions

# Regions are kept at a quarter of the picture's side: half a latent.
STRIDE = 4


def look(colour: str, shape: str) -> int:
    """The number of a colour and shape in regions; 0 is ground and sky."""
    return 1 + COLOUR_NAMES.index(colour) * len(SHAPE_NAMES) + SHAPE_NAMES.index(shape)


def shapes(regions: Tensor) -> Tensor:
    """``look`` numbers -> 1 + the number of the shape, int64; 0 stays ground and sky."""
    return torch.where(regions > 0, (regions.long() - 1) % len(SHAPE_NAMES) + 1, 0)


def regions(ident: Tensor, things: Sequence[Sequence[tuple[str, str]]]) -> Tensor:
    """What stands where: uint8 [b, f, h/STRIDE, w/STRIDE] of ``look`` numbers.

    ``ident`` [b, f, h, w] has object number + 1 (0 and less: no object), ``things`` each clip's
    objects as (colour, shape).
    """
    middle = ident[:, :, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].long().clamp(min=0)
    made = torch.zeros_like(middle, dtype=torch.uint8)
    for clip, objects in enumerate(things):
        looks = torch.tensor([0, *(look(*thing) for thing in objects)], dtype=torch.uint8)
        made[clip] = looks[middle[clip].cpu()].to(made.device)
    return made


class Grounding:
    """Watches the attention to text in the upward half of ``unet``.

    Only that half gets a condition encoder's residuals, and knows what stands where. (Watched too,
    the encoder's own attention learned nothing in 300 steps.)
    """

    def __init__(self, unet: UNet2DConditionModel, tokenizer: CLIPTokenizer):
        self.tokenizer = tokenizer
        self._seen: list[Tensor] | None = None
        for name, part in unet.up_blocks.named_modules():
            if isinstance(part, Attention) and name.endswith("attn2"):
                part.register_forward_pre_hook(self._look_on, with_kwargs=True)

    def _look_on(self, attention: Any, inputs: tuple, named: dict[str, Any]) -> None:
        if self._seen is None:
            return
        asked, text = inputs[0], named["encoder_hidden_states"]
        query = attention.head_to_batch_dim(attention.to_q(asked))
        key = attention.head_to_batch_dim(attention.to_k(text))
        shares = attention.get_attention_scores(query, key)
        self._seen.append(shares.unflatten(0, (len(asked), -1)).float().mean(dim=1))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Forward passes in here are those that ``loss`` speaks of."""
        self._seen = []
        try:
            yield
        finally:
            self._seen = None

    def loss(self, captions: Sequence[str], regions: Tensor) -> Tensor:
        """Cross entropy of which thing's noun a place attends to, mean over places and layers.

        To be called while ``watching``. ``regions`` is [b, h, w]. Captions that name fewer than
        two things are passed over, as are places of things that are not named.
        """
        assert self._seen, "no forward pass was watched"
        nouns, where = self._named(captions, regions)
        total = regions.new_zeros((), dtype=torch.float32)
        for shares in self._seen:
            side = round(shares.shape[1] ** 0.5)
            cover = F.adaptive_avg_pool2d(where, side).flatten(2)
            # No product of matrices, which would be taken in half precision.
            mass = (nouns[:, :, None] * shares[:, None]).sum(dim=-1) + 1e-6
            # A row of padding attends to nothing, and is no rival.
            mass = mass * (nouns.sum(dim=2, keepdim=True) > 0)
            chosen = (mass / mass.sum(dim=1, keepdim=True).clamp(min=1e-6)).clamp(min=1e-6)
            total = total - (cover * chosen.log()).sum() / cover.sum().clamp(min=1.0)
        return total / len(self._seen)

    def _named(self, captions: Sequence[str], regions: Tensor) -> tuple[Tensor, Tensor]:
        """Each thing's nouns [b, things, tokens], and its places [b, things, h, w]."""
        read = self.tokenizer(
            list(captions), padding="max_length", truncation=True, return_offsets_mapping=True
        )
        offsets = torch.tensor(read["offset_mapping"])
        looks: list[list[int]] = []
        nouns: list[list[Tensor]] = []
        for text, spans in zip(captions, offsets, strict=True):
            named: dict[int, Tensor] = {}
            for colour, shape, first, last in mentions(text):
                inside = (spans[:, 0] >= first) & (spans[:, 1] <= last)
                inside &= spans[:, 1] > spans[:, 0]  # padding spans nothing
                number = look(colour, shape)
                named[number] = named.get(number, torch.zeros_like(inside)) | inside
            if len(named) < 2:
                named = {}
            looks.append(list(named))
            nouns.append(list(named.values()))
        most = max(1, *(len(row) for row in looks))
        table = torch.zeros(len(captions), most, offsets.shape[1])
        numbers = torch.full((len(captions), most), -1)
        for row, (found, tokens) in enumerate(zip(looks, nouns, strict=True)):
            for place, (number, inside) in enumerate(zip(found, tokens, strict=True)):
                numbers[row, place], table[row, place] = number, inside.float()
        device = regions.device
        where = regions[:, None].long() == numbers.to(device)[:, :, None, None]
        return table.to(device), where.float()
