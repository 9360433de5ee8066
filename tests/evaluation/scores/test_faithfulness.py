"""Scores of faithfulness against literal restatements."""

import numpy as np
import pytest

from conceptry.evaluation.scores import faithfulness as f


@pytest.fixture
def game():
    """Values of masks of six parts, an order, and its curves, value by value."""
    rng = np.random.default_rng(0)
    weights, joint = rng.normal(size=6), rng.normal()

    def value(present: set[int]) -> float:
        return 2.0 + sum(weights[k] for k in present) + joint * ({0, 3} <= present)

    order = [4, 0, 5, 3, 1, 2]
    inserted = [value(set(order[:k])) for k in range(7)]
    removed = [value(set(order[k:])) for k in range(7)]
    return value, np.array(order), np.array(inserted), np.array(removed)


def test_nested_masks_hold_the_first_parts_of_an_order(game) -> None:
    value, order, inserted, removed = game
    masks = f.nested(order)
    assert [value(set(np.flatnonzero(mask))) for mask in masks] == pytest.approx(inserted)
    assert [value(set(np.flatnonzero(~mask))) for mask in masks] == pytest.approx(removed)


def test_insertion_and_deletion_are_areas_between_the_extremes(game) -> None:
    _, _, inserted, removed = game
    values = np.stack([[inserted, inserted[::-1]], [removed, removed[::-1]]])
    low, high = min(values.ravel()), max(values.ravel())
    up = inserted[-1] > inserted[0]

    def u(v) -> float:
        return (v - low) / (high - low) if up else (high - v) / (high - low)

    curves = f.Curves.of(values)
    for k, (found, expected) in enumerate(((curves.insertion, values[0]), (curves.deletion, values[1]))):
        for order in range(2):
            line = expected[order]
            area = sum((u(line[j]) + u(line[j + 1])) / 2 for j in range(6)) / 6
            assert found[order] == pytest.approx(area), k
    assert curves.comprehensiveness(2) == pytest.approx(u(removed[0]) - u(removed[2]))
    assert curves.sufficiency(2) == pytest.approx(u(inserted[6]) - u(inserted[2]))
    turned = f.Curves.of(-values)  # the other class of two: the same explanation
    np.testing.assert_allclose(turned.insertion, curves.insertion)


def test_what_does_not_change_has_no_score() -> None:
    flat = f.Curves.of(np.full((2, 1, 4), 0.3))
    assert np.isnan(flat.insertion).all()
    assert np.isnan(flat.sufficiency(1))
    assert np.isnan(f.Curves.of(np.arange(6.0).reshape(2, 1, 3)).comprehensiveness(2))  # all parts are no choice


def test_r2_is_that_of_a_literal_loop() -> None:
    rng = np.random.default_rng(1)
    values, predicted = rng.normal(size=50), rng.normal(size=50)
    mean = sum(values) / 50
    errors, spread = sum((v - p) ** 2 for v, p in zip(values, predicted, strict=True)), sum((values - mean) ** 2)
    assert f.r2(values, predicted) == pytest.approx(1 - errors / spread)
    assert f.r2(values, values) == 1
    assert f.r2(values, np.full(50, mean)) == pytest.approx(0)
    assert np.isnan(f.r2(np.full(5, 3.0), np.zeros(5)))


def test_orders_by_chance_are_the_same_for_every_version() -> None:
    first, again, other = (f.random_orders(9, 2, key) for key in ("a", "a", "b"))
    assert [o.tolist() for o in first] == [o.tolist() for o in again] != [o.tolist() for o in other]
    assert sorted(first[0].tolist()) == list(range(9))


def test_sparse_explanations_are_compared_part_by_part() -> None:
    first, second = f.aligned({"a": 1.0, "b": 2.0}, {"b": 3.0, "c": 4.0})
    assert (first.tolist(), second.tolist()) == ([1, 2, 0], [0, 3, 4])
    assert f.cosine(first, second) == pytest.approx(6 / np.sqrt(5 * 25))
    assert f.cosine(np.zeros(2), np.zeros(2)) == 1
    assert f.cosine(np.zeros(2), np.ones(2)) == 0
