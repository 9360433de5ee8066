"""Scores by the words that descriptions name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.evaluation.milan.text_scores import (
    derangement,
    planted_score,
    properties,
    property_set_score,
    shuffled_score,
)
from conceptry.models.errors import InputError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Dogs on red backgrounds.", {"dog", "red"}),
        ("grey and stripy areas", {"gray", "striped"}),
        ("a watch or leaves", {"watch", "leaf"}),
        ("Reddish dogged starry things", set()),
        ("", set()),
        ("scissors, scissors; CHERRIES", {"scissors", "cherries"}),
    ],
)
def test_properties(text: str, words: set[str]):
    assert properties(text) == words


def test_scores():
    texts = ["dogs", "dogs on red backgrounds", "cats"]
    assert property_set_score(texts, [{"dog"}, {"red", "dog"}, {"dog"}]) == pytest.approx(2 / 3)
    assert property_set_score(texts, [{"dog", "red"}, {"dog"}, set()]) == 0
    assert planted_score(texts, ["dog", "red", "cat"]) == 1
    assert shuffled_score(["dogs", "cats", "keys"], ["dog", "cat", "key"]) == 0


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(2, 30), st.integers(0, 100))
def test_a_derangement_leaves_none_at_its_place(n: int, seed: int):
    truths = [str(i) for i in range(n)]
    found = derangement(truths, seed)
    assert sorted(found) == sorted(truths)
    assert all(a != b for a, b in zip(found, truths, strict=True))


def test_what_cannot_be_scored():
    with pytest.raises(InputError, match="as many descriptions as truths, at least 1, got 1 and 2"):
        planted_score(["dogs"], ["dog", "cat"])
    with pytest.raises(InputError, match="got 0 and 0"):
        property_set_score([], [])
    with pytest.raises(InputError, match="at least 2 to be shuffled, got 1"):
        derangement(["dog"])
