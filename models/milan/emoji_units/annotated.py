"""Annotated units of the emoji world: made-up neurons whose exemplars, masks, captions and properties are known.

Each unit responds to one property or to a combination of two; `captions` says which kinds there are. Its exemplars are
k scenes that show it, but for a few. Its masks come about as those of a real unit do: activations on a coarse grid,
upsampled and cut.

| symbol | meaning |
|---|---|
| k | exemplars of a unit |
| r | the pixels that the unit responds to (64, 64) |
| g | cells of the activation grid along a side: 2, 4, 8, 16 or 32, one for the whole unit |
| a | activations (g, g): the share of each cell that r covers, faded cell by cell and with noise added |

a is upsampled bilinearly to 64 x 64, zero beyond the border, and cut at a level of the unit. An exemplar that stays
below it is cut a little below its own maximum: a real unit's strongest images are active somewhere.

Splits, by unit and by combination: the two properties of a combination are held out of training, kept for
validation, or trained on, by SHA-256 of their words. Single properties are in every split, on other scenes:

| split | scenes (`EmojiScenes`) | combinations |
|---|---|---|
| train | train | some 85 % |
| validation | train, another seed | some 5 %, in no other split |
| heldout | heldout | some 10 %, in no other split |

Unit `i` of `(split, seed, pool)` comes from a generator of its own, so its size does not matter.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.milan.emoji_units.captions import unit_captions
from conceptry.models.milan.exemplars.records import UnitExemplars
from conceptry.models.zoo.emoji_world.emoji import COLOURS, OBJECTS, PATTERNS, SCENE_SIZE
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes, Scene

GRID_SHARES = {2: 0.2, 4: 0.25, 8: 0.25, 16: 0.2, 32: 0.1}


def region(scene: Scene, words: Sequence[str]) -> np.ndarray:
    """bool (64, 64): the pixels of the scene's objects among `words`, and of its ground where a word names that.

    The ground, too, where the scene shows no object of `words`.
    """
    parts = [mask for name, mask in zip(scene.objects, scene.masks, strict=True) if name in words]
    if any(word not in OBJECTS for word in words) or not parts:
        parts.append(scene.background_mask)
    return np.logical_or.reduce(parts)


def draw_masks(rng: np.random.Generator, regions: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (k, 1, 64, 64) from the k regions of a unit's exemplars, none of them empty."""
    g = list(GRID_SHARES)[rng.choice(len(GRID_SHARES), p=list(GRID_SHARES.values()))]
    noise, fading, level = rng.uniform(0, 0.2), rng.uniform(0, 0.6), rng.uniform(0.3, 0.8)
    side = SCENE_SIZE // g
    a = np.stack(regions).reshape(-1, g, side, g, side).mean(axis=(2, 4))
    a = a * (1 - fading * rng.random(a.shape)) + noise * rng.standard_normal(a.shape)
    up = upsampling(g)
    full = up @ a @ up.T
    strongest = full.max(axis=(1, 2), keepdims=True)
    least = np.minimum(level * a.max(), strongest - 0.2 * np.abs(strongest))
    return (full > least).astype(np.uint8)[:, None]


@cache
def upsampling(g: int) -> np.ndarray:
    """(64, g): half-pixel bilinear upsampling along one axis, zero beyond the border."""
    position = (np.arange(SCENE_SIZE) + 0.5) * g / SCENE_SIZE - 0.5
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(g)[None, :]))


UNIT_SPLITS = ("train", "validation", "heldout")
HELD_OUT_SHARE, VALIDATION_SHARE = 0.10, 0.05  # of the combinations
KIND_SHARES = {
    "object": 0.20,
    "colour": 0.06,
    "pattern": 0.03,
    "object+colour": 0.24,
    "object+pattern": 0.14,
    "colour+pattern": 0.08,
    "objects": 0.21,
    "colours": 0.04,
}
MAX_WRONG = 0.3  # greatest share of a unit's exemplars that do not show it


@dataclass(frozen=True)
class AnnotatedUnit:
    """A unit with what is true of it. captions: three; properties: words of the emoji vocabulary; kind: see above."""

    exemplars: UnitExemplars
    captions: tuple[str, ...]
    properties: frozenset[str]
    kind: str


