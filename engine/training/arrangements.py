"""What stands where in a random blockout: loose solids, a city from outside, a street, a room,
people.

Every arrangement fills one clip's slots of ``scenes.make_blockouts``: kind, half size, rotation,
centre and colour of each object.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .captions import FIGURE_PARTS
from .raycast import BOX, CONE, CYLINDER, SPHERE, WEDGE

CITY_SIDE = 4
OBJECTS = CITY_SIDE * CITY_SIDE

# Linear RGB.
COLOURS = {
    "red": (0.62, 0.03, 0.03),
    "orange": (0.80, 0.24, 0.02),
    "yellow": (0.80, 0.62, 0.04),
    "green": (0.04, 0.36, 0.07),
    "blue": (0.03, 0.12, 0.62),
    "purple": (0.28, 0.05, 0.50),
    "white": (0.85, 0.85, 0.85),
    "grey": (0.26, 0.26, 0.27),
}


# Colour and shape that no training scene brings together, each known from other pairs: whether a
# model has learned words or pictures shows in these.
HELD_OUT_PAIRS = (
    ("red", CONE),
    ("yellow", CYLINDER),
    ("green", SPHERE),
    ("purple", WEDGE),
)

_SPOTS = 24  # tried for each loose solid
_KINDS = (BOX, SPHERE, CYLINDER, CONE, WEDGE)
_KIND_WEIGHTS = (0.42, 0.20, 0.18, 0.14, 0.06)
_HALF_RANGE = {
    BOX: ((0.3, 1.2), (0.3, 2.2)),
    SPHERE: ((0.4, 1.1), (0.4, 1.1)),
    CYLINDER: ((0.3, 0.8), (0.4, 1.9)),
    CONE: ((0.5, 1.0), (0.6, 1.6)),
    WEDGE: ((0.5, 1.3), (0.4, 1.0)),
}


@dataclass(frozen=True)
class Stance:
    """Where a camera stands in the middle of its move; metres, radians, mm.

    It looks at ``target`` [3] over ``distance``, from ``azimuth`` about the vertical and
    ``elevation`` over the horizon. It must not leave its spot by more than ``freedom`` sideways or
    upwards, where walls are. ``reach`` is how far the place goes that it stands in.
    """

    target: Tensor
    distance: float
    azimuth: float
    elevation: float
    focal: float
    freedom: float
    reach: float


@dataclass
class Arrangement:
    """(colour, kind) per object; the first ``walls`` are the place itself, such as houses, or
    people's parts, which are called boxes. ``movable`` has the first part of each thing that may
    move, and as its step of how many parts one is. ``stance`` is None where the camera may look on
    from any side."""

    things: list[tuple[str, int]]
    walls: int
    movable: range
    stance: Stance | None = None


def turned(axis: int, angle: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] about a coordinate axis, by radians."""
    matrix = torch.eye(3).repeat(*angle.shape, 1, 1)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., first, first] = matrix[..., second, second] = angle.cos()
    matrix[..., second, first] = angle.sin()
    matrix[..., first, second] = -angle.sin()
    return matrix


def jittered(rng: random.Random, colour: tuple[float, float, float]) -> Tensor:
    level = math.exp(rng.gauss(0, 0.12))
    return torch.tensor([c * level * math.exp(rng.gauss(0, 0.08)) for c in colour]).clamp(0, 0.95)


def _solid(rng: random.Random, kind: int) -> tuple[Tensor, Tensor, float]:
    """Half sizes [3], rotation [3, 3] and height of the centre over the ground."""
    (low, high), (low_z, high_z) = _HALF_RANGE[kind]
    x, y, z = rng.uniform(low, high), rng.uniform(low, high), rng.uniform(low_z, high_z)
    if kind == SPHERE:
        x = y = z
    elif kind in (CYLINDER, CONE):
        y = x
    elif kind == BOX and rng.random() < 0.3:
        y = z = x
    rotation = turned(2, torch.tensor(rng.uniform(0, 2 * math.pi)))
    lift = z
    if kind == CYLINDER and rng.random() < 0.25:
        rotation, lift = rotation @ turned(0, torch.tensor(math.pi / 2)), x
    elif kind == BOX and rng.random() < 0.1:
        tilt = rng.uniform(0.2, 0.6)
        rotation = rotation @ turned(0, torch.tensor(tilt))
        lift = z * math.cos(tilt) + y * math.sin(tilt)
    return torch.tensor([x, y, z]), rotation, lift


