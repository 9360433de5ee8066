"""Intervals, differences and leaders in tables and in JSON, from samples as evaluations leave them."""

from io import StringIO

import numpy as np
import pytest
from comparisons import compared_versions

from conceptry.evaluation.comparison.compared import ComparedVersions
from conceptry.evaluation.tables import comparison_records, comparison_table
from conceptry.evaluation.terminal import Terminal


@pytest.fixture
def hard() -> np.ndarray:
    return np.random.default_rng(0).normal(size=60)


def printed(found: ComparedVersions) -> str:
    stream = StringIO()
    Terminal(file=stream, width=120, force_terminal=True, color_system="standard").print(
        comparison_table(found.comparison, compared=found)
    )
    return stream.getvalue()


def test_only_what_is_better_beyond_chance_is_bold(hard: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(size=(2, 60))
    found = compared_versions(cosine=[hard + 0.5, hard], l0=[3 + noise[0], 3 + noise[1]])
    assert found.leaders("cosine") == {1}
    assert found.leaders("l0") == found.leaders("gap_max") == frozenset()
    text = printed(found)
    assert f"\x1b[1m{hard.mean() + 0.5:.3f}\x1b[0m" in text
    assert text.count("\x1b[1m") == 1
    assert "bold: better, beyond chance" in str(comparison_table(found.comparison, compared=found).caption)
    interval = found.intervals[1]["cosine"]
    assert f"±{(interval.high - interval.low) / 2:.3f}" in text


def test_other_meanings_are_not_ranked(hard: np.ndarray) -> None:
    found = compared_versions((1, 2), cosine=[hard + 0.5, hard])
    assert found.leaders("cosine") == frozenset()
    caption = comparison_table(found.comparison, compared=found).caption
    assert "not to be ranked: the evaluations that measured them differ" in str(caption)


def test_records_have_bounds_and_differences(hard: np.ndarray) -> None:
    found = compared_versions(cosine=[hard + 0.5, hard])
    one, other = comparison_records(found.comparison, compared=found)
    assert one["metrics"]["cosine"] == one["scores"]["cosine"]["mean"] == pytest.approx(hard.mean() + 0.5)
    assert one["scores"]["cosine"]["low"] < hard.mean() + 0.5 < one["scores"]["cosine"]["high"]
    assert one["scores"]["gap_max"] == {"mean": 0.0, "low": None, "high": None}
    there, back = one["differences"]["2"]["cosine"], other["differences"]["1"]["cosine"]
    assert there["beyond_chance"]
    assert there["mean"] == pytest.approx(0.5)
    assert (there["low"], there["larger"]) == (-back["high"], back["smaller"])
