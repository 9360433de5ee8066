"""Scenes whose background gives the object away: a spurious feature, and pictures on which it misleads.

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

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from torch.utils.data import Dataset

from conceptry.models.errors import InputError
from conceptry.models.zoo.captions import caption
from conceptry.models.zoo.emoji import COLOURS, PATTERNS
from conceptry.models.zoo.raster import background
from conceptry.models.zoo.scenes import EmojiScenes, Scene, place

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