def _free(
    placed: list[tuple[float, float, float]], size: float, spots: list[tuple[float, float]]
) -> tuple[float, float]:
    """The first of the ``spots`` (x, y) that is ``size`` from all that is ``placed`` (x, y, r);
    the freest where none is."""

    def clearance(spot: tuple[float, float]) -> float:
        return min((math.dist(spot, (x, y)) - r - size for x, y, r in placed), default=1.0)

    return next((spot for spot in spots if clearance(spot) > 0), max(spots, key=clearance))


def _seen(colour: str, kind: int) -> str:
    """The colour, or the next one where the pair is held out."""
    names = list(COLOURS)
    held_out = (colour, kind) in HELD_OUT_PAIRS
    return names[(names.index(colour) + 1) % len(names)] if held_out else colour


def _looks(rng: random.Random, palette: list[str], held_out: bool) -> list[tuple[str, int]]:
    """One to three pairs of colour and kind. ``held_out``: the first is of HELD_OUT_PAIRS, of which
    there are none otherwise."""
    looks = [
        (rng.choice(palette), rng.choices(_KINDS, _KIND_WEIGHTS)[0])
        for _ in range(rng.choice((1, 2, 2, 3, 3)))
    ]
    if held_out:
        return [rng.choice(HELD_OUT_PAIRS), *looks[1:]]
    return [(_seen(colour, kind), kind) for colour, kind in looks]


class Slots:
    """Fills one clip's slots, ``entry``, one object after the other."""

    def __init__(self, rng: random.Random, entry: dict[str, Tensor]):
        self.rng, self.entry = rng, entry
        self.things: list[tuple[str, int]] = []

    def add(
        self, colour: str, kind: int, half: Tensor, centre: Tensor, rotation: Tensor | None = None
    ) -> None:
        """A solid in the next slot; shapes as in ``raycast.Scene``."""
        entry, slot = self.entry, len(self.things)
        entry["kind"][slot], entry["half"][slot] = kind, half
        entry["rotation"][slot] = torch.eye(3) if rotation is None else rotation
        entry["centre"][:, slot] = centre
        entry["colour"][slot] = jittered(self.rng, COLOURS[colour])
        self.things.append((colour, kind))

    def box(self, colour: str, low: Sequence[float], high: Sequence[float]) -> None:
        """An upright box from corner to corner."""
        a, b = torch.tensor(low), torch.tensor(high)
        self.add(colour, BOX, (b - a) / 2, (a + b) / 2)

    def scatter(
        self,
        looks: list[tuple[str, int]],
        count: int,
        size: float,
        xs: tuple[float, float],
        ys: tuple[float, float],
        taken: Sequence[tuple[float, float]] = (),
    ) -> None:
        """``count`` loose solids on the ground, at most ``size`` times their common size, between
        ``xs`` and ``ys``, a metre from what is ``taken``."""
        rng = self.rng
        placed = [(x, y, 1.0) for x, y in taken]
        for _ in range(count):
            colour, kind = rng.choice(looks)
            half, rotation, lift = _solid(rng, kind)
            scale = size * rng.uniform(0.5, 1.0)
            reach = scale * float(half.max())
            spots = [(rng.uniform(*xs), rng.uniform(*ys)) for _ in range(_SPOTS)]
            x, y = _free(placed, reach, spots)
            placed.append((x, y, reach))
            self.add(colour, kind, half * scale, torch.tensor([x, y, lift * scale]), rotation)


def _objects(slots: Slots, palette: list[str], held_out: bool) -> Arrangement:
    """One to five solids, some on top of others."""
    rng = slots.rng
    placed: list[tuple[float, float, float]] = []
    looks = _looks(rng, palette, held_out)
    top: tuple[float, float, float, float] | None = None
    for slot in range(rng.choice((1, 2, 3, 3, 4, 5))):
        colour, kind = looks[slot] if slot < len(looks) else rng.choice(looks)
        half, rotation, lift = _solid(rng, kind)
        if top is not None and rng.random() < 0.25:
            x, y, base, width = top
            shrink = min(1.0, width / float(half[:2].max()))
            half, lift, top = half * shrink, lift * shrink + base, None
        else:
            reach = float(half[:2].max()) if lift == half[2] else float(half.max())
            spread = 1.2 + 0.9 * len(placed)
            spots = [(rng.gauss(0, spread), rng.gauss(0, spread)) for _ in range(_SPOTS)]
            x, y = _free(placed, reach, spots)
            placed.append((x, y, reach))
            flat = kind in (BOX, CYLINDER) and lift == half[2]
            top = (x, y, 2 * lift, 0.9 * float(half[:2].min())) if flat else None
        slots.add(colour, kind, half, torch.tensor([x, y, lift]), rotation)
    return Arrangement(slots.things, 0, range(len(slots.things)))


