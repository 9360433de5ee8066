"""The Moebius transform against its definition, games of known interactions, and the axioms it must meet."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.moebius import (
    finite_table,
    inverse_moebius,
    inverse_moebius_adjoint,
    moebius,
    moebius_adjoint,
    n_players,
    subset_index,
    subset_masks,
    subset_sizes,
)

examples = settings(derandomize=True, deadline=None, max_examples=30)


@st.composite
def games(draw, max_players=6):
    n = draw(st.integers(0, max_players))
    return draw(st.lists(st.floats(-1e3, 1e3), min_size=2**n, max_size=2**n).map(np.array))


def literal(v):
    """I(S) = sum over L subset of S of (-1)^(|S|-|L|) v(L), with subsets as tuples of booleans."""
    n = len(v).bit_length() - 1
    subsets = list(product([False, True], repeat=n))  # the order of binary_repr(k, n)
    return np.array(
        [
            sum(
                (-1) ** (sum(S) - sum(L)) * reward
                for L, reward in zip(subsets, v, strict=True)
                if all(s or not part for s, part in zip(S, L, strict=True))
            )
            for S in subsets
        ]
    )


@pytest.mark.parametrize("n", range(6))
def test_equals_the_definition(n):
    v = np.random.default_rng(n).normal(size=2**n)
    np.testing.assert_allclose(moebius(v), literal(v), atol=1e-12)


@examples
@given(games())
def test_round_trip_and_sum(v):
    interactions = moebius(v)
    np.testing.assert_allclose(inverse_moebius(interactions), v, atol=1e-9)
    np.testing.assert_allclose(moebius(inverse_moebius(v)), v, atol=1e-9)
    assert interactions.sum() == pytest.approx(v[-1], abs=1e-9)
    assert interactions[0] == v[0]


@examples
@given(games(), st.integers(0, 2**32 - 1), st.floats(-10, 10))
def test_linear(v, seed, factor):
    other = np.random.default_rng(seed).normal(size=len(v))
    np.testing.assert_allclose(moebius(factor * v + other), factor * moebius(v) + moebius(other), atol=1e-8)


@examples
@given(games(max_players=5), st.data())
def test_a_dummy_player_is_in_no_pattern(v, data):
    n = n_players(v)
    place = data.draw(st.integers(0, n))
    with_dummy = np.repeat(v.reshape(2**place, 1, -1), 2, axis=1)
    interactions = moebius(with_dummy.ravel()).reshape(with_dummy.shape)
    assert not interactions[:, 1].any()
    np.testing.assert_array_equal(interactions[:, 0].ravel(), moebius(v))


@examples
@given(games(), st.data())
def test_players_can_be_renamed(v, data):
    n = n_players(v)
    order = data.draw(st.permutations(range(n)))
    renamed = v.reshape((2,) * n).transpose(order).ravel()
    expected = moebius(v).reshape((2,) * n).transpose(order).ravel()
    np.testing.assert_allclose(moebius(renamed), expected, atol=1e-9)


def test_and_games_are_recovered_exactly():
    rng = np.random.default_rng(0)
    planted = np.zeros(2**10)
    planted[rng.choice(2**10, 12, replace=False)] = rng.integers(-9, 10, 12)
    present = subset_masks(10)
    v = np.zeros(2**10)
    for row in np.flatnonzero(planted):
        v += planted[row] * present[:, present[row]].all(axis=1)
    np.testing.assert_array_equal(moebius(v), planted)
    x1, x2, x3 = subset_masks(3).T.astype(float)
    assert np.flatnonzero(moebius(x1 * x2 + x3)).tolist() == [subset_index([2], 3), subset_index([0, 1], 3)]


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_residual_at_twelve_players(offset):
    v = np.random.default_rng(1).normal(size=2**12) + offset
    assert np.abs(inverse_moebius(moebius(v)) - v).max() < 1e-9 * np.abs(v).max()


def test_batches_lists_strides_and_types():
    v = np.random.default_rng(2).normal(size=(2, 3, 16))
    expected = np.array([[moebius(row) for row in rows] for rows in v])
    np.testing.assert_array_equal(moebius(v), expected)
    np.testing.assert_array_equal(moebius(np.asfortranarray(v)), expected)
    np.testing.assert_array_equal(moebius(np.repeat(v, 2, axis=2)[..., ::2]), expected)
    assert moebius(np.zeros((0, 4))).shape == (0, 4)
    assert moebius([1, 2, 3, 5]).dtype == np.float64
    assert moebius(np.arange(4, dtype=np.float32)).dtype == np.float64


def test_the_input_is_not_changed():
    v = np.arange(8.0)
    moebius(v)
    np.testing.assert_array_equal(v, np.arange(8.0))
    tensor = torch.arange(8.0)
    moebius(tensor)
    assert tensor.tolist() == list(range(8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64])
def test_tensors_keep_their_dtype(dtype):
    v = torch.arange(32).reshape(2, 16).to(dtype)
    assert moebius(v).dtype == dtype
    np.testing.assert_array_equal(moebius(v).double(), moebius(v.numpy()))
    np.testing.assert_array_equal(moebius(v.mT.contiguous().mT).double(), moebius(v.numpy()))


def test_gradients():
    v = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for transform in (moebius, inverse_moebius, moebius_adjoint, inverse_moebius_adjoint):
        assert torch.autograd.gradcheck(transform, (v,))
        assert torch.autograd.gradgradcheck(transform, (v,))


def test_adjoints_are_transposes():
    matrix, inverse = moebius(np.eye(16)).T, inverse_moebius(np.eye(16)).T
    np.testing.assert_array_equal(moebius_adjoint(np.eye(16)).T, matrix.T)
    np.testing.assert_array_equal(inverse_moebius_adjoint(np.eye(16)).T, inverse.T)
    np.testing.assert_array_equal(matrix @ inverse, np.eye(16))


def test_order_of_the_rows():
    masks = subset_masks(3)
    assert ["".join(map(str, row)) for row in masks.astype(int)] == [np.binary_repr(k, 3) for k in range(8)]
    np.testing.assert_array_equal(subset_masks(5, 7, 19), subset_masks(5)[7:19])
    np.testing.assert_array_equal(subset_sizes(5), subset_masks(5).sum(1))
    assert subset_sizes(5).dtype == np.int64
    assert all(subset_index(np.flatnonzero(row), 3) == k for k, row in enumerate(masks))
    assert subset_masks(0).shape == (1, 0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros(3), r"must have 2\^n entries, got shape \(3,\)"),
        (np.zeros((4, 0)), r"must have 2\^n entries, got shape \(4, 0\)"),
        (1.0, r"must have 2\^n entries, got shape \(\)"),
        (np.broadcast_to(0.0, (2**21,)), "belongs to 21 players, the limit is 20; group players"),
        (torch.zeros(6), r"must have 2\^n entries, got shape \(6,\)"),
        (np.zeros(4, dtype=complex), "must hold real numbers, got dtype complex128"),
        (["a", "b"], "must hold real numbers, got dtype <U1"),
        (torch.zeros(4, dtype=torch.bool), "must hold real numbers, got torch.bool"),
    ],
)
@pytest.mark.parametrize("transform", [moebius, inverse_moebius, moebius_adjoint])
def test_refuses(transform, table, message):
    with pytest.raises(InputError, match=message):
        transform(table)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: subset_masks(21), "must be 0..20, got 21; group players"),
        (lambda: subset_masks(3, 2, 9), "rows 2 to 9 are not within the 8 subsets"),
        (lambda: subset_sizes(-1), "must be 0..20, got -1"),
        (lambda: subset_index([1, 3], 3), "player 3 is not in 0..2"),
        (lambda: finite_table("v", [0.0, np.nan]), "v row 1 must be a finite number, got nan"),
        (lambda: finite_table("v", np.zeros((2, 2))), r"v must have shape \(2\^n,\), got \(2, 2\)"),
        (lambda: finite_table("v", np.zeros(4), 8), r"v must have shape \(8,\), got \(4,\)"),
        (lambda: finite_table("v", "abc"), "v must hold real numbers, got dtype <U3"),
    ],
)
def test_refuses_by_name(call, message):
    with pytest.raises(InputError, match=message):
        call()
