"""Shapley indices against their definitions by permutations and subset sums; summaries by order."""

from itertools import chain, combinations, permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.indices import (
    counts_by_order,
    shapley_interactions,
    shapley_values,
    strength_by_order,
    truncate,
)
from conceptry.models.harsanyi.interactions.moebius import inverse_moebius, moebius, subset_index, subset_masks


def subsets(players):
    players = list(players)
    return chain.from_iterable(combinations(players, k) for k in range(len(players) + 1))


def shapley_by_permutations(v, n):
    """The mean of what each player adds when players enter in random order."""
    phi = np.zeros(n)
    for order in permutations(range(n)):
        for place, player in enumerate(order):
            before = subset_index(order[:place], n)
            phi[player] += v[before | subset_index([player], n)] - v[before]
    return phi / factorial(n)


def interaction_by_subsets(v, n, T):
    """sum over S without T of (n-|S|-|T|)! |S|! / (n-|T|+1)! times the discrete derivative of v by T at S."""
    total, t = 0.0, len(T)
    for S in subsets(set(range(n)) - set(T)):
        derivative = sum((-1) ** (t - len(L)) * v[subset_index([*S, *L], n)] for L in subsets(T))
        total += factorial(n - len(S) - t) * factorial(len(S)) / factorial(n - t + 1) * derivative
    return total


@pytest.mark.parametrize("n", range(1, 6))
def test_equal_the_definitions(n):
    v = np.random.default_rng(n).normal(size=2**n)
    interactions = moebius(v)
    np.testing.assert_allclose(shapley_values(interactions), shapley_by_permutations(v, n), atol=1e-12)
    for order in range(1, n + 1):
        indices = shapley_interactions(interactions, order)
        assert list(indices) == list(combinations(range(n), order))
        for T, value in indices.items():
            assert value == pytest.approx(interaction_by_subsets(v, n, T), abs=1e-12)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_efficiency_dummy_and_symmetry(n, seed):
    v = np.random.default_rng(seed).normal(size=2**n)
    phi = shapley_values(moebius(v))
    assert phi.sum() == pytest.approx(v[-1] - v[0], abs=1e-9)
    with_dummy = np.repeat(v, 2)  # a last player without influence
    np.testing.assert_allclose(shapley_values(moebius(with_dummy)), [*phi, 0.0], atol=1e-9)
    reverse = v.reshape((2,) * n).transpose().ravel()
    np.testing.assert_allclose(shapley_values(moebius(reverse)), phi[::-1], atol=1e-9)
    singles = shapley_interactions(moebius(v), 1)
    np.testing.assert_allclose(list(singles.values()), phi, atol=1e-9)


def test_known_game():
    x1, x2, x3 = subset_masks(3).T.astype(float)
    interactions = moebius(6 * x1 * x2 * x3 + 2 * x1 * x2 + x3)
    np.testing.assert_allclose(shapley_values(interactions), [3.0, 3.0, 3.0])
    assert shapley_interactions(interactions) == pytest.approx({(0, 1): 5.0, (0, 2): 3.0, (1, 2): 3.0})
    assert strength_by_order(interactions).tolist() == [0.0, 1.0, 2.0, 6.0]


def test_twenty_players():
    phi = shapley_values(np.full(2**20, 2.0**-20))
    np.testing.assert_allclose(phi, (1 - 2.0**-20) / 20)
    assert len(shapley_interactions(np.zeros(2**20), 3)) == 1140


def test_counts_by_order_ignore_the_empty_set():
    interactions = np.array([100.0, 1.0, -0.04, 0.06, 0.0, -2.0, 0.1, 0.11])
    assert counts_by_order(interactions).tolist() == [0, 1, 1, 1]
    assert counts_by_order(interactions, 0.0).tolist() == [0, 2, 3, 1]
    assert counts_by_order(np.array([3.0, 0.0, 0.0, 0.0])).tolist() == [0, 0, 0]


def test_truncated_games_agree_on_small_subsets():
    v = np.random.default_rng(0).normal(size=32)
    shortened = inverse_moebius(truncate(moebius(v), 2))
    small = subset_masks(5).sum(1) <= 2
    np.testing.assert_allclose(shortened[small], v[small])
    assert not np.allclose(shortened[~small], v[~small])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shapley_values([1.0, 2.0, 3.0]), r"2\^n entries"),
        (lambda: shapley_values([1.0, np.inf]), "i row 1 must be a finite number"),
        (lambda: shapley_interactions(np.zeros(8), 4), "order must be a whole number from 1 to 3, got 4"),
        (lambda: shapley_interactions(np.zeros(8), 0), "order must be a whole number from 1"),
        (lambda: counts_by_order(np.zeros(8), 1.0), "threshold_share must be at least 0 and below 1, got 1.0"),
        (lambda: truncate(np.zeros(8), -1), "max_order must be a whole number of at least 0, got -1"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(InputError, match=message):
        call()
