"""Random blockouts: what stands where, in what light, seen by what camera.

Everything is drawn from one seeded generator, so that a seed names a data set.
"""

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from . import captions
from .raycast import BOX, CONE, CYLINDER, SPHERE, WEDGE, Scene

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
GROUNDS = {
    "grass": (0.13, 0.27, 0.05),
    "sand": (0.60, 0.43, 0.21),
    "snow": (0.80, 0.84, 0.90),
    "asphalt": (0.06, 0.06, 0.07),
    "earth": (0.20, 0.10, 0.05),
}


# Colour and shape that no training scene brings together, each known from other pairs: whether a
# model has learned words or pictures shows in these.
HELD_OUT_PAIRS = (
    ("red", CONE),
    ("yellow", CYLINDER),
    ("green", SPHERE),
    ("purple", WEDGE),
)


@dataclass(frozen=True)
class Light:
    """Sun and sky of one kind of light; colours linear RGB, elevation in degrees, fog per
    distance from camera to scene."""

    sun: tuple[float, float, float]
    sky: tuple[float, float, float]
    horizon: tuple[float, float, float]
    zenith: tuple[float, float, float]
    elevation: tuple[float, float]
    fog: tuple[float, float]


LIGHTS = {
    "noon": Light(
        (0.95, 0.92, 0.85), (0.30, 0.34, 0.42), (0.60, 0.74, 0.90), (0.12, 0.30, 0.75), (40, 70),
        (0.00, 0.04),
    ),
    "sunset": Light(
        (1.20, 0.55, 0.20), (0.20, 0.17, 0.24), (0.95, 0.45, 0.18), (0.22, 0.16, 0.38), (12, 28),
        (0.01, 0.08),
    ),
    "night": Light(
        (0.10, 0.13, 0.24), (0.025, 0.035, 0.07), (0.03, 0.045, 0.10), (0.004, 0.007, 0.025),
        (30, 60), (0.00, 0.04),
    ),
    "overcast": Light(
        (0.06, 0.06, 0.06), (0.55, 0.56, 0.58), (0.62, 0.63, 0.65), (0.45, 0.47, 0.50), (50, 80),
        (0.00, 0.06),
    ),
    "fog": Light(
        (0.12, 0.12, 0.12), (0.52, 0.53, 0.55), (0.66, 0.68, 0.70), (0.60, 0.62, 0.65), (40, 70),
        (0.35, 0.90),
    ),
}  # fmt: skip

_KINDS = (BOX, SPHERE, CYLINDER, CONE, WEDGE)
_KIND_WEIGHTS = (0.42, 0.20, 0.18, 0.14, 0.06)
_HALF_RANGE = {
    BOX: ((0.3, 1.2), (0.3, 2.2)),
    SPHERE: ((0.4, 1.1), (0.4, 1.1)),
    CYLINDER: ((0.3, 0.8), (0.4, 1.9)),
    CONE: ((0.5, 1.0), (0.6, 1.6)),
    WEDGE: ((0.5, 1.3), (0.4, 1.0)),
}


@dataclass
class Blockouts:
    """A batch of scenes and what their captions say."""

    scene: Scene
    words: list[captions.SceneWords]
    captions: list[str]


def _look(eye: Tensor, target: Tensor) -> Tensor:
    """Camera axes [f, 3, 3] (columns right, up, back) at ``eye`` [f, 3] looking at ``target``."""
    back = torch.nn.functional.normalize(eye - target, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).expand_as(back)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=-1)
    return torch.stack([right, torch.linalg.cross(back, right), back], dim=-1)


