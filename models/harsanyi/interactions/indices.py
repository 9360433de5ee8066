"""What Harsanyi interactions say about single players, small groups and orders, at no further model call.

Shapley, "A value for n-person games", 1953; Harsanyi, 1963; Grabisch and Roubens, "An axiomatic approach to the
concept of interaction among players in cooperative games", 1999.

    phi_i = sum_{S contains i} I(S) / |S|           I_Sh(T) = sum_{S contains T} I(S) / (|S| - |T| + 1)

| symbol | meaning | shape |
|---|---|---|
| I | Harsanyi (AND) interactions; of an AND-OR split: `moebius` of the whole v | (2^n,) |
| phi | Shapley values: v(N) - v(empty), shared among the players | (n,) |
| I_Sh | Shapley interaction index; of one player it is the Shapley value | a number for each T |
| k | order: the number of players of a pattern | n + 1 of them |

A sum over all supersets is one butterfly, but the weight depends on |S| and |T|: a butterfly for each order of T
gives I_Sh for all T of that order at once, O(n 2^n).
"""

from itertools import combinations

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions._checks import real_array, whole_number
from conceptry.models.harsanyi.interactions.moebius import (
    finite_table,
    inverse_moebius_adjoint,
    n_players,
    subset_index,
    subset_sizes,
)

SALIENT_SHARE = 0.05  # of the largest |I|: stronger patterns are salient


def shapley_values(i: np.ndarray) -> np.ndarray:
    """Shapley values (n,) of the interactions i (2^n,); they add up to v(N) - v(empty)."""
    i = finite_table("i", i)
    n = n_players(i)
    shared = i / np.maximum(subset_sizes(n), 1)
    return np.array([shared.reshape(2**player, 2, -1)[:, 1].sum() for player in range(n)])


def shapley_interactions(i: np.ndarray, order: int = 2) -> dict[tuple[int, ...], float]:
    """Shapley interaction indices of the interactions i (2^n,), by ascending tuples of players.

    Args:
        i: (2^n,) Harsanyi interactions.
        order: number of players of each tuple, 1 to n.

    Raises:
        InputError: if i is no table of finite numbers or the order is out of range.
    """
    i = finite_table("i", i)
    n = n_players(i)
    whole_number("order", order, least=1, most=n)
    sizes = subset_sizes(n)
    over_supersets = inverse_moebius_adjoint(np.where(sizes >= order, i / np.maximum(sizes - order + 1, 1), 0.0))
    return {players: float(over_supersets[subset_index(players, n)]) for players in combinations(range(n), order)}


def strengths(i: np.ndarray) -> np.ndarray:
    """|I| as float64, that of the empty set 0: v(empty) is no pattern. Also for AND rows with OR rows behind them."""
    strength = np.abs(real_array("i", i))
    strength[0] = 0.0
    return strength


def salient(i: np.ndarray, share: float = SALIENT_SHARE) -> np.ndarray:
    """The rows, ascending, whose strength is above `share` of the largest; see `strengths`."""
    strength = strengths(i)
    return np.flatnonzero(strength > share * strength.max())


def strength_by_order(i: np.ndarray) -> np.ndarray:
    """Sum of |I| over the patterns of each order, (n + 1,), from the interactions i (2^n,)."""
    i = finite_table("i", i)
    n = n_players(i)
    return np.bincount(subset_sizes(n), weights=np.abs(i), minlength=n + 1)


def counts_by_order(i: np.ndarray, threshold_share: float = SALIENT_SHARE) -> np.ndarray:
    """Number of patterns of each order, int64 (n + 1,), with |I| above threshold_share times the largest.

    The empty set neither counts nor sets the largest, so v(empty) has no influence.
    """
    i = finite_table("i", i)
    if isinstance(threshold_share, bool) or not 0 <= threshold_share < 1:
        raise InputError(f"threshold_share must be at least 0 and below 1, got {threshold_share!r}")
    n = n_players(i)
    return np.bincount(subset_sizes(n)[salient(i, threshold_share)], minlength=n + 1)


def truncate(i: np.ndarray, max_order: int) -> np.ndarray:
    """The interactions i (2^n,) of at most max_order players, the others 0: an order-limited summary of the game."""
    i = finite_table("i", i)
    whole_number("max_order", max_order, least=0)
    return np.where(subset_sizes(n_players(i)) <= max_order, i, 0.0)
