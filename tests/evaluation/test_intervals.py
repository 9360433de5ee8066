"""Bootstrap intervals and paired differences, against loops, and by how often they hold."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.evaluation import intervals
from conceptry.evaluation.intervals import mean_intervals, paired_differences
from conceptry.evaluation.reports import Report


def _table(**columns) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"sample": [f"s{k}" for k in range(count)], **columns})


def test_an_interval_is_that_of_means_of_drawn_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([0.0, 1.0, np.nan, 3.0, 7.0, 2.0])
    rng = np.random.default_rng(np.random.SeedSequence([5, 37]))
    counts = rng.multinomial(6, np.full(6, 1 / 6), size=intervals.DRAWS)
    means = [np.nanmean(np.repeat(values, drawn)) for drawn in counts if drawn[~np.isnan(values)].any()]
    found = mean_intervals(_table(score=values), seed=5)["score"]
    assert (found.mean, found.count) == (pytest.approx(13 / 5), 5)
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]))
    monkeypatch.setattr(intervals, "_CHUNK", 60)  # ten draws at a time
    assert mean_intervals(_table(score=values), seed=5)["score"] == pytest.approx(found)


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    columns = {f"m{k}": rng.exponential(size=80) for k in range(300)}
    held = [each.low <= 1 <= each.high for each in mean_intervals(_table(**columns)).values()]
    assert 0.88 <= np.mean(held) <= 0.98


def test_differences_are_paired_by_sample_whatever_the_order() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(size=60)
    first, second = _table(score=hard + 0.1), _table(score=hard + rng.normal(scale=0.05, size=60))
    found = paired_differences(first, second.sample(frac=1, random_state=0).iloc[:50])["score"]
    assert found.count == 50
    assert found.mean == pytest.approx(0.1, abs=0.03)
    assert found.beyond_chance  # though the means alone, with intervals a quarter wide, would not tell
    apart = [mean_intervals(each)["score"] for each in (first, second)]
    assert apart[0].low < apart[1].high
    assert found.first_larger > 0.9
    assert found.first_larger + found.second_larger == 1


def test_chance_is_not_called_a_difference() -> None:
    rng = np.random.default_rng(2)
    first, second = ({f"m{k}": rng.normal(size=40) for k in range(200)} for _ in range(2))
    found = paired_differences(_table(**first), _table(**second)).values()
    assert np.mean([each.beyond_chance for each in found]) < 0.12


@pytest.mark.parametrize("count", [1, 5])
def test_few_samples_prove_nothing(count: int) -> None:
    one, other = _table(score=np.ones(count)), _table(score=np.zeros(count))
    found = paired_differences(one, other)["score"]
    assert (found.low, found.high) == (1, 1)
    assert not found.beyond_chance


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_a_difference_is_minus_the_other_way_round(values: list[float]) -> None:
    one, other = _table(score=np.array(values)), _table(score=np.zeros(len(values)))
    there, back = paired_differences(one, other)["score"], paired_differences(other, one)["score"]
    assert there.mean == pytest.approx(-back.mean)
    assert (there.first_larger, there.second_larger) == (back.second_larger, back.first_larger)


def test_tables_that_share_nothing_have_no_difference() -> None:
    assert paired_differences(_table(a=np.ones(3)), _table(b=np.ones(3))) == {}
    assert paired_differences(_table(a=np.ones(3)), pd.DataFrame({"sample": ["x"], "a": [1.0]})) == {}
    assert mean_intervals(pd.DataFrame()) == {}


def test_a_report_takes_samples_in_parts() -> None:
    report = Report()
    report.add_samples(["a", "b", "a"], {"l0": [1, 2, 3]})
    report.add_samples(["b", "c"], {"hit": [True, False], "unknown": [np.nan, np.nan]})
    assert report.metrics == {"l0": 2.0, "hit": 0.5}
    table = report.samples.set_index("sample")
    assert table["l0"].to_dict() == pytest.approx({"a": 1, "b": 2, "a #2": 3, "c": np.nan}, nan_ok=True)
    assert table["hit"].to_dict() == pytest.approx({"a": np.nan, "b": 1, "a #2": np.nan, "c": 0}, nan_ok=True)