def _turn(axis: int, angle: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] about a coordinate axis, by radians."""
    matrix = torch.eye(3).repeat(*angle.shape, 1, 1)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., first, first] = matrix[..., second, second] = angle.cos()
    matrix[..., second, first] = angle.sin()
    matrix[..., first, second] = -angle.sin()
    return matrix


def _camera(rng: random.Random, move: str, time: Tensor, centre: Tensor, radius: float) -> tuple:
    """Eye [f, 3], axes [f, 3, 3] and focal length [f] of a move; ``time`` runs from 0 to 1."""
    focal = math.exp(rng.uniform(math.log(24), math.log(85)))
    half_view = math.atan(18 / focal)
    # A tighter factor than 1 lets objects leave the frame now and then, as in real shots.
    distance = radius * rng.uniform(0.6, 1.25) / math.sin(half_view)
    azimuth = rng.uniform(-math.pi, math.pi)
    elevation = math.radians(rng.choice((rng.uniform(2, 15), rng.uniform(10, 35), 60)))
    elevation = min(elevation, math.radians(rng.uniform(35, 60)))
    target = centre + torch.tensor([rng.gauss(0, 0.15), rng.gauss(0, 0.15), rng.gauss(0, 0.1)]) * (
        radius
    )
    target = target.expand(len(time), 3).clone()
    amount = rng.uniform(0.5, 1.0)
    sign = -1.0 if move.split(" ")[-1] in ("left", "down", "out") else 1.0
    # Left and right, in and out, are mirror images in time, so that both ends are equally likely.
    moved = sign * amount * (time - 0.5)
    azimuths = torch.full_like(time, azimuth)
    distances = torch.full_like(time, distance)
    focals = torch.full_like(time, focal)
    kind = move.split(" ")[0]
    if kind == "dolly":
        distances = distance * (1 - 0.6 * moved)
    elif kind == "orbit":
        azimuths = azimuths + moved * math.radians(70)
    elif kind == "zoom":
        focals = focal * torch.exp(0.8 * moved)
    out = torch.stack([azimuths.cos(), azimuths.sin()], dim=-1) * math.cos(elevation)
    eye = target + distances[:, None] * torch.cat(
        [out, torch.full_like(time, math.sin(elevation))[:, None]], dim=-1
    )
    view = _look(eye, target)
    width = distance * math.tan(half_view)
    if kind == "truck":
        eye = eye + view[:, :, 0] * (moved * 0.9 * width)[:, None]
    elif kind == "crane":
        eye = eye + torch.tensor([0.0, 0.0, 1.0]) * (moved * 0.9 * width)[:, None]
    elif kind == "pan":
        view = _turn(2, -moved * half_view * 0.9) @ view
    elif kind == "tilt":
        view = view @ _turn(0, moved * half_view * 0.9)
    eye[:, 2] = eye[:, 2].clamp(min=0.25)
    return eye, view, focals


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
    rotation = _turn(2, torch.tensor(rng.uniform(0, 2 * math.pi)))
    lift = z
    if kind == CYLINDER and rng.random() < 0.25:
        rotation, lift = rotation @ _turn(0, torch.tensor(math.pi / 2)), x
    elif kind == BOX and rng.random() < 0.1:
        tilt = rng.uniform(0.2, 0.6)
        rotation = rotation @ _turn(0, torch.tensor(tilt))
        lift = z * math.cos(tilt) + y * math.sin(tilt)
    return torch.tensor([x, y, z]), rotation, lift


def _place(rng: random.Random, placed: list[tuple[float, float, float]], size: float) -> tuple:
    """A free spot near the others: (x, y) at least ``size`` from what is ``placed`` (x, y, r)."""
    spread = 1.2 + 0.9 * len(placed)
    spots = [(rng.gauss(0, spread), rng.gauss(0, spread)) for _ in range(24)]

    def clearance(spot: tuple[float, float]) -> float:
        return min((math.dist(spot, (x, y)) - r - size for x, y, r in placed), default=1.0)

    return next((spot for spot in spots if clearance(spot) > 0), max(spots, key=clearance))


def _jittered(rng: random.Random, colour: tuple[float, float, float]) -> Tensor:
    level = math.exp(rng.gauss(0, 0.12))
    return torch.tensor([c * level * math.exp(rng.gauss(0, 0.08)) for c in colour]).clamp(0, 0.95)


def _looks(rng: random.Random, palette: list[str], held_out: bool) -> list[tuple[str, int]]:
    """One to three pairs of colour and kind. ``held_out``: the first is of HELD_OUT_PAIRS, of which
    there are none otherwise."""
    looks = [
        (rng.choice(palette), rng.choices(_KINDS, _KIND_WEIGHTS)[0])
        for _ in range(rng.choice((1, 2, 2, 3, 3)))
    ]
    if held_out:
        return [rng.choice(HELD_OUT_PAIRS), *looks[1:]]
    names = list(COLOURS)
    return [
        (names[(names.index(colour) + 1) % len(names)], kind)
        if (colour, kind) in HELD_OUT_PAIRS
        else (colour, kind)
        for colour, kind in looks
    ]


def _objects(
    rng: random.Random, entry: dict[str, Tensor], palette: list[str], held_out: bool
) -> list:
    """Fill one clip's slots with one to five solids; returns (colour, kind) per object."""
    things = []
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
            x, y = _place(rng, placed, reach)
            placed.append((x, y, reach))
            flat = kind in (BOX, CYLINDER) and lift == half[2]
            top = (x, y, 2 * lift, 0.9 * float(half[:2].min())) if flat else None
        entry["kind"][slot], entry["half"][slot], entry["rotation"][slot] = kind, half, rotation
        entry["centre"][:, slot] = torch.tensor([x, y, lift])
        entry["colour"][slot] = _jittered(rng, COLOURS[colour])
        things.append((colour, kind))
    return things


