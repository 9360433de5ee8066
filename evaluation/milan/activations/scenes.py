"""Scenes of the emoji world to score units on: what they show is known, and a description can be drawn.

| symbol | meaning |
|---|---|
| scored | held-out scenes by a seed of their own: no exemplar is among them, and no training picture |
| P(text) | properties that a description names, see `text_scores.properties` |
| drawn | scenes drawn to have the concept of a description |

The captions of this world join words of a kind as alternatives ("dogs and cats", "red or blue backgrounds": one or the
other), and words of several kinds as a combination ("dogs on red backgrounds"). So a picture has the concept iff, of
each kind of property that the description names (objects, colours and patterns of backgrounds), it shows one that is
named. A description that names nothing is shown nowhere: c = 0.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from conceptry.evaluation.milan.text_scores import properties
from conceptry.models.milan.exemplars.sources import ArraySource
from conceptry.models.zoo.emoji_world.emoji import COLOURS as COLOUR_WORDS
from conceptry.models.zoo.emoji_world.emoji import OBJECTS, PATTERNS, VOCABULARY, background

SCORED, RENDERED = 2048, 10
_SEED = 10_000  # beyond the seeds that exemplars are drawn by
_KINDS = (tuple(OBJECTS), tuple(COLOUR_WORDS), PATTERNS)


class Scenes:
    """Held-out scenes. chosen: pictures that chose something, uint8 (3, H, W), which are left out."""

    about = "known"
    notes = ()

    def __init__(self, chosen: Sequence[np.ndarray] = (), seed: int = 0, size: int = SCORED) -> None:
        self._chosen, self._seed, self._size = chosen, seed, size

    @cached_property
    def _scored(self) -> tuple[np.ndarray, np.ndarray]:
        """The scored pictures, uint8 (n, 64, 64, 3), and which words of the vocabulary each shows, bool (n, V)."""
        from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

        scenes = EmojiScenes("heldout", self._size, self._seed + _SEED)
        chosen = {np.ascontiguousarray(image).tobytes() for image in self._chosen}
        drawn = [scenes[i] for i in range(self._size)]
        kept = [scene for scene in drawn if scene.image.transpose(2, 0, 1).tobytes() not in chosen]
        shown = np.array([[word in scene.concepts for word in VOCABULARY] for scene in kept])
        return np.stack([scene.image for scene in kept]), shown

    @property
    def images(self) -> np.ndarray:
        """The scored pictures, uint8 (n, 64, 64, 3)."""
        return self._scored[0]

    @property
    def source(self) -> ArraySource:
        """The scored pictures as a network takes them."""
        return ArraySource("scored scenes", self.images)

    def names(self, texts: Sequence[str]) -> np.ndarray:
        """Whether each description names a property, bool (D,)."""
        return np.array([bool(properties(text)) for text in texts])

    def presence(self, texts: Sequence[str]) -> np.ndarray:
        """c of descriptions, float64 (n, D), 0 or 1."""
        shown = self._scored[1]
        found = np.zeros((len(shown), len(texts)))
        for column, kinds in zip(found.T, map(_named, texts), strict=True):
            if kinds:
                has = [shown[:, [VOCABULARY.index(word) for word in words]].any(axis=1) for words in kinds]
                column[:] = np.logical_and.reduce(has)
        return found

    def constants(self, texts: Sequence[str]) -> Sequence[str]:
        """The words of this world, whatever is said of units."""
        return VOCABULARY

    def drawn(self, text: str) -> list[np.ndarray] | None:
        """Scenes uint8 (64, 64, 3) that have the concept of a description; None where it names nothing."""
        concept = frozenset(properties(text))
        return render(concept, RENDERED, self._seed) if concept else None


def render(concept: frozenset[str], count: int, seed: int) -> list[np.ndarray]:
    """Scenes uint8 (64, 64, 3) that have a concept: of each kind of property one that it names, else any.

    Scenes of one object and of two are equally likely, as in the emoji world; pairs and combinations that splits hold
    out are not left out.
    """
    from conceptry.models.zoo.emoji_world.scenes import place

    key = int.from_bytes(hashlib.sha256(" ".join(sorted(concept)).encode()).digest()[:8], "big")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 43, key]))
    found = []
    for _ in range(count):
        name, colour, pattern = (
            words[rng.integers(len(words))]
            for words in ([word for word in kind if word in concept] or kind for kind in _KINDS)
        )
        objects = [name]
        if rng.integers(2):
            others = [other for other in OBJECTS if other != name]
            objects.append(others[rng.integers(len(others))])
        image = background(colour, pattern, int(rng.integers(1 << 16)))
        place(rng, tuple(objects[k] for k in rng.permutation(len(objects))), image)
        found.append(image)
    return found


def _named(text: str) -> list[list[str]]:
    """The properties that a description names, those of a kind together; [] where it names none."""
    named = properties(text)
    kinds = ([word for word in kind if word in named] for kind in _KINDS)
    return [words for words in kinds if words]
