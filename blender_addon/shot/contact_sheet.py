"""One picture of many, each with a label under it, for a look at a shot's guides at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .png import Picture

BACKGROUND, INK = 40, 225
GAP = 4
# Five by seven pixels a glyph, a byte for each row from the top, its low five bits from the left.
_GLYPHS = {
    " ": "00000000000000", "!": "04040404000004", "#": "0a0a1f0a1f0a0a", "%": "18190204081303",
    "'": "0c040800000000", "(": "02040808080402", ")": "08040202020408", "+": "0004041f040400",
    ",": "000000000c0408", "-": "0000001f000000", ".": "00000000000c0c", "/": "00010204081000",
    "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e",
    "4": "02060a121f0202", "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808",
    "8": "0e11110e11110e", "9": "0e11110f01020c", ":": "000c0c000c0c00", "<": "02040810080402",
    "=": "00001f001f0000", ">": "08040201020408", "?": "0e110102040004", "A": "0e11111f111111",
    "B": "1e11111e11111e", "C": "0e11101010110e", "D": "1e11111111111e", "E": "1f10101e10101f",
    "F": "1f10101e101010", "G": "0e11101711110f", "H": "1111111f111111", "I": "0e04040404040e",
    "J": "0702020202120c", "K": "11121418141211", "L": "1010101010101f", "M": "111b1515111111",
    "N": "11111915131111", "O": "0e11111111110e", "P": "1e11111e101010", "Q": "0e11111115120d",
    "R": "1e11111e141211", "S": "0f10100e01011e", "T": "1f040404040404", "U": "1111111111110e",
    "V": "11111111110a04", "W": "1111111515150a", "X": "11110a040a1111", "Y": "11110a04040404",
    "Z": "1f01020408101f", "_": "0000000000001f",
}  # fmt: skip
_COLUMNS, _ROWS, _ADVANCE = 5, 7, 6


def contact_sheet(pictures: Sequence[tuple[str, Picture]], columns: int) -> NDArray[np.uint8]:
    """Return ``pictures`` in rows of ``columns`` with their labels, uint8 [H, W, 3].

    Each is a label and an array, uint8 or uint16 (shown by its high byte), [H, W] gray or
    [H, W, 3 or 4] (alpha is not shown). Labels are drawn in capitals and cut to the picture's
    width. Raises ValueError when there are no pictures or columns.
    """
    if not pictures or columns < 1:
        raise ValueError("a contact sheet needs pictures and columns")
    columns = min(columns, len(pictures))
    shown = [(label, _rgb(array)) for label, array in pictures]
    width = max(array.shape[1] for _, array in shown)
    height = max(array.shape[0] for _, array in shown)
    # Legible at a model's 128 pixels as at 1024.
    scale = max(1, round(width / 256))
    line = (_ROWS + 4) * scale
    rows = -(-len(shown) // columns)
    across, down = width + GAP, height + line + GAP
    sheet = np.full((rows * down + GAP, columns * across + GAP, 3), BACKGROUND, np.uint8)
    for index, (label, array) in enumerate(shown):
        top, left = GAP + index // columns * down, GAP + index % columns * across
        sheet[top : top + array.shape[0], left : left + array.shape[1]] = array
        ink = _ink(label, scale)[:, :width]
        under = top + height + 2 * scale
        sheet[under : under + ink.shape[0], left : left + ink.shape[1]][ink] = INK
    return sheet


def _rgb(array: Picture) -> NDArray[np.uint8]:
    bytes_ = (array >> 8 if array.dtype == np.uint16 else array).astype(np.uint8)
    if bytes_.ndim == 2:
        return np.repeat(bytes_[..., None], 3, axis=2)
    return bytes_[..., :3]


def _ink(label: str, scale: int) -> NDArray[np.bool_]:
    """Return the pixels of a line of text, bool [7 * scale, 6 * scale * characters]."""
    ink = np.zeros((_ROWS, _ADVANCE * len(label)), bool)
    for index, character in enumerate(label.upper()):
        rows = np.frombuffer(bytes.fromhex(_GLYPHS.get(character, _GLYPHS["?"])), np.uint8)
        bits = np.unpackbits(rows[:, None], axis=1)[:, -_COLUMNS:]
        ink[:, index * _ADVANCE : index * _ADVANCE + _COLUMNS] = bits
    return ink.repeat(scale, axis=0).repeat(scale, axis=1)
