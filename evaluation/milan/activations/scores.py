"""Scores of descriptions by activations: does a unit respond to the pictures that show what its description says?

Oikarinen, Yan, Weng, "Evaluating Neuron Explanations: A Unified Framework with Sanity Checks", ICML 2025; CoSy: Kopf et
al., "CoSy: Evaluating Textual Explanations of Neurons", NeurIPS 2024.

| symbol | meaning | shape |
|---|---|---|
| a | activations of units on pictures, spatial maps pooled to a number | (n, U), or (n,) for one unit |
| c | presence of concepts in the same pictures, from 0 to 1 | (n, D), or (n,) for one description |
| b | 1 where a is among the unit's `ceil(alpha n)` largest, else 0 | (n, U) |
| d | 1 where c >= .5, else 0 | (n, D) |

Each score is a matrix (U, D), without the axes that a or c do not have; the higher, the better:

| score | definition | of a constant description |
|---|---|---|
| correlation | Pearson's, of a and c | 0 |
| cosine | of a and c, not centred | its value |
| auprc | average precision of c as a prediction of b | mean of b |
| f1, iou | of b and d | their value, 0 for d = 0 |
| recall | share of b that d holds | 0 or 1 |
| auc | P(c of an active picture > c of another), ties count half | 1/2 |
| cosy_auc | P(a with the concept > a without), ties count half | 1/2 |
| mad | mean of a with the concept less mean without | 0 |
| cosy_mad | the same, over the standard deviation without | 0 |

With the concept means d = 1. CoSy's controls, the pictures without, are any pictures: with scenes rendered for a
concept, c is 1 for these and 0 for the controls. The first paper's AUC is `auc`, its MAD `mad`, and CoSy's AUC its
"inverse AUC". Equal activations are active together, unless that makes all pictures active: a unit that is 0 on most
pictures is not active there. A constant unit is active nowhere.

A score is worth having if it falls for a worse description. Two tests of that take the true concept of a unit:

    missing labels: half of the pictures with the concept, drawn at random, lose it
    extra labels:   as many pictures as have the concept, drawn at random from the others, get it

A unit passes where its score, divided by the width of the score's range, falls by more than `LEAST_FALL`. And the
meta-AUPRC asks whether a score ranks true descriptions above others: the average precision of all scores (U, D) as
predictions of which of the pairs are true.

Differences from the first paper's code: drawn are exactly half and exactly as many; ties are not broken by noise.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

# Of the shares from .005 to .1 with which auprc passes both tests on planted units in 99 % of draws, on scenes that are
# not scored, the one of the highest meta-AUPRC.
ALPHA = 0.02
PRESENT = 0.5  # least c of a picture that has the concept
LEAST_FALL = 0.001
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def correlation(a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Pearson's correlation of activations and presence."""
    return _shaped(a, c, _cosine(_columns(a) - _columns(a).mean(0), _columns(c) - _columns(c).mean(0)))