def _city(rng: random.Random, entry: dict[str, Tensor], palette: list[str]) -> list:
    """Rows of boxes, like houses along streets."""
    columns, rows = rng.randint(2, CITY_SIDE), rng.randint(2, CITY_SIDE)
    colours = rng.sample(palette, rng.choice((1, 1, 2)))
    pitch, turn = rng.uniform(2.2, 3.4), torch.tensor(rng.uniform(0, 2 * math.pi))
    tallest = rng.uniform(0.8, 3.5)
    things = []
    for slot in range(columns * rows):
        column, row = slot % columns, slot // columns
        half = torch.tensor([rng.uniform(0.6, 1), rng.uniform(0.6, 1), rng.uniform(0.4, tallest)])
        spot = torch.tensor([column - (columns - 1) / 2, row - (rows - 1) / 2, 0.0]) * pitch
        entry["kind"][slot], entry["half"][slot] = BOX, half
        entry["rotation"][slot] = _turn(2, turn)
        entry["centre"][:, slot] = _turn(2, turn) @ spot + torch.tensor([0, 0, float(half[2])])
        colour = rng.choice(colours)
        entry["colour"][slot] = _jittered(rng, COLOURS[colour])
        things.append((colour, BOX))
    return things


def _bounds(entry: dict[str, Tensor], count: int) -> tuple[Tensor, float]:
    """Centre and radius of what the camera is to show."""
    centre, size = entry["centre"][0, :count], entry["half"][:count].norm(dim=-1)
    low = (centre - size[:, None]).amin(dim=0)
    high = (centre + size[:, None]).amax(dim=0)
    low[2] = low[2].clamp(min=0)
    return (low + high) / 2, max(1.0, 0.4 * float((high - low).norm()))


def make_blockouts(
    seed: int, clips: int, times: Tensor, city: float = 0.15, held_out: bool = False
) -> Blockouts:
    """``clips`` random scenes at ``times`` [f] in [0, 1] of their clip (one time: a still).

    ``times`` of shape [clips, f] gives each clip its own. Same seed, same scenes, on any machine
    with the same versions. ``held_out`` scenes show HELD_OUT_PAIRS (a city, which has only boxes,
    none), the others never do. Captions name a camera move only where there is more than one frame.
    """
    rng = random.Random(seed)
    times = times.expand(clips, times.shape[-1])
    frames = times.shape[-1]
    entries: list[dict[str, Tensor]] = []
    all_words, texts = [], []
    for clip in range(clips):
        entry = {
            "kind": torch.full((OBJECTS,), -1),
            "half": torch.ones(OBJECTS, 3),
            "rotation": torch.eye(3).repeat(OBJECTS, 1, 1),
            "centre": torch.zeros(frames, OBJECTS, 3),
            "colour": torch.zeros(OBJECTS, 3),
        }
        palette = list(COLOURS)
        is_city = rng.random() < city
        things = _city(rng, entry, palette) if is_city else _objects(rng, entry, palette, held_out)
        ground, light_name = rng.choice(list(GROUNDS)), rng.choice(list(LIGHTS))
        move = rng.choice(captions.MOVE_NAMES)
        centre, radius = _bounds(entry, len(things))
        eye, view, focal = _camera(rng, move, times[clip], centre, radius)
        moving = rng.randrange(len(things)) if not is_city and rng.random() < 0.2 else None
        if moving is not None:
            heading = rng.uniform(-math.pi, math.pi)
            step = torch.tensor([math.cos(heading), math.sin(heading), 0.0]) * rng.uniform(1, 2.5)
            entry["centre"][:, moving] += (times[clip][:, None] - 0.5) * step
        light = LIGHTS[light_name]
        elevation = math.radians(rng.uniform(*light.elevation))
        azimuth = rng.uniform(-math.pi, math.pi)
        level = math.exp(rng.gauss(0, 0.08))
        entry |= {
            "ground_colour": _jittered(rng, GROUNDS[ground]),
            "ground_size": torch.tensor(radius * math.exp(rng.uniform(1.6, 3.5))),
            "sun": torch.tensor(
                [
                    math.cos(elevation) * math.cos(azimuth),
                    math.cos(elevation) * math.sin(azimuth),
                    math.sin(elevation),
                ]
            ),
            "sun_colour": torch.tensor(light.sun) * level,
            "sky_light": torch.tensor(light.sky) * level,
            "horizon": torch.tensor(light.horizon),
            "zenith": torch.tensor(light.zenith),
            "fog": rng.uniform(*light.fog) / (eye[0] - centre).norm(),
            "camera": eye,
            "camera_rotation": view,
            "focal": focal,
        }
        entries.append(entry)
        words = captions.SceneWords(
            things=tuple((colour, captions.SHAPE_NAMES[kind]) for colour, kind in things),
            ground=ground,
            light=light_name,
            move=move if frames > 1 else None,
            city=is_city,
            moving=moving if frames > 1 else None,
        )
        all_words.append(words)
        texts.append(captions.caption(words, rng))
    stacked = {name: torch.stack([entry[name] for entry in entries]) for name in entries[0]}
    stacked["object_colour"] = stacked.pop("colour")
    return Blockouts(Scene(**stacked), all_words, texts)