def _city(slots: Slots, palette: list[str], _held_out: bool) -> Arrangement:
    """Rows of boxes, like houses along streets, from outside."""
    rng = slots.rng
    columns, rows = rng.randint(2, CITY_SIDE), rng.randint(2, CITY_SIDE)
    colours = rng.sample(palette, rng.choice((1, 1, 2)))
    pitch, turn = rng.uniform(2.2, 3.4), torch.tensor(rng.uniform(0, 2 * math.pi))
    tallest = rng.uniform(0.8, 3.5)
    for slot in range(columns * rows):
        column, row = slot % columns, slot // columns
        half = torch.tensor([rng.uniform(0.6, 1), rng.uniform(0.6, 1), rng.uniform(0.4, tallest)])
        spot = torch.tensor([column - (columns - 1) / 2, row - (rows - 1) / 2, 0.0]) * pitch
        turning = turned(2, turn)
        centre = turning @ spot + torch.tensor([0, 0, float(half[2])])
        slots.add(rng.choice(colours), BOX, half, centre, turning)
    return Arrangement(slots.things, len(slots.things), range(0))


def _figure(slots: Slots, colour: str, spot: tuple[float, float], height: float) -> None:
    """A standing or striding stand-in for a person: FIGURE_PARTS solids in one colour."""
    rng = slots.rng
    heading = turned(2, torch.tensor(rng.uniform(0, 2 * math.pi)))
    kind, swing = rng.choice((BOX, CYLINDER)), rng.choice((0.0, rng.uniform(0.1, 0.5)))
    head = rng.choice((SPHERE, SPHERE, BOX))
    arms = rng.choice(((swing, -swing), (1.5, 1.5), (1.5, 0.0), (0.1, 0.1)))
    broad = rng.uniform(0.85, 1.25)
    # Shape, half size, what it hangs or stands on, and its lean there; in body heights.
    for part, (x, y, z), (across, base), lean in (
        (kind, (0.07, 0.08, 0.235), (0.09, 0.47), swing),
        (kind, (0.07, 0.08, 0.235), (-0.09, 0.47), -swing),
        (kind, (0.17, 0.10, 0.19), (0.0, 0.85), 0.0),
        (head, (0.075, 0.08, 0.08), (0.0, 1.0), 0.0),
        (kind, (0.045, 0.045, 0.19), (0.215, 0.84), arms[0]),
        (kind, (0.045, 0.045, 0.19), (-0.215, 0.84), arms[1]),
    ):
        leaning = turned(0, torch.tensor(lean))
        top = torch.tensor([across * broad, 0.0, base])
        centre = heading @ (top - leaning[:, 2] * z) * height + torch.tensor([*spot, 0.0])
        half = torch.tensor([x * broad, y * broad, z]) * height
        slots.add(colour, part, half, centre, heading @ leaning)
        slots.things[-1] = (colour, BOX)  # what it is called, whatever it is made of


def _figures(slots: Slots, palette: list[str], held_out: bool) -> Arrangement:
    """One or two people, and things about them."""
    rng = slots.rng
    spots = [(rng.gauss(0, 0.8), rng.gauss(0, 0.8))]
    if rng.random() < 0.5:
        away, apart = rng.uniform(0, 2 * math.pi), rng.uniform(1.1, 3)
        spots.append((spots[0][0] + apart * math.cos(away), spots[0][1] + apart * math.sin(away)))
    for spot in spots:
        _figure(slots, rng.choice(palette), spot, rng.uniform(1.5, 2.0))
    walls = len(slots.things)
    far = (-5.0, 5.0)
    slots.scatter(_looks(rng, palette, held_out), rng.choice((0, 1, 2, 3, 4)), 1.2, far, far, spots)
    return Arrangement(slots.things, walls, range(0, walls, FIGURE_PARTS))


