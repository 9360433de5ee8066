"""The rule of what is bold: better beyond chance than every version that is not."""

import pytest

from conceptry.evaluation.comparison.leaders import leaders


@pytest.mark.parametrize(
    ("values", "better", "beaten", "expected"),
    [
        ({1: 0.9, 2: 0.5}, "higher", {(1, 2)}, {1}),
        ({1: 0.9, 2: 0.5}, "lower", {(2, 1)}, {2}),
        ({1: 0.9, 2: 0.5}, None, {(1, 2)}, set()),
        ({1: 0.9, 2: 0.5}, "higher", set(), set()),  # the best value alone says nothing
        ({1: 0.9}, "higher", set(), set()),  # nobody to be better than
        ({}, "higher", set(), set()),
        ({1: 0.9, 2: 0.8, 3: 0.1}, "higher", {(1, 3), (2, 3)}, {1, 2}),  # two that chance does not tell apart
        ({1: 0.9, 2: 0.8, 3: 0.1}, "higher", {(1, 2), (1, 3), (2, 3)}, {1}),  # the smallest group of all
        ({1: 0.9, 2: 0.8, 3: 0.1}, "higher", {(1, 3)}, set()),  # 1 does not beat 2, nor 2 beat 3
        ({1: 0.9, 2: 0.8, 3: 0.1}, "higher", {(1, 2), (2, 3)}, set()),  # 1 and 3 were measured on few shared samples
    ],
)
def test_leaders(values: dict[int, float], better, beaten: set, expected: set) -> None:
    assert leaders(values, better, lambda one, other: (one, other) in beaten) == expected
