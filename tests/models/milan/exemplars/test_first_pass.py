"""The best pictures of a stream against a sort of all of them."""

import numpy as np
import pytest

from conceptry.models.milan.exemplars.first_pass import TopImages


def best(seed: int, n: int, units: int, ties: bool) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n, units)).astype(np.float32)
    return np.round(values) if ties else values


def literal(values: np.ndarray, k: int) -> np.ndarray:
    """ids (U, k): by value, of equal ones the lower number first."""
    return np.stack([sorted(range(len(v)), key=lambda i: (-v[i], i))[:k] for v in values.T])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize("batch", [1, 7, 30])
def test_it_is_the_sort_of_all(ties: bool, k: int, batch: int) -> None:
    values = best(0, 30, 9, ties)
    top = TopImages.empty(9, k)
    for first in range(0, 30, batch):
        top.update(values[first : first + batch], first)
    expected = literal(values, k)
    np.testing.assert_array_equal(top.ids, expected)
    np.testing.assert_array_equal(top.values, np.take_along_axis(values.T, expected, axis=1))


def test_a_slot_stays_with_its_picture() -> None:
    values = best(2, 40, 3, ties=True)
    top, kept = TopImages.empty(3, 6), np.full((3, 6), -1)
    for first in range(0, 40, 5):
        top.update(values[first : first + 5], first)
        units, places = np.nonzero(top.ids >= first)  # those that are new
        kept[units, top.slots[units, places]] = top.ids[units, places]
        there = top.ids >= 0
        np.testing.assert_array_equal(np.take_along_axis(kept, top.slots, axis=1)[there], top.ids[there])
    np.testing.assert_array_equal(np.sort(top.slots, axis=1), np.tile(np.arange(6), (3, 1)))


def test_the_order_of_batches_does_not_matter() -> None:
    values = best(1, 30, 9, ties=True)
    top = TopImages.empty(9, 5)
    for first in (20, 0, 10):
        top.update(values[first : first + 10], first)
    np.testing.assert_array_equal(top.ids, literal(values, 5))


def test_fewer_pictures_than_k_leave_places() -> None:
    top = TopImages.empty(2, 3)
    top.update(np.array([[1.0, -np.inf]], np.float32), 0)
    assert top.ids.tolist() == [[0, -1, -1], [0, -1, -1]]
    assert top.values[0].tolist() == [1, -np.inf, -np.inf]
