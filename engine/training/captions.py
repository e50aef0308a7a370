"""Words for blockouts: what is in a scene, said in varied English.

The same tables name things for the caption and give the tokenizer its vocabulary.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

SHAPES: dict[str, tuple[str, ...]] = {
    "box": ("box", "block", "crate"),
    "sphere": ("sphere", "ball"),
    "cylinder": ("cylinder", "column", "drum"),
    "cone": ("cone",),
    "wedge": ("wedge", "ramp"),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "white": ("white",),
    "grey": ("grey", "gray"),
}
GROUNDS: dict[str, tuple[str, ...]] = {
    "grass": ("on grass", "on a lawn", "on a green meadow"),
    "sand": ("on sand", "in a desert", "on a sandy beach"),
    "snow": ("on snow", "in the snow", "on a snowy field"),
    "asphalt": ("on asphalt", "on a dark road", "on tarmac"),
    "earth": ("on brown earth", "on dirt", "on red soil"),
}
LIGHTS: dict[str, tuple[str, ...]] = {
    "noon": ("at noon", "in bright sunlight", "on a sunny day", "under a blue sky"),
    "sunset": ("at sunset", "at golden hour", "in warm evening light", "under an orange sky"),
    "night": ("at night", "in moonlight", "under a dark night sky"),
    "overcast": ("on an overcast day", "under a cloudy sky", "in soft grey light"),
    "fog": ("in fog", "on a foggy morning", "in thick mist"),
}
MOVES: dict[str, tuple[str, ...]] = {
    "static": ("static camera", "locked-off shot", "still camera"),
    "dolly in": ("dolly in", "the camera moves closer", "push in"),
    "dolly out": ("dolly out", "the camera moves back", "pull back"),
    "truck left": ("truck left", "the camera slides left"),
    "truck right": ("truck right", "the camera slides right"),
    "pan left": ("pan left", "the camera pans left"),
    "pan right": ("pan right", "the camera pans right"),
    "tilt up": ("tilt up", "the camera tilts up"),
    "tilt down": ("tilt down", "the camera tilts down"),
    "orbit left": ("orbit left", "the camera orbits left"),
    "orbit right": ("orbit right", "the camera orbits right"),
    "crane up": ("crane up", "the camera rises"),
    "crane down": ("crane down", "the camera sinks"),
    "zoom in": ("zoom in", "the lens zooms in"),
    "zoom out": ("zoom out", "the lens zooms out"),
}
SHAPE_NAMES = tuple(SHAPES)
COLOUR_NAMES = tuple(COLOURS)
GROUND_NAMES = tuple(GROUNDS)
LIGHT_NAMES = tuple(LIGHTS)
MOVE_NAMES = tuple(MOVES)

_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight")
# How a place is said, and what it is built of: boxes, all of them.
_PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "city": (
        ("a city of {}", "a small town of {}", "rows of {}", "a street of {}"),
        ("blocks", "buildings", "towers", "boxes"),
    ),
    "street": (
        ("a street of {}", "a street of {}", "a road between {}"),
        ("buildings", "houses", "blocks", "towers"),
    ),
    "room": (("a room with {}", "a room of {}", "an interior with {}", "{}"), ("walls",)),
}
_OPENINGS = ("", "", "", "a blockout of ", "a simple scene of ", "a 3d render of ")
_SPEEDS = ("", "", "slow ", "smooth ")
_PLURALS = {"box": "boxes", "person": "people", "man": "men"}
FIGURE_PARTS = 6  # legs, trunk, head and arms, each a solid
_FIGURES = ("figure", "person", "man")
_NOUNS = SHAPES | {"figure": _FIGURES}


@dataclass(frozen=True)
class SceneWords:
    """What a caption may name; every string is a key of the tables above.

    ``things`` lists (colour, shape) per object; the first ``walls`` make up the ``place``, one of
    "objects" (no walls), "city", "street" and "room"; of "figures" they are the people, so many
    parts each. ``moving`` is an index into it, or None.
    """

    things: tuple[tuple[str, str], ...]
    ground: str
    light: str
    move: str | None
    place: str = "objects"
    walls: int = 0
    moving: int | None = None


def plural(noun: str) -> str:
    """The plural of a shape's noun."""
    return _PLURALS.get(noun, noun + "s")


_COLOUR_OF = {word: colour for colour, words in COLOURS.items() for word in words}
_SHAPE_OF = {noun: shape for shape, nouns in SHAPES.items() for noun in nouns}
_SHAPE_OF |= {plural(noun): shape for noun, shape in _SHAPE_OF.items()}
_SHAPE_OF |= {noun: "box" for figure in _FIGURES for noun in (figure, plural(figure))}
_SHAPE_OF |= {noun: "box" for _, nouns in _PLACES.values() for noun in nouns}
_MENTION = re.compile(rf"\b({'|'.join(_COLOUR_OF)}) ({'|'.join(_SHAPE_OF)})\b")
_SHARED_NOUN = re.compile(rf"\b({'|'.join(_COLOUR_OF)}) and ({'|'.join(_COLOUR_OF)}) ")


