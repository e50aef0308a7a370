"""Random blockouts: what stands where, in what light, seen by what camera.

Everything is drawn from one seeded generator, so that a seed names a data set.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from . import captions
from .arrangements import (
    ARRANGEMENTS,
    COLOURS,
    OBJECTS,
    Slots,
    Stance,
    jittered,
    turned,
)
from .raycast import Scene

# The share of scenes of each arrangement but loose objects, which are the rest.
PLACES = {"city": 0.15, "street": 0.14, "room": 0.12, "figures": 0.12}

# Linear RGB.

GROUNDS = {
    "grass": (0.13, 0.27, 0.05),
    "sand": (0.60, 0.43, 0.21),
    "snow": (0.80, 0.84, 0.90),
    "asphalt": (0.06, 0.06, 0.07),
    "earth": (0.20, 0.10, 0.05),
}


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


def _from_around(rng: random.Random, centre: Tensor, radius: float) -> Stance:
    """Outside of what is to be seen, on any side."""
    focal = math.exp(rng.uniform(math.log(24), math.log(85)))
    # A tighter factor than 1 lets objects leave the frame now and then, as in real shots.
    distance = radius * rng.uniform(0.6, 1.25) / math.sin(math.atan(18 / focal))
    azimuth = rng.uniform(-math.pi, math.pi)
    elevation = math.radians(rng.choice((rng.uniform(2, 15), rng.uniform(10, 35), 60)))
    elevation = min(elevation, math.radians(rng.uniform(35, 60)))
    away = torch.tensor([rng.gauss(0, 0.15), rng.gauss(0, 0.15), rng.gauss(0, 0.1)])
    return Stance(centre + away * radius, distance, azimuth, elevation, focal, math.inf, radius)


def _camera(rng: random.Random, move: str, time: Tensor, stance: Stance) -> tuple:
    """Eye [f, 3], axes [f, 3, 3] and focal length [f] of a move; ``time`` runs from 0 to 1."""
    half_view = math.atan(18 / stance.focal)
    amount = rng.uniform(0.5, 1.0)
    sign = -1.0 if move.split(" ")[-1] in ("left", "down", "out") else 1.0
    # Left and right, in and out, are mirror images in time, so that both ends are equally likely.
    moved = sign * amount * (time - 0.5)
    azimuths = torch.full_like(time, stance.azimuth)
    distances = torch.full_like(time, stance.distance)
    focals = torch.full_like(time, stance.focal)
    kind = move.split(" ")[0]
    if kind == "dolly":
        distances = stance.distance * (1 - 0.6 * moved)
    elif kind == "orbit":
        azimuths = azimuths + moved * min(math.radians(70), 2 * stance.freedom / stance.distance)
    elif kind == "zoom":
        focals = stance.focal * torch.exp(0.8 * moved)
    out = torch.stack([azimuths.cos(), azimuths.sin()], dim=-1) * math.cos(stance.elevation)
    eye = stance.target + distances[:, None] * torch.cat(
        [out, torch.full_like(time, math.sin(stance.elevation))[:, None]], dim=-1
    )
    view = _look(eye, stance.target.expand_as(eye))
    width = min(0.9 * stance.distance * math.tan(half_view), 2 * stance.freedom)
    if kind == "truck":
        eye = eye + view[:, :, 0] * (moved * width)[:, None]
    elif kind == "crane":
        eye = eye + torch.tensor([0.0, 0.0, 1.0]) * (moved * width)[:, None]
    elif kind == "pan":
        view = turned(2, -moved * half_view * 0.9) @ view
    elif kind == "tilt":
        view = view @ turned(0, moved * half_view * 0.9)
    eye[:, 2] = eye[:, 2].clamp(min=0.25)
    return eye, view, focals


def _bounds(entry: dict[str, Tensor], count: int) -> tuple[Tensor, float]:
    """Centre and radius of what the camera is to show, the first ``count`` objects."""
    centre, size = entry["centre"][0, :count], entry["half"][:count].norm(dim=-1)
    low = (centre - size[:, None]).amin(dim=0)
    high = (centre + size[:, None]).amax(dim=0)
    low[2] = low[2].clamp(min=0)
    return (low + high) / 2, max(1.0, 0.4 * float((high - low).norm()))


def _arrangement(rng: random.Random, places: Mapping[str, float]) -> str:
    draw = rng.random()
    for name, share in places.items():
        if draw < share:
            return name
        draw -= share
    return "objects"


def make_blockouts(
    seed: int,
    clips: int,
    times: Tensor,
    places: Mapping[str, float] = PLACES,
    held_out: bool = False,
) -> Blockouts:
    """``clips`` random scenes at ``times`` [f] in [0, 1] of their clip (one time: a still).

    ``times`` of shape [clips, f] gives each clip its own. Same seed, same scenes, on any machine
    with the same versions. ``places`` has the share of each arrangement but loose objects.
    ``held_out`` scenes show HELD_OUT_PAIRS (a city, which has only boxes, none; a street, only
    where things stand on it), the others never do. Captions name a camera move only where there is
    more than one frame.
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
        place = _arrangement(rng, places)
        made = ARRANGEMENTS[place](Slots(rng, entry), palette, held_out)
        things = made.things
        ground, light_name = rng.choice(list(GROUNDS)), rng.choice(list(LIGHTS))
        move = rng.choice(captions.MOVE_NAMES)
        if made.stance is None:
            centre, radius = _bounds(entry, made.walls or len(things))
            stance = _from_around(rng, centre, radius)
        else:
            stance, centre = made.stance, made.stance.target
        eye, view, focal = _camera(rng, move, times[clip], stance)
        moving = rng.choice(made.movable) if made.movable and rng.random() < 0.2 else None
        if moving is not None:
            heading = rng.uniform(-math.pi, math.pi)
            step = torch.tensor([math.cos(heading), math.sin(heading), 0.0]) * rng.uniform(1, 2.5)
            parts = slice(moving, moving + made.movable.step)
            entry["centre"][:, parts] += (times[clip] - 0.5)[:, None, None] * step
        light = LIGHTS[light_name]
        elevation = math.radians(rng.uniform(*light.elevation))
        azimuth = rng.uniform(-math.pi, math.pi)
        level = math.exp(rng.gauss(0, 0.08))
        entry |= {
            "ground_colour": jittered(rng, GROUNDS[ground]),
            "ground_size": torch.tensor(stance.reach * math.exp(rng.uniform(1.6, 3.5))),
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
            place=place,
            walls=made.walls,
            moving=moving if frames > 1 else None,
        )
        all_words.append(words)
        texts.append(captions.caption(words, rng))
    stacked = {name: torch.stack([entry[name] for entry in entries]) for name in entries[0]}
    stacked["object_colour"] = stacked.pop("colour")
    return Blockouts(Scene(**stacked), all_words, texts)
