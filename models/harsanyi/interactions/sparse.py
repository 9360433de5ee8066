"""Sparse interactions of one sample, as trees and sampled games have them, in the form of every other explanation.

Denoising asks how much of v the kept patterns explain over all subsets, each as likely as any other. Where these are
too many, 4,096 are drawn once for all. Weak terms beyond the strongest 1,000 are removed at once, the others as
`denoise` removes them: of the weakest the one that leaves the smallest error.
"""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from conceptry.models.harsanyi.baseline import Sparsified
from conceptry.models.harsanyi.interactions.answer import AnswerOptions, SampleRecord
from conceptry.models.harsanyi.interactions.denoise import Denoised, Limits
from conceptry.models.harsanyi.interactions.moebius import subset_masks
from conceptry.models.harsanyi.interactions.terms import Terms

MASKS, EVERY_SUBSET = 4096, 12  # masks that errors are measured on; players up to which all subsets are taken
MOST_COMPETING = 1000


@dataclass(frozen=True)
class Quality:
    """How good sampled terms are: R2 on held-out masks, its interval, and whether it is high enough to be believed."""

    r2: float = 1.0
    interval: tuple[float, float] = (1.0, 1.0)
    believable: bool = True


@dataclass(frozen=True, eq=False, repr=False)
class SparseInteractions(SampleRecord):
    """The interactions of one sample that are not 0.

    Attributes:
        terms: the interactions; that of the empty set comes first.
        rewards: (v(empty), v(N)), as the model gives them.
        error: the largest error of the terms on the subsets that were asked, over the largest |v|.
        quality: how good sampled terms are.
        spreads: standard deviation of each term over the rows of a baseline, None where it is not known.
        The others: as in `SampleRecord`.

    Example:
        >>> from conceptry.models.harsanyi import Harsanyi
        >>> record = Harsanyi.of_tensor(lambda x: x[:, 0] * x[:, 29] + x[:, 7], [1.0] * 30)
        >>> record
        SparseInteractions(30 players, target 'target', 0 to 2, R2 1.000 (1.000 to 1.000) on held-out \
subsets; 2 salient patterns; strongest: x1 AND x30 +1; x8 +1)
    """

    players: tuple[str, ...]
    target: str
    terms: Terms
    rewards: tuple[float, float]
    error: float
    engine: str
    calls: int
    description: dict[str, Any]
    quality: Quality = field(default_factory=Quality)
    options: AnswerOptions = field(default_factory=AnswerOptions)
    image: np.ndarray | None = None
    learned: Sparsified | None = None
    gap: float = 0.0
    spreads: np.ndarray | None = None

    @property
    def v_empty(self) -> float:
        return self.rewards[0]

    @property
    def v_full(self) -> float:
        return self.rewards[1]

    @cached_property
    def effects(self) -> np.ndarray:
        """Effects of the terms, (m,)."""
        return self.terms.effects

    @property
    def residual(self) -> float:
        """`error`: what the engine has measured."""
        return self.error

    @property
    def r2(self) -> float:
        return self.quality.r2

    @property
    def r2_interval(self) -> tuple[float, float]:
        return self.quality.interval

    @property
    def believable(self) -> bool:
        return self.quality.believable

    @cached_property
    def shapley(self) -> np.ndarray:
        """Shapley values (n,) of the terms."""
        return self.terms.shapley_values()

    def denoised(self, **options: Any) -> Denoised:
        """The patterns that are kept; see `denoise_terms`."""
        return denoise_terms(self.terms, Limits(**options))

    def masks(self, rows: np.ndarray) -> np.ndarray:
        """The players of terms, bool (rows, n)."""
        return self.terms.chosen(rows).incidence.toarray() > 0

    def kinds(self, rows: np.ndarray) -> list[str]:
        """ "and" or "or" for each of the terms."""
        return ["or" if self.terms.is_or[row] else "and" for row in rows]

    def _details(self) -> dict[str, Any]:
        rows = zip(self.terms.sets(), self.effects.tolist(), self.terms.is_or.tolist(), strict=True)
        return {
            "players": list(self.players),
            "rewards": [],
            "interactions": [],
            "or_interactions": [],
            "terms": json.dumps([[players, effect, "or" if is_or else "and"] for players, effect, is_or in rows]),
            "learning": [],
            "sample": json.dumps(self.description),
        }


def with_empty_first(terms: Terms) -> Terms:
    """The terms with that of the empty set before all others, 0 where there was none."""
    if len(terms) and terms.sizes[0] == 0:
        return terms
    empty, others = terms.and_terms.get((), 0.0), {p: w for p, w in terms.and_terms.items() if p}
    return Terms.of(terms.n, {(): empty, **others}, terms.or_terms)


def without_empty(terms: Terms) -> Terms:
    """The terms with 0 for the empty set, as v - v(empty) has it."""
    return replace(terms, effects=np.where(terms.sizes == 0, 0.0, terms.effects))


@lru_cache(maxsize=4)
def judging_masks(n: int) -> np.ndarray:
    """Masks (m, n) bool, read-only, that stand for all subsets: all of them where they are few, else drawn."""
    masks = subset_masks(n) if n <= EVERY_SUBSET else np.random.default_rng(0).random((MASKS, n)) < 0.5
    masks.flags.writeable = False
    return masks


@lru_cache(maxsize=4)
def _judging_bits(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The judging masks as bits: in which each player is present, (n, words) uint64, and which are masks, (words,)."""
    masks = judging_masks(n)
    present = np.zeros((n + 1, -(-len(masks) // 64) * 64), bool)
    present[:n, : len(masks)], present[n, : len(masks)] = masks.T, True
    words = np.packbits(present, axis=1, bitorder="little").view("<u8").astype(np.uint64)
    return words[:n], words[n]


def denoise_terms(terms: Terms, limits: Limits) -> Denoised:
    """Keep the patterns that matter, as `denoise` does; rows are those of the terms, the first the empty set's."""
    from conceptry.models.harsanyi.interactions._kernels import (  # numba takes a second
        added_up,
        contributions,
        remove_by_bits,
    )

    effects = terms.effects
    by_strength = np.argsort(np.abs(effects), kind="stable")
    order = by_strength[-MOST_COMPETING:]
    tail = by_strength[: len(by_strength) - len(order)]
    players, every = _judging_bits(terms.n)
    bits = contributions(players, every, terms.members, terms.offsets, terms.is_or)
    residual = np.zeros(64 * len(every))
    added_up(bits[tail], effects[tail], residual)
    v = residual.copy()
    added_up(bits[order], effects[order], v)
    removed = np.empty(max(0, len(order) - limits.min_patterns), np.int64)
    errors = np.empty(len(removed) + 1)
    remove_by_bits(bits[order], effects[order], residual, limits.n_greedy, removed, errors)
    return limits.choose(order, order[removed], errors, float(v @ v), effects, tail)
