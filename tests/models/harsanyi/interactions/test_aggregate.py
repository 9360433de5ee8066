"""Aggregation against a literal, slow transcription of its definition, and what must hold of any result."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.interactions.aggregate import Aggregation, aggregate

SETTINGS = settings(derandomize=True, deadline=None, max_examples=40)


def literal_cost(patterns: list[set[int]], effects: list[float], kappa: float) -> float:
    """sum_S |I(S)| sum_{m in S} -log p(m) + kappa H(p), word by word; a word is an index."""
    counts: dict[int, float] = {}
    for pattern, effect in zip(patterns, effects, strict=True):
        for word in pattern:
            counts[word] = counts.get(word, 0.0) + abs(effect)
    total = sum(counts.values())
    if total == 0:
        return 0.0
    p = {word: count / total for word, count in counts.items() if count > 0}
    length = sum(
        abs(effect) * -math.log(p[word])
        for pattern, effect in zip(patterns, effects, strict=True)
        if effect
        for word in pattern
    )
    return length + kappa * sum(-q * math.log(q) for q in p.values())


def literal_aggregate(masks: np.ndarray, effects: list[float], max_merges: int, kappa: float):
    """The words as sets of players, the patterns as sets of words, and the costs, candidate by candidate."""
    n = masks.shape[1]
    words = [{player} for player in range(n)]
    patterns = [set(np.flatnonzero(mask).tolist()) for mask in masks]
    costs = [literal_cost(patterns, effects, kappa)]
    for _ in range(max_merges):
        shared = {frozenset(a & b) for a, b in itertools.combinations(patterns, 2) if len(a & b) >= 2}
        best = None
        for candidate in shared:
            written = [(p - candidate) | {len(words)} if candidate <= p else p for p in patterns]
            cost = literal_cost(written, effects, kappa)
            players = set().union(*(words[w] for w in candidate))
            gain = (cost - costs[-1]) / len(players)
            if best is None or gain < best[0]:
                best = (gain, cost, players, written)
        if best is None or best[1] >= costs[-1] * (1 - 1e-12):
            break
        _, cost, players, patterns = best
        words.append(players)
        costs.append(cost)
    return words, patterns, costs


def literal_published(masks: np.ndarray, effects: list[float], max_merges: int, kappa: float, early_stop: bool = True):
    """The published rule, subset by subset: any two words or more of a pattern may be merged."""
    n = masks.shape[1]
    words = [{player} for player in range(n)]
    patterns = [set(np.flatnonzero(mask).tolist()) for mask in masks]
    costs = [literal_cost(patterns, effects, kappa)]
    for _ in range(max_merges):
        best = None
        for pattern in patterns:
            for size in range(2, len(pattern) + 1):
                for candidate in map(set, itertools.combinations(sorted(pattern), size)):
                    written = [(p - candidate) | {len(words)} if candidate <= p else p for p in patterns]
                    cost = literal_cost(written, effects, kappa)
                    players = set().union(*(words[w] for w in candidate))
                    change = (cost - costs[-1]) / len(players)
                    if best is None or change < best[0] - 1e-9:
                        best = (change, cost, players, written)
        if best is None or (early_stop and best[1] > costs[-1] + 1e-9):
            break
        if sum(len(words) in pattern for pattern in best[3]) == 1:
            break
        _, cost, players, patterns = best
        words.append(players)
        costs.append(cost)
    return words, patterns, costs


def game(seed: int, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct random patterns with effects, no two sums of which are alike."""
    rng = np.random.default_rng(seed)
    return np.unique(rng.random((m, n)) < 0.5, axis=0), rng.laplace(size=m)


def players_of(result: Aggregation, row: int) -> np.ndarray:
    """How often each player is written in pattern `row`."""
    return result.words[result.patterns[row]].sum(axis=0)


@pytest.mark.parametrize(
    ("seed", "m", "n", "scale"), [(0, 8, 4, 1.0), (1, 12, 6, 0.05), (2, 20, 7, 30.0), (3, 25, 9, 1.0), (4, 6, 12, 5.0)]
)
def test_agrees_with_the_literal_definition(seed: int, m: int, n: int, scale: float):
    masks, effects = game(seed, m, n)
    effects = effects[: len(masks)] * scale
    words, patterns, costs = literal_aggregate(masks, effects.tolist(), 5, 10.0)
    result = aggregate(masks, effects)
    assert [set(np.flatnonzero(word).tolist()) for word in result.words] == words
    assert [set(np.flatnonzero(code).tolist()) for code in result.patterns] == patterns
    np.testing.assert_allclose(result.costs, costs, rtol=1e-10, atol=1e-12)
    assert len(costs) > 1 or m < 8  # the comparison is of merges, not of none


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_the_published_rule_agrees_with_the_literal_definition(seed: int, early_stop: bool):
    masks, effects = game(seed, 9, 6)
    effects = effects[: len(masks)] * (0.3, 1.0, 8.0)[seed % 3]
    words, patterns, costs = literal_published(masks, effects.tolist(), 5, 10.0, early_stop)
    result = aggregate(masks, effects, rule="published", early_stop=early_stop)
    assert [set(np.flatnonzero(word).tolist()) for word in result.words] == words
    assert [set(np.flatnonzero(code).tolist()) for code in result.patterns] == patterns
    np.testing.assert_allclose(result.costs, costs, rtol=1e-9, atol=1e-9)


