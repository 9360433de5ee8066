r"""Does the model do what the explanation says? Scores over values v of the model with parts of the input left out.

Petsiuk et al., "RISE", BMVC 2018 (insertion and deletion); DeYoung et al., "ERASER", ACL 2020 (comprehensiveness and
sufficiency).

| symbol | meaning | shape |
|---|---|---|
| order | parts (players, words, pixels), the most important first | (n,) |
| v_k | value with the first k parts of an order present, v_0 with none, v_n with all | (n + 1,) |
| r_k | value with the first k parts of it removed, r_0 with none removed | (n + 1,) |
| u(v) | (v - low) / (high - low), or 1 - that where v_n < v_0 | in [0, 1] |

    insertion        mean_k u(v_k)            by the trapezoid rule; large: the first parts bring the value
    deletion         mean_k u(r_k)            small: without the first parts it is gone
    comprehensiveness at k     u(r_0) - u(r_k)       large
    sufficiency at k           u(v_n) - u(v_k)       small

low and high are the extremes of all curves of a sample, those by chance among them. In units of v_n - v_0 itself a
sample whose parts cancel would outweigh all others. Where nothing changes on the way the scores say nothing (NaN).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


def nested(order: np.ndarray) -> np.ndarray:
    """Masks (n + 1, n) bool: the first 0, 1, ..., n parts of `order` (n,) are there."""
    n = len(order)
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    return rank[None] < np.arange(n + 1)[:, None]


@dataclass(frozen=True)
class Curves:
    """Values of one sample along several orders, from 0 to 1.

    inserted, removed: u(v_k) and u(r_k), (orders, n + 1), NaN where nothing changes.
    """

    inserted: np.ndarray
    removed: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Curves":
        """The curves of values (2, orders, n + 1), v_k and then r_k."""
        low, high = float(values.min()), float(values.max())
        if high - low <= 1e-12 * max(abs(low), abs(high)):
            return cls(*np.full(values.shape, np.nan))
        scaled = (values - low) / (high - low)
        return cls(*(scaled if values[0, 0, -1] >= values[0, 0, 0] else 1 - scaled))

    @property
    def insertion(self) -> np.ndarray:
        """Insertion by each order, (orders,)."""
        return np.array([area(curve) for curve in self.inserted])

    @property
    def deletion(self) -> np.ndarray:
        """Deletion by each order, (orders,)."""
        return np.array([area(curve) for curve in self.removed])

    def areas(self) -> dict[str, float]:
        """Insertion and deletion by the first order, and the means of the others, those by chance, by metric."""
        found = {}
        for name, areas in (("insertion", self.insertion), ("deletion", self.deletion)):
            found |= {f"{name}_auc": float(areas[0]), f"{name}_random": float(areas[1:].mean())}
        return found

    def comprehensiveness(self, k: int) -> float:
        """What is lost with the first k parts of the first order; NaN where there are no more than k."""
        return float(self.removed[0, 0] - self.removed[0, k]) if k < self.removed.shape[1] - 1 else float("nan")

    def sufficiency(self, k: int) -> float:
        """What the first k parts of the first order do not bring; NaN where there are no more than k."""
        return float(self.inserted[0, -1] - self.inserted[0, k]) if k < self.inserted.shape[1] - 1 else float("nan")


def area(curve: np.ndarray) -> float:
    """Mean height of a curve (n + 1,) over [0, 1], by the trapezoid rule."""
    return float((curve[1:] + curve[:-1]).sum() / 2 / (len(curve) - 1))


def r2(values: np.ndarray, predicted: np.ndarray) -> float:
    """1 - sum of squared errors over that around the mean; NaN where the values do not vary."""
    spread = float(((values - values.mean()) ** 2).sum())
    if spread <= 1e-24 * float((values**2).sum()):
        return float("nan")
    return 1.0 - float(((values - predicted) ** 2).sum()) / spread


def random_orders(n: int, count: int, key: str) -> list[np.ndarray]:
    """Orders of n parts by chance, the same for every version: `key` is that of the sample."""
    seed = np.random.SeedSequence([*key.encode(), 43])
    rng = np.random.default_rng(seed)
    return [rng.permutation(n) for _ in range(count)]


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine of two explanations as vectors: 1 where both are 0, 0 where one of them is."""
    norms = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if not all(norms):
        return float(norms[0] == norms[1])
    return float(first @ second) / (norms[0] * norms[1])


def aligned(*explanations: Mapping[Any, float]) -> list[np.ndarray]:
    """Sparse explanations {part: weight} as vectors over the parts of all of them."""
    parts = sorted({part for explanation in explanations for part in explanation}, key=repr)
    return [np.array([explanation.get(part, 0.0) for part in parts]) for explanation in explanations]
