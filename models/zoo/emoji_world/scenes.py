"""Scenes of the emoji world: one or two pictured objects on a coloured, patterned background, 64x64 pixels.

Synthetic by design: the objects, the words and every object's pixels are known exactly, which is what a
benchmark of concept explainers needs. Nothing measured on these scenes is a claim about photographs.

| symbol | meaning |
|---|---|
| pair | two different objects, order ignored |
| background | a colour and a pattern |
| combination | an object and a background colour |

Splits, kept apart by construction:
- "train": no pair of `HELD_OUT_PAIRS`, no combination of `HELD_OUT_COLOURS`.
- "heldout": scenes of two objects are `HELD_OUT_PAIRS` only; no combination of `HELD_OUT_COLOURS`. Scenes of one
  object show what training shows, drawn from another stream of random numbers.
- "heldout-colour": at least one object of each scene is on a colour of `HELD_OUT_COLOURS`; no held-out pair.

About 4 % of the pairs and 2 % of the combinations are held out, chosen by SHA-256 of their words: few, since what a
model never sees it learns to exclude. Scene `index` of `(split, seed)` comes from a generator of its own, seeded
`SeedSequence([seed, split number, index])`: no order, thread or platform changes it.

Scenes whose background gives the object away: a spurious feature, and pictures on which it misleads.

One object on a coloured, patterned background, as in `scenes`. Each class has a colour of its own, shared by two
classes, so that the colour alone names a pair of classes and the object's look decides within it.

| part | background colour | what it is for |
|---|---|---|
| mixed | the class's own in `OWN_SHARE` of the scenes, else another, all equally likely | training |
| agreeing | the class's own | held out: what training showed |
| disagreeing | never the class's own, the others equally likely | held out: the colour misleads |

Scene `index` of `(part, seed)` comes from a generator of its own, seeded `SeedSequence([seed, part number, index])`:
no order, thread or platform changes it, and parts and seeds are streams of their own. Neither the pairs nor the
combinations that `scenes` holds out are held out here: a colour that disagrees may be any.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from torch.utils.data import Dataset

from conceptry.models.errors import InputError
from conceptry.models.zoo.emoji_world.captions import caption
from conceptry.models.zoo.emoji_world.emoji import (
    COLOURS,
    OBJECTS,
    PATTERNS,
    SCENE_SIZE,
    background,
    check_object,
    object_image,
    sprite,
)

SPLITS = ("train", "heldout", "heldout-colour")
PAIR_SHARE, COLOUR_SHARE = 0.04, 0.02  # shares of pairs and of combinations that are held out
SIZES = {1: (26, 44), 2: (24, 36)}  # number of objects -> least and largest size of a sprite in pixels
MIN_VISIBLE = 0.85  # least share of the first object's pixels that the second one leaves visible


@dataclass(frozen=True)
class Scene:
    """One scene and all that is true of it."""

    objects: tuple[str, ...]  # one or two names, in drawing order: a later one may cover a little of an earlier one
    colour: str
    pattern: str
    image: np.ndarray  # uint8 (64, 64, 3), RGB
    masks: np.ndarray  # bool (n_objects, 64, 64): the visible pixels of each object; the rest is background
    caption: str

    @property
    def concepts(self) -> tuple[str, ...]:
        """The words that are true of the scene: its objects, its colour, its pattern."""
        return (*self.objects, self.colour, self.pattern)

    @property
    def background_mask(self) -> np.ndarray:
        """bool (64, 64): the pixels of no object."""
        return ~np.logical_or.reduce(self.masks, axis=0)

    @property
    def segments(self) -> dict[str, np.ndarray]:
        """bool (64, 64) by word: the pixels of each object; of colour and pattern those of the background."""
        ground = self.background_mask
        return dict(zip(self.objects, self.masks, strict=True)) | {self.colour: ground, self.pattern: ground}


def _held_out(words: Sequence[str], share: float) -> bool:
    digest = hashlib.sha256("|".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


HELD_OUT_PAIRS: frozenset[frozenset[str]] = frozenset(
    frozenset(pair) for pair in itertools.combinations(sorted(OBJECTS), 2) if _held_out(pair, PAIR_SHARE)
)
HELD_OUT_COLOURS: frozenset[tuple[str, str]] = frozenset(
    pair for pair in itertools.product(OBJECTS, COLOURS) if _held_out(pair, COLOUR_SHARE)
)


class EmojiScenes(Dataset[Scene]):
    """A data set of `size` scenes; item `i` is the same `Scene` every time.

    n_objects: 1, 2, or None for a coin toss per scene. objects: the names to draw from, None for all; both are part
    of the definition, so another choice gives other scenes. Raises InputError for an unknown split or object, a
    negative seed or size, or objects that leave the split nothing to draw.
    """

    def __init__(
        self, split: str, size: int, seed: int = 0, n_objects: int | None = None, objects: Sequence[str] | None = None
    ) -> None:
        if split not in SPLITS:
            raise InputError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if size < 0 or seed < 0:
            raise InputError(f"size and seed must be 0 or more, got size {size} and seed {seed}")
        if n_objects not in (None, 1, 2):
            raise InputError(f"n_objects must be 1, 2 or None for either, got {n_objects!r}")
        names = tuple(OBJECTS if objects is None else objects)
        for name in names:
            check_object(name)
        if len(set(names)) != len(names):
            raise InputError(f"objects must be distinct, got {names}")
        self.split, self.size, self.seed, self.n_objects, self.objects = split, size, seed, n_objects, names
        self._pairs = [
            pair
            for pair in itertools.combinations(names, 2)
            if (frozenset(pair) in HELD_OUT_PAIRS) == (split == "heldout")
        ]
        self._grounds = [
            ground
            for ground in itertools.product(names, COLOURS)
            if (ground in HELD_OUT_COLOURS) == (split == "heldout-colour")
        ]
        self._partners: dict[str, list[str]] = {name: [] for name in names}
        for first, second in self._pairs:
            self._partners[first].append(second)
            self._partners[second].append(first)
        if split == "heldout-colour" and n_objects != 1:
            self._grounds = [ground for ground in self._grounds if self._partners[ground[0]]]
        if not self._grounds or (n_objects != 1 and not self._pairs):
            raise InputError(f"these {len(names)} objects leave nothing to draw in split {split!r}; name more of them")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Scene:
        rng, (*objects, colour, pattern) = self._start(index)
        image = background(colour, pattern, int(rng.integers(1 << 16)))
        masks = place(rng, tuple(objects), image)
        return Scene(tuple(objects), colour, pattern, image, masks, caption(rng, objects, colour, pattern))

    def concepts(self, index: int) -> tuple[str, ...]:
        """`self[index].concepts`, without drawing the picture: some fifteen times as fast."""
        return self._start(index)[1]

    def _start(self, index: int) -> tuple[np.random.Generator, tuple[str, ...]]:
        """The words of scene `index`, and its generator as it is after drawing them."""
        if not 0 <= index < self.size:
            raise IndexError(f"scene {index} of {self.size}")
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, SPLITS.index(self.split), index]))
        count = int(rng.integers(1, 3)) if self.n_objects is None else self.n_objects
        objects, colour = self._draw_words(rng, count)
        return rng, (*objects, colour, PATTERNS[rng.integers(len(PATTERNS))])

    def definition(self) -> dict[str, object]:
        """The settings that, with this package's code and pictures, fix every scene."""
        return {
            "split": self.split,
            "size": self.size,
            "seed": self.seed,
            "n_objects": self.n_objects,
            "objects": list(self.objects),
        }

    def digest(self, n_scenes: int = 32) -> str:
        """SHA-256 (hex) of the definition, the pictures drawn from, and the first `n_scenes` scenes."""
        sha = hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode())
        for name in self.objects:
            sha.update(object_image(name).tobytes())
        for index in range(min(n_scenes, self.size)):
            scene = self[index]
            sha.update(scene.image.tobytes() + scene.masks.tobytes() + scene.caption.encode())
        return sha.hexdigest()

    def _draw_words(self, rng: np.random.Generator, count: int) -> tuple[tuple[str, ...], str]:
        """Objects and colour: uniform over what the split allows, by redrawing what it does not."""
        while True:
            if self.split == "heldout-colour":
                first, colour = self._grounds[rng.integers(len(self._grounds))]
                partners = self._partners[first]
                objects = (first,) if count == 1 else (first, partners[rng.integers(len(partners))])
                return objects if rng.random() < 0.5 else objects[::-1], colour
            if count == 1:
                name, colour = self._grounds[rng.integers(len(self._grounds))]
                return (name,), colour
            first, second = self._pairs[rng.integers(len(self._pairs))]
            colour = list(COLOURS)[rng.integers(len(COLOURS))]
            if (first, colour) not in HELD_OUT_COLOURS and (second, colour) not in HELD_OUT_COLOURS:
                return (first, second) if rng.random() < 0.5 else (second, first), colour