def test_the_rules_differ_where_the_best_candidate_is_of_one_pattern_alone():
    """The strong pattern over five players is shortened most by a word of its own: there the published rule stops."""
    masks = np.array([[1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1], [1, 0, 0, 0, 0, 1, 1, 0]], dtype=bool)
    effects = np.array([20.0, 1.0, 1.0])
    assert len(aggregate(masks, effects, rule="published").words) == 8
    shared = aggregate(masks, effects)
    assert np.flatnonzero(shared.words[8]).tolist() == [5, 6]


def test_eighty_patterns_by_the_published_rule_are_fast():
    masks, effects = game(7, 80, 13)
    start = time.perf_counter()
    aggregate(masks, effects[: len(masks)], rule="published")
    assert time.perf_counter() - start < 5  # about 0.2 s; the candidates one by one take minutes


def test_rules_are_checked():
    with pytest.raises(InputError, match="rule is 'first'; expected one of shared, published"):
        aggregate(np.ones((2, 2)), np.ones(2), rule="first")
    with pytest.raises(InputError, match=r"patterns of 23 words have more than 4,194,304 together; keep fewer"):
        aggregate(np.ones((1, 23)), np.ones(1), rule="published")
    with pytest.raises(InputError, match="at most 62 words, got 63; use the rule shared"):
        aggregate(np.eye(63), np.ones(63), rule="published")


@SETTINGS
@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 12), st.integers(0, 7))
def test_patterns_are_disjoint_words_and_costs_fall(seed: int, m: int, n: int, max_merges: int):
    masks, effects = game(seed, m, n)
    result = aggregate(masks, effects[: len(masks)], max_merges=max_merges)
    merges = len(result.words) - n
    assert merges <= max_merges
    assert (result.words[:n] == np.eye(n, dtype=bool)).all()
    assert (result.words[n:].sum(axis=1) >= 2).all()
    assert len(np.unique(result.words, axis=0)) == len(result.words)
    for row, mask in enumerate(masks):
        assert (players_of(result, row) == mask).all()
    assert result.costs.shape == (merges + 1,)
    assert (np.diff(result.costs) < 0).all()


@SETTINGS
@given(st.integers(0, 10**6))
def test_order_of_players_and_patterns_does_not_matter(seed: int):
    masks, effects = game(seed, 10, 7)
    effects, rng = effects[: len(masks)], np.random.default_rng(seed + 1)
    rows, columns = rng.permutation(len(masks)), rng.permutation(7)
    plain, moved = aggregate(masks, effects), aggregate(masks[rows][:, columns], effects[rows])
    np.testing.assert_allclose(moved.costs, plain.costs, rtol=1e-9)
    assert {tuple(w) for w in plain.words[:, columns].tolist()} == {tuple(w) for w in moved.words.tolist()}


def test_finds_the_planted_coalition():
    masks = np.zeros((6, 9), dtype=bool)
    masks[:, [1, 4, 6]] = True
    masks[np.arange(1, 6), [0, 2, 3, 5, 7]] = True
    result = aggregate(masks, np.array([3.0, -2.0, 1.0, 1.0, -1.0, 2.0]))
    assert np.flatnonzero(result.words[9]).tolist() == [1, 4, 6]
    assert result.patterns[:, 9].all()
    assert (result.patterns.sum(axis=1) <= 2).all()


@pytest.mark.parametrize(
    "masks",
    [[[1, 1]], [[1, 1], [1, 0]], [[1, 1, 1], [1, 1, 0]], [[0, 0, 0], [1, 1, 1]], [[1]], [[1, 1, 1], [1, 1, 1]]],
    ids=["one pattern", "two patterns", "nested", "empty pattern", "one player", "twice the same"],
)
def test_small_cases(masks: list[list[int]]):
    result = aggregate(np.array(masks, dtype=bool), np.arange(1.0, len(masks) + 1))
    for row, mask in enumerate(masks):
        assert players_of(result, row).tolist() == mask


def test_more_than_five_merges_on_request():
    masks, effects = game(5, 60, 14)
    assert len(aggregate(masks, effects[: len(masks)]).words) == 14 + 5
    assert len(aggregate(masks, effects[: len(masks)], max_merges=9).words) == 14 + 9


def test_without_effects_nothing_is_merged():
    assert aggregate(np.ones((4, 3), dtype=bool), np.zeros(4)).words.shape == (3, 3)


def test_input_is_left_as_it_was():
    masks, effects = game(6, 20, 8)
    before = masks.copy(), effects.copy()
    aggregate(masks, effects[: len(masks)])
    assert (masks == before[0]).all()
    assert (effects == before[1]).all()


def test_eighty_patterns_of_twenty_players_are_fast():
    masks, effects = game(7, 80, 20)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        aggregate(masks, effects[: len(masks)])
        spent.append(time.perf_counter() - start)
    assert min(spent) < 0.2  # about 0.01 s; a loop over candidates in Python takes seconds


@pytest.mark.parametrize(
    ("masks", "effects", "options", "message"),
    [
        (np.ones((2, 3)), np.ones(3), {}, r"masks of shape \(2, 3\) and interactions of shape \(3,\)"),
        (np.ones(3), np.ones(3), {}, r"expected \(patterns, players\)"),
        (np.ones((2, 3)), np.array([1.0, np.nan]), {}, "1 of 2 are not finite"),
        (np.ones((2, 3)), np.ones(2), {"max_merges": -1}, "max_merges=-1"),
        (np.ones((2, 3)), np.ones(2), {"entropy_weight": float("nan")}, "entropy_weight=nan"),
    ],
)
def test_bad_input_is_named(masks, effects, options, message):
    with pytest.raises(InputError, match=message):
        aggregate(masks, effects, **options)