def _street(slots: Slots, palette: list[str], held_out: bool) -> Arrangement:
    """Houses to both sides of the camera, now and then a landmark across the end; things on the
    road. The street runs along y, from the camera at about 0."""
    rng = slots.rng
    colours = rng.sample(palette, rng.choice((1, 1, 2, 2, 3)))
    half_width = rng.uniform(1.2, 3.5)
    tallest = rng.uniform(1.0, 5.0)
    behind = rng.uniform(0.3, 2.5)
    length = 0.0
    for side in (-1, 1) if rng.random() < 0.88 else (rng.choice((-1, 1)),):
        y = -behind - rng.uniform(0, 2)
        for _ in range(rng.choice((2, 3, 3, 4, 4))):
            deep, tall = rng.uniform(1.5, 5.0), rng.uniform(0.8, tallest)
            near = half_width * rng.uniform(1.0, 1.25)
            far = near + rng.uniform(1.5, 4.0)
            xs = sorted((side * near, side * far))
            slots.box(rng.choice(colours), (xs[0], y, 0.0), (xs[1], y + deep, 2 * tall))
            y += deep + rng.choice((0.0, rng.uniform(0.1, 1.5)))
        length = max(length, y)
    if rng.random() < 0.5:
        wide, tall = half_width * rng.uniform(0.7, 2.0), rng.uniform(0.8, 1.4 * tallest)
        y, kind = length + rng.uniform(0, 3), rng.choice((BOX, BOX, BOX, CYLINDER))
        half = torch.tensor([wide, wide, tall])
        slots.add(_seen(rng.choice(palette), kind), kind, half, torch.tensor([0.0, y + wide, tall]))
    walls = len(slots.things)
    size = half_width * rng.uniform(0.2, 0.5)
    road = (-0.75 * half_width, 0.75 * half_width), (0.8 * half_width, 0.9 * length)
    slots.scatter(_looks(rng, palette, held_out), rng.choice((0, 1, 1, 2, 3)), size, *road)
    distance = rng.uniform(0.4, 0.9) * length
    aside = half_width * rng.uniform(-0.5, 0.5)
    stance = Stance(
        target=torch.tensor([aside * rng.uniform(-1, 1), distance, rng.uniform(0.2, 1.2)]),
        distance=distance,
        azimuth=-math.pi / 2 + math.atan2(aside, distance) + rng.gauss(0, 0.05),
        elevation=math.radians(rng.choice((rng.uniform(-1, 6), rng.uniform(3, 15)))),
        focal=math.exp(rng.uniform(math.log(18), math.log(45))),
        freedom=0.35 * half_width,
        reach=length,
    )
    return Arrangement(slots.things, walls, range(walls, len(slots.things)), stance)


def _room(slots: Slots, palette: list[str], held_out: bool) -> Arrangement:
    """Two or three walls, perhaps a ceiling, and furniture; the camera stands inside, at the open
    side (y = -deep), and looks towards +y."""
    rng = slots.rng
    colours = rng.sample(palette, rng.choice((1, 1, 1, 2)))
    wide, deep, tall = rng.uniform(1.8, 4.5), rng.uniform(1.8, 4.5), rng.uniform(2.0, 4.5)
    thick = rng.uniform(0.1, 0.3)
    open_side = rng.choice((None, None, None, -1, 1))
    back, sides = rng.choice(colours), rng.choice(colours)
    slots.box(back, (-wide - thick, deep, 0.0), (wide + thick, deep + thick, tall))
    if open_side != -1:
        slots.box(sides, (-wide - thick, -2 * deep, 0.0), (-wide, deep, tall))
    if open_side != 1:
        slots.box(sides, (wide, -2 * deep, 0.0), (wide + thick, deep, tall))
    if rng.random() < 0.4:
        high = (wide + thick, deep + thick, tall + thick)
        slots.box(rng.choice((back, "white")), (-wide - thick, -2 * deep, tall), high)
    walls = len(slots.things)
    size = 0.25 * min(wide, deep) * rng.uniform(0.7, 1.5)
    floor = (-0.75 * wide, 0.75 * wide), (-0.5 * deep, 0.8 * deep)
    slots.scatter(_looks(rng, palette, held_out), rng.choice((1, 2, 2, 3, 4)), size, *floor)
    distance = deep * rng.uniform(1.0, 1.9)
    height = rng.uniform(0.2, 0.5) * tall
    rise = rng.uniform(-0.1, 0.35) * tall
    stance = Stance(
        target=torch.tensor([wide * rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3) * deep, height]),
        distance=distance,
        azimuth=-math.pi / 2 + rng.gauss(0, 0.25) * min(1.0, wide / distance),
        elevation=math.asin(min(0.6, rise / distance)),
        focal=math.exp(rng.uniform(math.log(18), math.log(40))),
        freedom=0.35 * min(wide, 0.5 * tall),
        reach=2 * deep,
    )
    return Arrangement(slots.things, walls, range(walls, len(slots.things)), stance)


# Each fills a clip's slots with colours of a palette, and with HELD_OUT_PAIRS where that is asked.
ARRANGEMENTS: dict[str, Callable[[Slots, list[str], bool], Arrangement]] = {
    "city": _city,
    "street": _street,
    "room": _room,
    "figures": _figures,
    "objects": _objects,
}
