"""The size in which guides and clip are made for a film of any shape."""

from __future__ import annotations

import itertools
import math

from .errors import ShotError

# The request's own limits on a side (presets/schema/request.schema.json).
SMALLEST, LARGEST = 64, 2048


def guide_size(
    film_width: float, film_height: float, native: int, multiple: int = 8
) -> tuple[int, int]:
    """Return (width, height) in pixels: the film's aspect on the area of ``native`` squared.

    ``film_width`` and ``film_height`` are what the scene's own render covers, pixel aspect and
    border crop included, in any unit. Both sides are multiples of ``multiple``, each less than one
    multiple from the ideal; of those the best aspect is taken, then the nearest area. The guide
    covers exactly what the film covers: its pixels, not quite square, absorb the rounding, and the
    strip is stretched back to the frame. A film so long that a side would fall under 64 gets that
    side and more area. Raises ShotError for a film without area, or one too long for 2048 pixels.
    """
    if not (film_width > 0 and film_height > 0):
        raise ShotError(
            f"The render is {film_width:g} x {film_height:g} pixels: set a resolution and a render "
            "border that have an area."
        )
    aspect = film_width / film_height
    short = max(native / math.sqrt(max(aspect, 1 / aspect)), SMALLEST)
    width, height = (short * aspect, short) if aspect >= 1 else (short, short / aspect)
    sides = itertools.product(_around(width, multiple), _around(height, multiple))
    best = min(
        sides,
        key=lambda s: (abs(math.log(s[0] / s[1] / aspect)), abs(s[0] * s[1] - width * height)),
    )
    if max(best) > LARGEST:
        raise ShotError(
            f"The film's shape, {film_width:g} to {film_height:g}, is too long: at this model's "
            f"size it would need a side of {max(best)} pixels, and {LARGEST} is the most. Choose a "
            "less extreme resolution."
        )
    return best


def _around(side: float, multiple: int) -> set[int]:
    smallest = math.ceil(SMALLEST / multiple)
    steps = (math.floor(side / multiple), math.ceil(side / multiple))
    return {max(step, smallest) * multiple for step in steps}