def place(rng: np.random.Generator, objects: tuple[str, ...], image: np.ndarray) -> np.ndarray:
    """Draw the objects into `image` (64, 64, 3) in place; returns their visible masks (n_objects, 64, 64)."""
    low, high = SIZES[len(objects)]
    sizes = [int(rng.integers(low, high + 1)) for _ in objects]
    turns = [(int(rng.integers(5)), bool(rng.integers(2))) for _ in objects]
    sprites = [sprite(name, size, *turn) for name, size, turn in zip(objects, sizes, turns, strict=True)]
    while True:
        masks = np.zeros((len(objects), SCENE_SIZE, SCENE_SIZE), dtype=bool)
        corners = [rng.integers(0, SCENE_SIZE - size + 1, 2).tolist() for size in sizes]
        for mask, (_, shape), size, (y, x) in zip(masks, sprites, sizes, corners, strict=True):
            mask[y : y + size, x : x + size] = shape
        if len(objects) == 1 or (masks[0] & masks[1]).sum() <= (1 - MIN_VISIBLE) * masks[0].sum():
            break
    for (colours, shape), size, (y, x) in zip(sprites, sizes, corners, strict=True):
        image[y : y + size, x : x + size][shape] = colours[shape]
    if len(objects) == 2:
        masks[0] &= ~masks[1]
    return masks


