"""AND-OR interactions against their definitions, the split against a simplex solver, planted games and its axioms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from conceptry.models.errors import ConvergenceWarning, InputError
from conceptry.models.harsanyi.interactions._kernels import GOLDEN, transform
from conceptry.models.harsanyi.interactions.and_or import inverse_or, or_interactions, split
from conceptry.models.harsanyi.interactions.moebius import (
    inverse_moebius,
    moebius,
    subset_index,
    subset_masks,
    subset_sizes,
)


def contributions(n):
    """AND and OR columns: [T subset of S] and [S meets T], (2^n, 2^n) each, S by rows."""
    present = subset_masks(n)
    inside = np.array([[all(S[T]) for T in present] for S in present])
    meets = np.array([[any(S[T]) for T in present] for S in present])
    return inside.astype(float), meets.astype(float)


def game(n, and_terms, or_terms, empty=0.0):
    """Rewards of {players: effect} of either kind, and the L1 norm of the effects."""
    present = subset_masks(n)
    v = np.full(2**n, empty)
    for players, effect in and_terms.items():
        v += effect * present[:, list(players)].all(axis=1)
    for players, effect in or_terms.items():
        v += effect * present[:, list(players)].any(axis=1)
    return v, sum(map(abs, [*and_terms.values(), *or_terms.values()]))


def simplex(v):
    """The minimal L1 norm of AND and OR effects that add up to v, each effect a difference of two numbers >= 0."""
    inside, meets = contributions(len(v).bit_length() - 1)
    columns = np.hstack([inside, meets[:, 1:]])
    cost = np.ones(columns.shape[1])
    cost[0] = 0.0
    return linprog(np.tile(cost, 2), A_eq=np.hstack([columns, -columns]), b_eq=v, method="highs").fun


def assert_adds_up(v, parts):
    recomposed = inverse_moebius(parts.i_and) + inverse_or(parts.i_or)
    assert np.abs(recomposed - v).max() <= 1e-11 * np.abs(v).max()
    singles = subset_sizes(len(v).bit_length() - 1) < 2
    assert not parts.i_or[singles].any()
    assert parts.i_and[0] == v[0]
    assert parts.l1 == pytest.approx(np.abs(parts.i_and[1:]).sum() + np.abs(parts.i_or).sum(), rel=1e-12)


@pytest.mark.parametrize("n", range(6))
def test_or_interactions_equal_their_definition(n):
    v = np.random.default_rng(n).normal(size=2**n)
    present = subset_masks(n)
    expected = [
        -sum(
            (-1) ** (S.sum() - L.sum()) * v[subset_index(np.flatnonzero(~L), n)] for L in present if not (L & ~S).any()
        )
        for S in present
    ]
    o = or_interactions(v)
    np.testing.assert_allclose(o[1:], expected[1:], atol=1e-12)
    assert o[0] == v[0]
    _, meets = contributions(n)
    np.testing.assert_allclose(inverse_or(o), v[0] + meets[:, 1:] @ o[1:], atol=1e-12)
    np.testing.assert_allclose(inverse_or(o), v, atol=1e-12)


def test_or_interactions_take_batches():
    v = np.random.default_rng(0).normal(size=(3, 8))
    np.testing.assert_array_equal(or_interactions(v), [or_interactions(row) for row in v])
    np.testing.assert_allclose(inverse_or(or_interactions(v)), v, atol=1e-14)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 12])
def test_the_transform_is_symmetric_and_its_own_inverse(n):
    x, y = np.random.default_rng(n).normal(size=(2, 2**n))
    fx, fy = x.copy(), y.copy()
    transform(fx, n)
    transform(fy, n)
    assert fx @ y == pytest.approx(x @ fy)
    transform(fx, n)
    np.testing.assert_allclose(fx, x, atol=1e-12)


def test_the_transform_diagonalises_the_constraint():
    """K (a, b) = H a + D b = v, and s (R a)_k + (R b)_~k = w_k describe the same (a, b)."""
    n = 4
    R = np.eye(16)
    for row in R:
        transform(row, n)
    s = GOLDEN ** (n - 2.0 * subset_sizes(n))
    H, meets = contributions(n)
    decoupled = np.hstack([s[:, None] * R, R[::-1]])
    coupled = np.hstack([H, 1 - meets])
    to_coupled = coupled @ np.linalg.pinv(decoupled)
    np.testing.assert_allclose(to_coupled @ decoupled, coupled, atol=1e-10)
    assert np.linalg.matrix_rank(to_coupled) == 16


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(4))
def test_l1_is_the_minimum(n, seed):
    rng = np.random.default_rng(seed)
    v = rng.normal(size=2**n) if seed < 2 else np.tanh(subset_masks(n) @ rng.normal(size=(n, 4))) @ rng.normal(size=4)
    parts = split(v + 10.0, tolerance=1e-8)
    assert_adds_up(v + 10.0, parts)
    assert parts.converged
    assert parts.gap <= 1e-8 * parts.l1
    minimum = simplex(v)
    assert parts.l1 == pytest.approx(minimum, rel=2e-8)
    assert parts.l1 - parts.gap <= minimum * (1 + 1e-9)


@pytest.mark.parametrize("n", [6, 8, 10])
@pytest.mark.parametrize("seed", range(4))
def test_planted_terms_are_the_strongest(n, seed):
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.flatnonzero(subset_sizes(n) >= 2), 6, replace=False)
    effects = rng.choice([-1.0, 1.0], 6) * rng.uniform(0.5, 2.0, 6)
    terms = [
        {tuple(np.flatnonzero(subset_masks(n, row, row + 1)[0])): effect for row, effect in zip(r, e, strict=True)}
        for r, e in ((rows[:3], effects[:3]), (rows[3:], effects[3:]))
    ]
    v, planted_l1 = game(n, *terms, empty=0.7)
    parts = split(v)
    assert_adds_up(v, parts)
    assert parts.converged
    assert parts.l1 <= planted_l1 * (1 + 1e-6)
    strength = np.abs(np.concatenate([np.where(np.arange(2**n) > 0, parts.i_and, 0.0), parts.i_or]))
    assert sorted(np.argsort(-strength)[:6]) == sorted([*rows[:3], *(2**n + rows[3:])])
    np.testing.assert_allclose(parts.i_and[rows[:3]], effects[:3], atol=1e-4)
    np.testing.assert_allclose(parts.i_or[rows[3:]], effects[3:], atol=1e-4)


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("seed", range(6))
def test_terms_that_crowd_give_no_longer_split(n, seed):
    rng = np.random.default_rng(seed)
    planted = np.where(rng.random((2, 2**n)) < 0.4, rng.normal(size=(2, 2**n)), 0.0)
    planted[:, 0] = 0.0
    v = inverse_moebius(planted[0]) + inverse_or(planted[1])
    assert split(v).l1 <= np.abs(planted).sum() * (1 + 1e-6)


def test_few_terms_come_out_without_dust():
    v, _ = game(12, {(0, 1, 2): 1.5, (3, 4): -1.0, (7,): 0.5}, {(5, 6, 8): 2.0, (9, 10): 0.75}, empty=-0.25)
    parts = split(v)
    assert np.count_nonzero(parts.i_and) == 4
    assert np.count_nonzero(parts.i_or) == 2
    assert parts.l1 == pytest.approx(5.75, rel=1e-12)


@pytest.mark.parametrize(
    ("and_terms", "or_terms"),
    [
        ({(0, 1): 1.0}, {(0, 1): 1.0}),  # = x0 + x1
        ({(0,): 1.0, (1,): 1.0}, {}),
        ({(0,): 1.0, (0, 1): -1.0}, {}),  # = OR - x1
        ({(0, 1): -0.5, (2, 3): 2.0}, {(0, 1): -1.5}),
        ({(2,): 1.0, (0, 2): -1.0, (1, 2): -1.0}, {}),  # = OR(0, 1, 2) - OR(0, 1) - AND(0, 1, 2)
    ],
)
def test_where_the_split_is_not_unique_its_norm_is(and_terms, or_terms):
    v, planted_l1 = game(4, and_terms, or_terms)
    parts = split(v, tolerance=1e-9)
    assert_adds_up(v, parts)
    assert parts.l1 == pytest.approx(planted_l1, rel=1e-8)
    assert simplex(v) == pytest.approx(planted_l1, rel=1e-8)


def test_a_planted_game_that_can_be_written_shorter():
    v, _ = game(3, {(0,): 1.0, (1,): 1.0, (0, 1): -1.0}, {})
    parts = split(v)
    assert parts.l1 == pytest.approx(1.0)
    assert parts.i_or[subset_index([0, 1], 3)] == pytest.approx(1.0)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.floats(-1e3, 1e3), st.sampled_from([1e-8, 0.1, 1.0, 1e7]))
def test_shift_scale_and_negation(n, seed, shift, factor):
    v = np.random.default_rng(seed).normal(size=2**n)
    parts = split(v)
    assert_adds_up(v, parts)
    assert parts.l1 <= np.abs(moebius(v)[1:]).sum() * (1 + 1e-12)
    other = split(shift * factor - factor * v)
    assert other.l1 == pytest.approx(factor * parts.l1, rel=3e-6)


@settings(derandomize=True, deadline=None, max_examples=10)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_and_and_or_change_places_when_presence_does(n, seed):
    """Absence instead of presence turns [T subset S] into 1 - [S meets T]."""
    v = np.random.default_rng(seed).normal(size=2**n)
    assert split(v[::-1]).l1 == pytest.approx(split(v).l1, rel=3e-6)


@pytest.mark.parametrize("v", [[3.0], [0.0, 0.0], [2.5] * 16])
def test_constant_games(v):
    parts = split(v)
    assert (parts.l1, parts.gap, parts.iterations, parts.converged) == (0.0, 0.0, 0, True)
    assert parts.i_and.tolist() == [v[0]] + [0.0] * (len(v) - 1)
    assert not parts.i_or.any()


def test_two_runs_agree_and_the_input_is_not_changed():
    v = np.random.default_rng(3).normal(size=64)
    before = v.copy()
    first, second = split(v), split(v)
    np.testing.assert_array_equal(v, before)
    np.testing.assert_array_equal(first.i_and, second.i_and)


def test_too_few_iterations_warn_and_still_add_up():
    v = np.random.default_rng(0).normal(size=256)
    with pytest.warns(ConvergenceWarning, match="did not converge in 7 iterations"):
        parts = split(v, max_iterations=7)
    assert not parts.converged
    assert parts.iterations == 7
    assert parts.gap > 1e-6 * parts.l1
    assert_adds_up(v, parts)
    exact = split(v)
    assert parts.l1 - parts.gap <= exact.l1 <= parts.l1


@pytest.mark.parametrize(
    ("v", "options", "message"),
    [
        (np.zeros(6), {}, r"2\^n entries, got shape \(6,\)"),
        (np.zeros((2, 4)), {}, r"v must have shape \(2\^n,\), got \(2, 4\)"),
        ([0.0, np.nan], {}, "v row 1 must be a finite number, got nan"),
        (np.zeros(4), {"tolerance": 0}, "tolerance must be a finite number above 0, got 0"),
        (np.zeros(4), {"tolerance": np.nan}, "tolerance must be a finite number above 0, got nan"),
        (np.zeros(4), {"max_iterations": 0}, "max_iterations must be a whole number of at least 1, got 0"),
        (np.zeros(4), {"max_iterations": 1.5}, "max_iterations must be a whole number of at least 1, got 1.5"),
    ],
)
def test_refuses(v, options, message):
    with pytest.raises(InputError, match=message):
        split(v, **options)