@dataclass(frozen=True)
class _Plan:
    """A unit before its masks are drawn. regions: per exemplar the words whose pixels it is active on."""

    kind: str
    words: tuple[str, ...]
    captions: tuple[str, ...]
    ids: np.ndarray
    regions: tuple[tuple[str, ...], ...]
    rng: np.random.Generator


def combination_split(first: str, second: str) -> str:
    """The split that the combination of two properties belongs to; their order does not matter."""
    digest = hashlib.sha256("+".join(sorted((first, second))).encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < HELD_OUT_SHARE:
        return "heldout"
    return "validation" if share < HELD_OUT_SHARE + VALIDATION_SHARE else "train"


class EmojiUnits(Sequence[AnnotatedUnit]):
    """`size` annotated units; item `i` is the same every time.

    split: see above. seed: of units and scenes. k: exemplars of a unit. pool: scenes that exemplars are taken from;
    those used are kept in memory, 13 kB each. kinds, objects: those to draw from, None for all. Raises InputError for
    values out of range or a pool too small for its combinations.
    """

    def __init__(
        self,
        split: str,
        size: int,
        seed: int = 0,
        k: int = 15,
        pool: int = 16384,
        kinds: Sequence[str] | None = None,
        objects: Sequence[str] | None = None,
    ) -> None:
        if split not in UNIT_SPLITS:
            raise InputError(f"split must be one of {', '.join(UNIT_SPLITS)}, got {split!r}")
        if size < 0 or seed < 0:
            raise InputError(f"size and seed must be 0 or more, got size {size} and seed {seed}")
        if k < 4 or pool < 1024:
            raise InputError(f"k must be at least 4 and pool at least 1024, got k {k} and pool {pool}")
        if unknown := [kind for kind in kinds or () if kind not in KIND_SHARES]:
            raise InputError(f"kinds must be of {', '.join(KIND_SHARES)}, got {unknown[0]!r}")
        self.split, self.size, self.seed, self.k = split, size, seed, k
        self.kinds = tuple(KIND_SHARES if kinds is None else kinds)
        scene_split, scene_seed = ("heldout", seed) if split == "heldout" else ("train", 2 * seed + (split != "train"))
        self.scenes = EmojiScenes(scene_split, pool, scene_seed, objects=objects)
        self._scene = cache(self.scenes.__getitem__)
        showing: dict[str, list[int]] = {}
        for i in range(pool):
            for word in self.scenes.concepts(i):
                showing.setdefault(word, []).append(i)
        self._showing = {word: np.array(ids) for word, ids in showing.items()}

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[AnnotatedUnit]:
        return (self[i] for i in range(self.size))

    def __getitem__(self, index: int) -> AnnotatedUnit:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices
        plan = self._plan(index)
        images = np.stack([self.image(i) for i in plan.ids.tolist()])
        exemplars = UnitExemplars(f"{self.split}-{self.seed}", index, images, self._masks(plan), plan.ids)
        return AnnotatedUnit(exemplars, plan.captions, frozenset(plan.words), plan.kind)

    def scene(self, number: int) -> Scene:
        """Scene `number` of the pool, with the pixels of all that is in it."""
        return self._scene(number)

    def image(self, scene: int) -> np.ndarray:
        """Scene number `scene` of the pool, uint8 (3, 64, 64)."""
        return np.ascontiguousarray(self._scene(scene).image.transpose(2, 0, 1))

    def ids_and_masks(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The scenes of unit `index`, int64 (k,), and its masks, uint8 (k, 1, 64, 64): an item without its pictures."""
        plan = self._plan(index)
        return plan.ids, self._masks(plan)

    def properties(self, index: int) -> frozenset[str]:
        """The properties of unit `index`, without drawing it."""
        return frozenset(self._plan(index).words)

    def definition(self) -> dict[str, object]:
        """The settings that, with this package's code and pictures, fix every unit."""
        names = {"split": self.split, "size": self.size, "seed": self.seed, "k": self.k, "kinds": list(self.kinds)}
        return {**names, "scenes": self.scenes.digest()}

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of unit `index`, without drawing it."""
        return self._plan(index).captions

    def _plan(self, index: int) -> _Plan:
        if not 0 <= index < self.size:
            raise IndexError(f"unit {index} of {self.size}")
        split = UNIT_SPLITS.index(self.split)
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 17, split, index]))
        shares = np.array([KIND_SHARES[kind] for kind in self.kinds])
        kind = self.kinds[0]
        for attempt in range(1000):
            if attempt % 100 == 0:  # a kind may have no combination in this split, and is given up then
                kind = self.kinds[rng.choice(len(shares), p=shares / shares.sum())]
            words = _draw_words(rng, kind, self.scenes.objects)
            if len(words) == 2 and combination_split(*words) != self.split:
                continue
            if (right := self._right(rng, kind, words)) is not None:
                ids, regions = self._spoil(rng, kind, words, right)
                return _Plan(kind, words, unit_captions(kind, words), ids, regions, rng)
        raise InputError(f"a pool of {len(self.scenes)} scenes shows no combination {self.k} times; use a larger one")

    def _right(self, rng: np.random.Generator, kind: str, words: tuple[str, ...]) -> list[tuple[int, str]] | None:
        """k different scenes that show the unit, each with the word it shows it by; None where there are too few."""
        empty = np.empty(0, dtype=np.int64)
        if kind in ("objects", "colours"):
            count = int(rng.integers(self.k // 3, self.k - self.k // 3 + 1))
            first = np.setdiff1d(self._showing.get(words[0], empty), self._showing.get(words[1], empty))
            second = np.setdiff1d(self._showing.get(words[1], empty), self._showing.get(words[0], empty))
            if len(first) < count or len(second) < self.k - count:
                return None
            chosen = [(int(i), words[0]) for i in rng.choice(first, count, replace=False)]
            chosen += [(int(i), words[1]) for i in rng.choice(second, self.k - count, replace=False)]
            return [chosen[i] for i in rng.permutation(self.k)]
        ids = self._showing.get(words[0], empty)
        for word in words[1:]:
            ids = np.intersect1d(ids, self._showing.get(word, empty))
        return None if len(ids) < self.k else [(int(i), words[0]) for i in rng.choice(ids, self.k, replace=False)]

    def _spoil(
        self, rng: np.random.Generator, kind: str, words: tuple[str, ...], right: list[tuple[int, str]]
    ) -> tuple[np.ndarray, tuple[tuple[str, ...], ...]]:
        """Scenes and regions, with some exemplars that do not show the unit, or half of a combination."""
        where = rng.choice(3, p=[0.45, 0.25, 0.3]) if kind in ("object+colour", "object+pattern") else 0
        share = 0.0 if rng.random() < 0.4 else rng.uniform(0, MAX_WRONG)
        wrong = rng.permutation(self.k)[: min(rng.binomial(self.k, share), int(MAX_WRONG * self.k))]
        ids, regions = np.empty(self.k, dtype=np.int64), []
        for slot, (scene, word) in enumerate(right):
            if slot in wrong:
                half = self._showing[words[rng.integers(len(words))]] if len(words) == 2 else None
                scene = int(rng.integers(len(self.scenes)) if half is None or rng.random() < 0.5 else rng.choice(half))
                shown = self.scenes.concepts(scene)
                word = next((w for w in words if w in shown), shown[rng.integers(len(shown))])
            ids[slot] = scene
            regions.append(((word,), (word, *words[1:]), words[1:])[where] if where else (word,))
        return ids, tuple(regions)

    def _masks(self, plan: _Plan) -> np.ndarray:
        scenes = [self._scene(i) for i in plan.ids.tolist()]
        return draw_masks(plan.rng, [region(*found) for found in zip(scenes, plan.regions, strict=True)])


def _draw_words(rng: np.random.Generator, kind: str, objects: tuple[str, ...]) -> tuple[str, ...]:
    sources = {"object": objects, "colour": tuple(COLOURS), "pattern": PATTERNS}
    if kind in ("objects", "colours"):
        words = sources[kind[:-1]]
        first, second = rng.choice(len(words), 2, replace=False)
        return words[first], words[second]
    return tuple(sources[part][rng.integers(len(sources[part]))] for part in kind.split("+"))
