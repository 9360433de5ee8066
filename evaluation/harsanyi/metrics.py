"""Metrics of Harsanyi explanations, pure functions over arrays.

| symbol | meaning | shape |
|---|---|---|
| v | rewards of one sample over all subsets | (2^n,) |
| i | its interactions, the OR part (where there is one) after the AND part | (2^n,) or (2 * 2^n,) |
"""

from collections.abc import Collection, Hashable, Sequence

import numpy as np

from conceptry.models.harsanyi.interactions.indices import salient, strengths
from conceptry.models.harsanyi.interactions.record import residual
from conceptry.models.harsanyi.interactions.sparse import judging_masks
from conceptry.models.harsanyi.interactions.terms import Terms

__all__ = [
    "error_curve",
    "jaccard",
    "mean_jaccard",
    "residual",
    "salient",
    "salient_by_order",
    "sparse_error_curve",
    "strengths",
]


def salient_by_order(i: np.ndarray, sizes: np.ndarray, n: int) -> np.ndarray:
    """Count the salient interactions that have 0, 1, ..., n players: (n + 1,). sizes: players of each row of i."""
    return np.bincount(sizes[salient(i)], minlength=n + 1)


def error_curve(v: np.ndarray, i: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors and explain ratios of the m strongest patterns, m = 0 to `most`, the empty pattern always among them.

    Both as denoising counts them. Error: ||v - sum of the kept patterns||^2 / ||v||^2. Ratio: the strength that is kept
    over itself plus |the sum of the effects that are not|.
    """
    n = len(v).bit_length() - 1
    rows = np.arange(2**n)
    strength = strengths(i)
    order = np.argsort(-strength, kind="stable")
    order = order[order != 0][:most]
    left = np.asarray(v, dtype=np.float64) - v[0]
    scale = float(v @ v) or 1.0
    errors, ratios, kept, removed = [float(left @ left) / scale], [0.0], 0.0, float(i[1:].sum())
    for row in order:
        members = row % 2**n
        present = (rows & members) == members if row < 2**n else (rows & members) != 0
        left[present] -= i[row]
        kept += float(strength[row])
        errors.append(float(left @ left) / scale)
        removed -= float(i[row])
        ratios.append(kept / ((kept + abs(removed)) or 1.0))
    return _padded(errors, most + 1), _padded(ratios, most + 1)


def sparse_error_curve(terms: Terms, most: int) -> tuple[np.ndarray, np.ndarray]:
    """As `error_curve`, of terms of which that of the empty set is the first, over the masks of `judging_masks`."""
    masks, effects = judging_masks(terms.n), terms.effects
    order = np.argsort(-strengths(effects), kind="stable")
    order = order[order != 0][:most]
    v = terms.values(masks)
    left = v - effects[0]
    scale = float(v @ v) or 1.0
    errors, ratios, kept, removed = [float(left @ left) / scale], [0.0], 0.0, float(effects[1:].sum())
    for row, present in zip(order, terms.chosen(order).present(masks), strict=True):
        left = left - effects[row] * present
        kept, removed = kept + abs(float(effects[row])), removed - float(effects[row])
        errors.append(float(left @ left) / scale)
        ratios.append(kept / ((kept + abs(removed)) or 1.0))
    return _padded(errors, most + 1), _padded(ratios, most + 1)


def _padded(values: list[float], count: int) -> np.ndarray:
    return np.array(values + [values[-1]] * (count - len(values)))


def jaccard(first: Collection[Hashable], second: Collection[Hashable]) -> float:
    """Size of the intersection over that of the union; 1 for two empty sets."""
    a, b = set(first), set(second)
    return len(a & b) / len(a | b) if a | b else 1.0


def mean_jaccard(first: Sequence[Collection[Hashable]], second: Sequence[Collection[Hashable]]) -> float:
    """The mean over samples."""
    return float(np.mean([jaccard(a, b) for a, b in zip(first, second, strict=True)]))
