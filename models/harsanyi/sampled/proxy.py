"""Boosted trees from masks to rewards, and the terms they are made of.

Friedman, "Greedy function approximation: a gradient boosting machine", 2001; Butler et al., "ProxySPEX:
Inference-efficient interpretability via sparse feature interactions in LLMs", 2025, arXiv:2505.17495, for trees as
proxies of a game.

Columns are players, so every split sends present one way and absent the other. A leaf of value w, with the players E on
the present side of its path and R on the absent side, is  w prod_E z_i prod_R (1 - z_i),  which has the AND terms
(-1)^|U| w of E + U for each U in R. Where E is empty, it is w - w OR(R) just as well.

Trees of each fold are boosted on the other folds, as long as the error on their own falls, and the mean of all folds
is the proxy: it is better than one ensemble, and loses no mask.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from conceptry.models.harsanyi.interactions.terms import Terms

DEPTHS = (3, 5)
MOST_TREES = 600
FOLDS = 5
_RATE, _SHARE, _LEAST_ROWS, _SHRINKAGE, _PATIENCE = 0.1, 0.7, 5.0, 1.0, 40


@dataclass(frozen=True)
class Ensemble:
    """Trees of one depth. players: (trees, 2^depth - 1), -1 where a node is not split; leaves: (trees, 2^depth)."""

    players: np.ndarray
    leaves: np.ndarray
    error: float  # on the masks that stopped it


def boosted(Z: np.ndarray, v: np.ndarray, validation: np.ndarray, depth: int, seed: int) -> Ensemble:
    """Trees for masks Z (m, n) float32 with rewards v, stopped by the rows of `validation` (m,) bool."""
    from conceptry.models.harsanyi.sampled._kernels import boost  # numba is slow to import

    players = np.full((MOST_TREES, 2**depth - 1), -1)
    leaves = np.zeros((MOST_TREES, 2**depth))
    errors = boost(
        *(Z[~validation], v[~validation], Z[validation], v[validation]),
        *(depth, _RATE, _SHARE, _LEAST_ROWS, _SHRINKAGE, _PATIENCE, seed, players, leaves),
    )
    best = int(errors.argmin())
    return Ensemble(players[:best], leaves[:best], float(errors[best]))


def predicted(ensemble: Ensemble, Z: np.ndarray) -> np.ndarray:
    """Sum of the trees (m,) for masks Z (m, n) float32."""
    from conceptry.models.harsanyi.sampled._kernels import predict

    depth = ensemble.leaves.shape[1].bit_length() - 1
    return predict(Z, ensemble.players, ensemble.leaves, depth)


def ensemble_terms(ensembles: list[Ensemble], n: int, or_terms: bool) -> Terms:
    """The terms of the mean of the ensembles."""
    leaves: defaultdict[tuple[tuple[int, ...], tuple[int, ...]], float] = defaultdict(float)
    for ensemble in ensembles:
        for players, values in zip(ensemble.players.tolist(), ensemble.leaves.tolist(), strict=True):
            _collect(players, values, leaves)
    ands: defaultdict[tuple[int, ...], float] = defaultdict(float)
    ors: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for (present, absent), value in leaves.items():
        value /= len(ensembles)
        if or_terms and not present and len(absent) > 1:
            ands[()] += value
            ors[absent] -= value
            continue
        for size in range(len(absent) + 1):
            for subset in combinations(absent, size):
                ands[tuple(sorted(present + subset))] += (-1) ** size * value
    return Terms.of(n, dict(sorted(ands.items())), dict(sorted(ors.items())))


def _collect(
    players: list[int],
    values: list[float],
    leaves: defaultdict[tuple[tuple[int, ...], tuple[int, ...]], float],
) -> None:
    """Add the leaves of a tree by the players on both sides of their paths."""
    stack: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = [(0, (), ())]
    while stack:
        node, present, absent = stack.pop()
        if node >= len(players):
            leaves[tuple(sorted(present)), tuple(sorted(absent))] += values[node - len(players)]
        elif players[node] < 0:
            stack.append((2 * node + 1, present, absent))
        else:
            stack.append((2 * node + 1, present, (*absent, players[node])))
            stack.append((2 * node + 2, (*present, players[node]), absent))
