"""Sparse terms against the table over all subsets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.indices import shapley_interactions, shapley_values
from conceptry.models.harsanyi.interactions.moebius import moebius, subset_masks
from conceptry.models.harsanyi.interactions.terms import Terms


def value_by_definition(terms, mask):
    present = {int(k) for k in np.flatnonzero(mask)}
    joint = sum(w for players, w in terms.and_terms.items() if set(players) <= present)
    return joint + sum(w for players, w in terms.or_terms.items() if set(players) & present)


@st.composite
def games(draw):
    n = draw(st.integers(2, 6))
    players = st.sets(st.integers(0, n - 1)).map(lambda found: tuple(sorted(found)))
    effects = st.floats(-10, 10)
    joint = draw(st.dictionaries(players, effects, max_size=8))
    either = draw(st.dictionaries(players.filter(lambda found: len(found) > 1), effects, max_size=5))
    return Terms.of(n, joint, either)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(games())
def test_terms_are_the_game_of_the_table(terms):
    masks = subset_masks(terms.n)
    v = terms.values(masks)
    np.testing.assert_allclose(v, [value_by_definition(terms, mask) for mask in masks], atol=1e-12)
    interactions = moebius(v)
    np.testing.assert_allclose(terms.shapley_values(), shapley_values(interactions), atol=1e-12)
    for order in range(1, terms.n + 1):
        found = terms.shapley_interactions(order)
        for players, value in shapley_interactions(interactions, order).items():
            assert found.get(players, 0.0) == pytest.approx(value, abs=1e-12)


def test_chosen_terms_keep_their_players():
    terms = Terms.of(4, {(): 1.0, (1,): 2.0, (0, 3): 3.0, (0, 1, 2): 4.0}, {(2, 3): 5.0})
    some = terms.chosen(np.abs(terms.effects) > 2)
    assert some.and_terms == {(0, 3): 3.0, (0, 1, 2): 4.0}
    assert some.or_terms == {(2, 3): 5.0}
    assert terms.chosen([1, 0]).and_terms == {(1,): 2.0, (): 1.0}
    assert len(terms.chosen([])) == 0


def test_no_term_is_a_game_of_zeros():
    assert Terms.of(3, {}).values(subset_masks(3)).tolist() == [0.0] * 8


@pytest.mark.parametrize(
    ("joint", "either", "sentence"),
    [
        ({(1, 0): 1.0}, {}, r"term \(1, 0\): expected ascending numbers of players below 3"),
        ({(3,): 1.0}, {}, r"term \(3,\): expected ascending numbers of players below 3"),
        ({}, {(1,): 1.0}, r"OR term \(1,\): expected two players or more"),
    ],
)
def test_bad_terms_are_refused(joint, either, sentence):
    with pytest.raises(InputError, match=sentence):
        Terms.of(3, joint, either)


def test_bad_masks_are_refused():
    with pytest.raises(InputError, match=r"masks must be bool of shape \(batch, 3\), got int64 \(1, 3\)"):
        Terms.of(3, {}).values([[0, 1, 1]])
