r"""Does the model do what the explanation says? Scores over values v of the model with parts of the input left out.

Petsiuk et al., "RISE", BMVC 2018 (insertion and deletion); DeYoung et al., "ERASER", ACL 2020 (comprehensiveness and
sufficiency).

| symbol | meaning | shape |
|---|---|---|
| order | parts (players, words, pixels), the most important first | (n,) |
| v_k | value with the first k parts of an order present, v_0 with none, v_n with all | (n + 1,) |
| r_k | value with the first k parts of it removed, r_0 with none removed | (n + 1,) |
| t | v_n - v_0, the total effect | scalar |

    insertion        mean_k (v_k - v_0) / t          by the trapezoid rule; large: the first parts bring the value
    deletion         mean_k (r_k - v_0) / t          small: without the first parts it is gone
    comprehensiveness at k     (r_0 - r_k) / t       large
    sufficiency at k           (v_n - v_k) / t       small

All are in units of the total effect, so that samples weigh alike. Where it is less than a twentieth of the largest
change on the way, there is nothing to bring or to lose, and the scores say nothing (NaN).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

LEAST_EFFECT = 0.05


def nested(order: np.ndarray) -> np.ndarray:
    """Masks (n + 1, n) bool: the first 0, 1, ..., n parts of `order` (n,) are there."""
    n = len(order)
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    return rank[None] < np.arange(n + 1)[:, None]


def has_effect(inserted: np.ndarray, removed: np.ndarray) -> bool:
    """Whether the total effect is large enough, beside what happens on the way, to be a unit."""
    largest = max(np.abs(inserted - inserted[0]).max(), np.abs(removed - inserted[0]).max())
    return bool(abs(inserted[-1] - inserted[0]) > LEAST_EFFECT * largest)


def area(curve: np.ndarray) -> float:
    """Mean height of a curve (n + 1,) over [0, 1], by the trapezoid rule."""
    return float((curve[1:] + curve[:-1]).sum() / 2 / (len(curve) - 1))


def insertion_deletion(inserted: np.ndarray, removed: np.ndarray) -> tuple[float, float]:
    """Insertion and deletion of an order, from its v_k and r_k; NaN where there is no total effect."""
    if not has_effect(inserted, removed):
        return float("nan"), float("nan")
    total = inserted[-1] - inserted[0]
    return area((inserted - inserted[0]) / total), area((removed - inserted[0]) / total)


def comprehensiveness(inserted: np.ndarray, removed: np.ndarray, k: int) -> float:
    """Share of the total effect that is lost with the first k parts; NaN where there is none, or no more than k."""
    if k >= len(removed) - 1 or not has_effect(inserted, removed):
        return float("nan")
    return float((removed[0] - removed[k]) / (inserted[-1] - inserted[0]))


def sufficiency(inserted: np.ndarray, removed: np.ndarray, k: int) -> float:
    """Share of the total effect that the first k parts alone do not bring; NaN as above."""
    if k >= len(inserted) - 1 or not has_effect(inserted, removed):
        return float("nan")
    return float((inserted[-1] - inserted[k]) / (inserted[-1] - inserted[0]))


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