def cosine(a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Cosine of activations and presence, not centred."""
    return _shaped(a, c, _cosine(_columns(a), _columns(c)))


def auprc(a: np.ndarray, c: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """Average precision of presence as a prediction of which pictures are active: sum of precision x step of recall.

    Pictures of equal c are predicted together. Where c has two values, of which the n_1 pictures of the larger one hold
    h of a unit's P active ones, the sum is (h^2 / n_1 + (P - h) P / n) / P. 0 for a unit that is active nowhere.
    """
    active, present = binarised(_columns(a), alpha), _columns(c)
    totals = np.maximum(active.sum(0), 1.0)[:, None]
    larger = (present > present.min(0)).astype(float)
    hits, n_larger = active.T @ larger, larger.sum(0)
    found = (hits**2 / np.maximum(n_larger, 1.0) + (totals - hits) * totals / len(present)) / totals
    several = np.flatnonzero(((present != present.min(0)) & (present != present.max(0))).any(0))
    for j in several:
        order = np.argsort(-present[:, j], kind="stable")
        starts = np.flatnonzero(np.diff(present[order, j], prepend=np.inf))  # of each run of equal c
        gained = np.add.reduceat(active[order], starts, axis=0)
        predicted = np.append(starts[1:], len(order))[:, None]
        found[:, j] = (gained.cumsum(0) / predicted * gained).sum(0) / totals[:, 0]
    return _shaped(a, c, np.where(active.sum(0)[:, None] > 0, found, 0.0))


def f1(a: np.ndarray, c: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """F1 of active pictures and those with the concept: 2 |b d| / (|b| + |d|)."""
    both, active, present = _overlaps(a, c, alpha)
    return _shaped(a, c, 2 * both / np.maximum(active + present, 1.0))


def iou(a: np.ndarray, c: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """Active pictures with the concept, among those that are active or have it."""
    both, active, present = _overlaps(a, c, alpha)
    return _shaped(a, c, both / np.maximum(active + present - both, 1.0))


def recall(a: np.ndarray, c: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """Share of active pictures that have the concept."""
    both, active, _ = _overlaps(a, c, alpha)
    return _shaped(a, c, both / np.maximum(active, 1.0))


def auc(a: np.ndarray, c: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """Rank statistic of presence, active pictures against the others."""
    return _shaped(a, c, _rank_statistic(_columns(c), binarised(_columns(a), alpha)).T)


def cosy_auc(a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Rank statistic of activations, pictures with the concept against controls (CoSy's AUC)."""
    return _shaped(a, c, _rank_statistic(_columns(a), _present(c)))


def mad(a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Mean activation of pictures with the concept less that of the others; 0 where either kind is missing."""
    return _shaped(a, c, _difference(_columns(a), _present(c)))


def cosy_mad(a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Mean activation difference of pictures with the concept and controls, in standard deviations of the controls.

    As in CoSy's code the deviation divides by one less than the number of controls, and the score is 0 where it is 0;
    it is 0 as well where either kind of picture is missing.
    """
    values, controls = _columns(a), 1 - _present(c)
    values = values - values.mean(0)  # of which squares lose no digits
    n = controls.sum(0)
    mean = values.T @ controls / np.maximum(n, 1.0)
    whole = (values**2).T @ controls
    squares = whole - n * mean**2
    deviation = np.sqrt(np.maximum(squares, 0) / np.maximum(n - 1, 1.0))
    varies = squares > 1e-12 * whole  # what is left of equal controls is what the difference rounds
    return _shaped(a, c, np.where(varies, _difference(values, 1 - controls) / np.where(varies, deviation, 1.0), 0.0))


SCORES: Mapping[str, Score] = MappingProxyType(
    {each.__name__: each for each in (correlation, auprc, cosine, f1, iou, recall, auc, mad, cosy_auc, cosy_mad)}
)
# Width of the range of a score, by which the tests divide; None: of what it takes, on the units at hand.
RANGES: Mapping[str, float | None] = MappingProxyType(
    dict.fromkeys(SCORES, 1.0) | {"correlation": 2.0, "cosine": 2.0, "mad": None, "cosy_mad": None}
)


def binarised(a: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """b, float64 (n, U): whether each picture is among a unit's `ceil(alpha n)` most active ones; see above for ties.

    a: (n, U).
    """
    k = max(math.ceil(alpha * len(a)), 1)
    least = np.partition(a, len(a) - k, axis=0)[len(a) - k]
    return ((a >= least) & (a > a.min(0))).astype(float)


def _columns(values: np.ndarray) -> np.ndarray:
    """Float64 (n, U or D)."""
    return np.asarray(values, dtype=float).reshape(len(values), -1)


def _shaped(a: np.ndarray, c: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(U, D) without the axes that a or c do not have."""
    return found.reshape((*np.shape(a)[1:], *np.shape(c)[1:]))


def _present(c: np.ndarray) -> np.ndarray:
    return (_columns(c) >= PRESENT).astype(float)


def _overlaps(a: np.ndarray, c: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|b d| (U, D), |b| (U, 1), |d| (D,)."""
    active, present = binarised(_columns(a), alpha), _present(c)
    return active.T @ present, active.sum(0)[:, None], present.sum(0)


def _difference(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Mean of values where present less mean elsewhere, (U, D); 0 where either is nowhere."""
    n, others = present.sum(0), (1 - present).sum(0)
    means = values.T @ present / np.maximum(n, 1.0), values.T @ (1 - present) / np.maximum(others, 1.0)
    return np.where((n > 0) & (others > 0), means[0] - means[1], 0.0)


def _cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosines of columns; 0 where one is 0, but for rounding."""
    directions = []
    for values in (x, y):
        norms = np.linalg.norm(values, axis=0)
        scale = np.abs(values).max(0, initial=0.0) * np.sqrt(len(values))
        directions.append(values / np.where(norms > 1e-12 * np.maximum(scale, 1e-300), norms, np.inf))
    return directions[0].T @ directions[1]


def _rank_statistic(values: np.ndarray, is_first: np.ndarray) -> np.ndarray:
    """P(value of the first kind > value of the second) + P(equal) / 2, (columns of values, columns of is_first).

    1/2 where a kind is missing.
    """
    from scipy.stats import rankdata

    n_first = is_first.sum(0)
    pairs = n_first * (len(values) - n_first)
    wins = rankdata(values, axis=0).T @ is_first - n_first * (n_first + 1) / 2
    return np.where(pairs > 0, wins / np.maximum(pairs, 1.0), 0.5)


@dataclass(frozen=True)
class SanityTests:
    """Share of units, over all draws, whose score falls as it should."""

    missing_labels: float
    extra_labels: float


def sanity_tests(
    score: Score, a: np.ndarray, c: np.ndarray, width: float | None = 1.0, draws: int = 2, seed: int = 0
) -> SanityTests:
    """Test a score on units whose concept is known.

    a: (n, U); c: (n, U), the true concept of each unit; width: of the range of the score, None for that which it takes
    on all pairs of the units and concepts.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 41]))
    whole = score(a, c)
    if width is None:
        width = float(np.ptp(whole)) or 1.0
    falls: dict[str, list[np.ndarray]] = {"missing": [], "extra": []}
    for _ in range(draws):
        for kind, changed in (("missing", without_half(c, rng)), ("extra", with_as_many(c, rng))):
            falls[kind].append(np.diag(whole - score(a, changed)) / width > LEAST_FALL)
    return SanityTests(float(np.mean(falls["missing"])), float(np.mean(falls["extra"])))


def without_half(c: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """c (n, D) where half of the pictures with each concept, rounded up, have lost it."""
    changed = np.array(c, dtype=float)
    for column in changed.T:
        have = np.flatnonzero(column >= PRESENT)
        column[rng.choice(have, -(-len(have) // 2), replace=False)] = 0.0
    return changed


def with_as_many(c: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """c (n, D) where as many others as had each concept have got it; all others where they are fewer."""
    changed = np.array(c, dtype=float)
    for column in changed.T:
        have, others = np.count_nonzero(column >= PRESENT), np.flatnonzero(column < PRESENT)
        column[rng.choice(others, min(have, len(others)), replace=False)] = 1.0
    return changed


def meta_auprc(scores: np.ndarray, is_true: np.ndarray) -> float:
    """Average precision of scores (U, D) as predictions of `is_true`, bool (U, D)."""
    order = np.argsort(-scores, axis=None, kind="stable")
    values, hits = scores.ravel()[order], np.asarray(is_true, dtype=float).ravel()[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # of each run of equal scores
    found = hits.cumsum()[last]
    return float((np.diff(found, prepend=0.0) * found / (last + 1)).sum() / max(hits.sum(), 1.0))
