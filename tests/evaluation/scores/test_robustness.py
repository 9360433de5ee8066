"""Scores of robustness against literal restatements."""

import math

import numpy as np
import pytest

from conceptry.evaluation.scores import robustness as r


def norm(values) -> float:
    return math.sqrt(sum(float(v) ** 2 for v in values))


@pytest.fixture
def draws():
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in ((5,), (4, 5), (3,), (4, 3), (2,), (4, 2))]


def test_max_sensitivity(draws) -> None:
    e, moved, *_ = draws
    expected = max(norm(other - e) for other in moved) / norm(e)
    assert r.sensitivity_max(e, moved) == pytest.approx(expected)
    assert r.sensitivity_max(e, np.stack([e, e])) == 0
    assert math.isnan(r.sensitivity_max(np.zeros(5), moved))


def test_relative_stability(draws) -> None:
    e, moved, x, noisy, h, outputs = draws
    x[0] = 0.0  # divided by epsilon instead

    def relative(other, start) -> float:
        return norm((o - s) / (s if abs(s) >= r.EPSILON else r.EPSILON) for o, s in zip(other, start, strict=True))

    by_input = max(relative(o, e) / max(relative(n, x), r.EPSILON) for o, n in zip(moved, noisy, strict=True))
    by_output = max(relative(o, e) / max(norm(g - h), r.EPSILON) for o, g in zip(moved, outputs, strict=True))
    assert r.relative_input_stability(e, moved, x, noisy) == pytest.approx(by_input)
    assert r.relative_output_stability(e, moved, h, outputs) == pytest.approx(by_output)
    assert r.relative_output_stability(e, moved, h, np.stack([h] * 4)) == pytest.approx(
        max(relative(o, e) for o in moved) / r.EPSILON
    )