def _listed(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _things(words: SceneWords, rng: random.Random) -> str:
    people = words.things[: words.walls : FIGURE_PARTS] if words.place == "figures" else ()
    counts = Counter([(colour, "figure") for colour, _ in people])
    counts.update(words.things[words.walls :])
    place = []
    if words.place in _PLACES:
        sayings, nouns = _PLACES[words.place]
        colours = list(dict.fromkeys(colour for colour, _ in words.things[: words.walls]))
        named = " and ".join(rng.choice(COLOURS[colour]) for colour in colours)
        place = [rng.choice(sayings).format(f"{named} {rng.choice(nouns)}")]
    parts = []
    for (colour, shape), count in counts.items():
        colour_word, noun = rng.choice(COLOURS[colour]), rng.choice(_NOUNS[shape])
        if count == 1:
            parts.append(f"{'an' if colour_word[0] in 'aeiou' else 'a'} {colour_word} {noun}")
        else:
            parts.append(f"{_NUMBERS[count]} {colour_word} {plural(noun)}")
    rng.shuffle(parts)
    return _listed(place + parts)


def mentions(text: str) -> list[tuple[str, str, int, int]]:
    """What a caption names by colour and shape: (colour, shape, place of the noun's first character
    and of the one behind it).

    Of two colours that share one noun ("a city of red and blue blocks") only the last is found.
    """
    return [
        (_COLOUR_OF[found[1]], _SHAPE_OF[found[2]], found.start(2), found.end(2))
        for found in _MENTION.finditer(text)
    ]


def tells_colours(text: str) -> bool:
    """Whether a caption says of each thing which colour it has: it names some, and of no shape
    two of different colours.
    """
    named = {(shape, colour) for colour, shape, *_ in mentions(text)}
    shapes = {shape for shape, _ in named}
    return 0 < len(named) == len(shapes) and not _SHARED_NOUN.search(text)


def caption(words: SceneWords, rng: random.Random) -> str:
    """One caption for a scene, in one of many wordings."""
    ground, light = rng.choice(GROUNDS[words.ground]), rng.choice(LIGHTS[words.light])
    text = rng.choice(_OPENINGS) + _things(words, rng)
    if rng.random() < 0.15:
        text = f"{light}, {text} {ground}"
    else:
        text = f"{text} {ground}{', ' if rng.random() < 0.3 else ' '}{light}"
    if words.moving is not None:
        colour, shape = words.things[words.moving]
        noun = "figure" if words.moving < words.walls else SHAPES[shape][0]
        text += f", the {colour} {noun} moves"
    if words.move is not None and rng.random() < 0.9:
        text += f", {rng.choice(_SPEEDS)}{rng.choice(MOVES[words.move])}"
    return text


def random_words(rng: random.Random) -> SceneWords:
    """Any combination the tables allow (for the tokenizer's vocabulary, and for tests)."""
    things = tuple(
        (rng.choice(COLOUR_NAMES), rng.choice(SHAPE_NAMES)) for _ in range(rng.randint(1, 5))
    )
    place = rng.choice(("objects", "objects", "figures", *_PLACES))
    walls = 0
    if place != "objects":
        walls = FIGURE_PARTS if place == "figures" else 4
        colours = rng.sample(COLOUR_NAMES, 1 if place == "figures" else 2)
        things = tuple((rng.choice(colours), "box") for _ in range(walls)) + things[:2]
    return SceneWords(
        things=things,
        ground=rng.choice(GROUND_NAMES),
        light=rng.choice(LIGHT_NAMES),
        move=rng.choice(MOVE_NAMES),
        place=place,
        walls=walls,
        moving=0 if place not in _PLACES and rng.random() < 0.2 else None,
    )


def vocabulary_corpus(seed: int = 0, captions: int = 4000) -> list[str]:
    """Captions that between them use every word of the tables; the tokenizer is trained on them."""
    rng = random.Random(seed)
    return [caption(random_words(rng), rng) for _ in range(captions)]


def known_words() -> dict[str, Any]:
    """What the card of a model that has read these captions alone says of its vocabulary: all
    words, those that are colours, and a caption to begin with."""
    said = [word for table in (COLOURS, GROUNDS, LIGHTS, MOVES) for word in chain(*table.values())]
    said += [form for noun in chain(*_NOUNS.values()) for form in (noun, plural(noun))]
    said += [word for saying in chain(*_PLACES.values()) for word in saying]
    said += [*_NUMBERS[1:], *_OPENINGS, *_SPEEDS, "an", "and", "the", "moves"]
    words = {word for text in said for word in re.findall(r"\w+", text)}
    return {
        "words": sorted(words),
        "colours": sorted(_COLOUR_OF),
        "example": "a red box and two yellow balls on grass at sunset",
    }
