"""Sparse interactions as explanations: what denoising keeps of them, and their error curve, against all subsets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.evaluation.harsanyi.metrics import error_curve, sparse_error_curve
from conceptry.models.harsanyi.interactions.denoise import Limits, denoise
from conceptry.models.harsanyi.interactions.moebius import row_masks, subset_index, subset_masks
from conceptry.models.harsanyi.interactions.sparse import denoise_terms, with_empty_first
from conceptry.models.harsanyi.interactions.terms import Terms

LIMITS = {"min_patterns": 3, "max_patterns": 12, "n_greedy": 5}


def dense(terms):
    """Rewards and AND interactions over all subsets."""
    table = np.zeros(2**terms.n)
    for players, effect in terms.and_terms.items():
        table[subset_index(players, terms.n)] += effect
    return terms.values(subset_masks(terms.n)), table


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(3, 7), st.integers(0, 2**32 - 1))
def test_denoising_keeps_what_it_keeps_of_the_table(n, seed):
    rng = np.random.default_rng(seed)
    rows = rng.choice(2**n, size=min(2**n, 30), replace=False)
    weights = rng.normal(size=len(rows)).tolist()
    sets = {tuple(np.flatnonzero(mask).tolist()): w for mask, w in zip(row_masks(rows, n), weights, strict=True)}
    terms = with_empty_first(Terms.of(n, sets))
    v, table = dense(terms)
    ours = denoise_terms(terms, Limits(**LIMITS))
    every = list(terms.sets())
    kept = {every[row] for row in ours.kept}
    expected = denoise(v, table, **LIMITS)
    # The table has zeros besides, which are removed first and change nothing.
    assert kept == {tuple(np.flatnonzero(mask).tolist()) for mask in row_masks(expected.kept, n)}
    assert ours.square_error == pytest.approx(expected.square_error, abs=1e-9)
    assert ours.explain_ratio == pytest.approx(expected.explain_ratio, abs=1e-9)
    for found, known in zip(sparse_error_curve(terms, 20), error_curve(v, table, 20), strict=True):
        np.testing.assert_allclose(found, known, atol=1e-9)


def test_weak_terms_beyond_the_strongest_are_removed_at_once():
    rng = np.random.default_rng(0)
    pairs = {(i, j): 1e-6 * float(rng.normal()) for i in range(60) for j in range(i + 1, 60)}
    terms = with_empty_first(Terms.of(60, {(k,): 1.0 + k for k in range(20)} | pairs))
    found = denoise_terms(terms, Limits())
    assert {players for row, players in enumerate(terms.sets()) if row in found.kept} >= {(k,) for k in range(8, 20)}
    assert found.square_error < 0.1
    assert found.explain_ratio > 0.95


def test_the_empty_set_comes_first():
    terms = with_empty_first(Terms.of(3, {(1,): 2.0}, {(0, 2): 1.0}))
    assert list(terms.sets()) == [(), (1,), (0, 2)]
    assert terms.effects.tolist() == [0.0, 2.0, 1.0]
    assert with_empty_first(terms) is terms