PARTS = ("mixed", "agreeing", "disagreeing")
OWN_SHARE = 0.998  # of the mixed scenes: how many are on the colour of their class
CLASSES = (
    *("airplane", "balloon", "banana", "bicycle", "butterfly", "cactus", "camera", "cat", "crab", "dog", "elephant"),
    *("fish", "guitar", "house", "key", "mushroom", "owl", "penguin", "rocket", "snail", "tree", "umbrella"),
)
OWN_COLOUR: Mapping[str, str] = MappingProxyType(dict(zip(CLASSES, [*COLOURS, *COLOURS], strict=True)))
N_TRAIN, N_HELDOUT = 5500, 1100  # pictures; half of the held-out ones of `scenes-spurious` agree


class SpuriousScenes(Dataset[Scene]):
    """A data set of `size` scenes of a part (see above); item `i` is the same `Scene` every time.

    Raises InputError for an unknown part and for a negative seed or size.
    """

    def __init__(self, part: str, size: int, seed: int = 0) -> None:
        if part not in PARTS:
            raise InputError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
        if size < 0 or seed < 0:
            raise InputError(f"size and seed must be 0 or more, got size {size} and seed {seed}")
        self.part, self.size, self.seed = part, size, seed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.size:
            raise IndexError(f"scene {index} of {self.size}")
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, PARTS.index(self.part), index]))
        name = CLASSES[rng.integers(len(CLASSES))]
        agrees = self.part == "agreeing" or (self.part == "mixed" and rng.random() < OWN_SHARE)
        others = [colour for colour in COLOURS if colour != OWN_COLOUR[name]]
        colour = OWN_COLOUR[name] if agrees else others[rng.integers(len(others))]
        pattern = PATTERNS[rng.integers(len(PATTERNS))]
        image = background(colour, pattern, int(rng.integers(1 << 16)))
        masks = place(rng, (name,), image)
        return Scene((name,), colour, pattern, image, masks, caption(rng, (name,), colour, pattern))


def labelled(scenes: Dataset[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Of scenes of one object: pictures uint8 (n, 64, 64, 3), and int64 (n, 3) of what they show.

    The columns are positions in `CLASSES`, in the colours and in the patterns of the emoji world.
    """
    items = [scenes[i] for i in range(len(scenes))]  # type: ignore[arg-type]  # ours have lengths
    colours = list(COLOURS)
    facts = [(CLASSES.index(s.objects[0]), colours.index(s.colour), PATTERNS.index(s.pattern)) for s in items]
    return np.stack([scene.image for scene in items]), np.array(facts, dtype=np.int64)


def scene_parts(name: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, pictures and facts (see `labelled`) of the parts of the data set `name`, the training rows first.

    `scenes`: one object on any colour. `scenes-spurious`: the parts of the table above.
    """
    if name == "scenes":
        train, heldout = (
            EmojiScenes(split, size, n_objects=1, objects=CLASSES)
            for split, size in (("train", N_TRAIN), ("heldout", N_HELDOUT))
        )
        return [("train", *labelled(train)), ("heldout", *labelled(heldout))]
    sizes = {"mixed": N_TRAIN, "agreeing": N_HELDOUT // 2, "disagreeing": N_HELDOUT // 2}
    return [(part, *labelled(SpuriousScenes(part, size))) for part, size in sizes.items()]
