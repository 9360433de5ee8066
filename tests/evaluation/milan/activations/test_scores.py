"""Scores by activations against their definitions written out and scikit-learn's, with ties; and the sanity tests."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, recall_score, roc_auc_score

from conceptry.evaluation.milan.activations import scores
from conceptry.evaluation.milan.activations.scores import (
    SCORES,
    binarised,
    meta_auprc,
    sanity_tests,
    with_as_many,
    without_half,
)

ALPHA = 0.2


def literal_active(a):
    """The ceil(alpha n) most active pictures and those as active as the last of them, unless these are all."""
    least = sorted(a, reverse=True)[math.ceil(ALPHA * len(a)) - 1]
    return [float(value >= least and value > min(a)) for value in a]


def literal_correlation(a, c):
    n, ma, mc = len(a), sum(a) / len(a), sum(c) / len(c)
    cov = sum((x - ma) * (y - mc) for x, y in zip(a, c, strict=True)) / n
    sa, sc = (math.sqrt(sum((v - m) ** 2 for v in values) / n) for values, m in ((a, ma), (c, mc)))
    return cov / (sa * sc) if sa > 1e-9 and sc > 1e-9 else 0.0


def literal_cosine(a, c):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in c))
    return sum(x * y for x, y in zip(a, c, strict=True)) / norms if norms else 0.0


def literal_auprc(a, c):
    """Walk down the thresholds of c: precision at each, times the recall gained there."""
    b, area, before = literal_active(a), 0.0, 0.0
    if not sum(b):
        return 0.0
    for threshold in sorted(set(c), reverse=True):
        chosen = [y for y, x in zip(b, c, strict=True) if x >= threshold]
        recall = sum(chosen) / sum(b)
        area += sum(chosen) / len(chosen) * (recall - before)
        before = recall
    return area


def literal_counts(a, c):
    b, d = literal_active(a), [float(x >= 0.5) for x in c]
    return sum(x * y for x, y in zip(b, d, strict=True)), sum(b), sum(d)


def literal_f1(a, c):
    both, active, present = literal_counts(a, c)
    return 2 * both / (active + present) if active + present else 0.0


def literal_iou(a, c):
    both, active, present = literal_counts(a, c)
    return both / (active + present - both) if active + present else 0.0


def literal_recall(a, c):
    both, active, _ = literal_counts(a, c)
    return both / active if active else 0.0


def literal_pairs(first, second):
    if not first or not second:
        return 0.5
    return sum((x > y) + 0.5 * (x == y) for x in first for y in second) / (len(first) * len(second))


def literal_auc(a, c):
    b = literal_active(a)
    return literal_pairs([x for x, y in zip(c, b, strict=True) if y], [x for x, y in zip(c, b, strict=True) if not y])


def parts(a, c):
    return [x for x, y in zip(a, c, strict=True) if y >= 0.5], [x for x, y in zip(a, c, strict=True) if y < 0.5]


def literal_cosy_auc(a, c):
    return literal_pairs(*parts(a, c))


def literal_mad(a, c):
    present, controls = parts(a, c)
    return sum(present) / len(present) - sum(controls) / len(controls) if present and controls else 0.0


def literal_cosy_mad(a, c):
    _, controls = parts(a, c)
    if len(controls) < 2:
        return 0.0
    mean = sum(controls) / len(controls)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in controls) / (len(controls) - 1))
    return literal_mad(a, c) / deviation if deviation > 1e-9 else 0.0


LITERAL = {name: globals()[f"literal_{name}"] for name in SCORES}
WITH_ALPHA = ("auprc", "f1", "iou", "recall", "auc")


def score_of(name: str) -> Callable[..., Any]:
    score: Callable[..., Any] = SCORES[name]
    return partial(score, alpha=ALPHA) if name in WITH_ALPHA else score


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_scores_are_their_definitions_with_ties_and_constants(name: str, data) -> None:
    n = data.draw(st.integers(2, 12))
    column = st.lists(st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0]), min_size=n, max_size=n)
    a = np.array([data.draw(column), data.draw(column), [0.5] * n]).T * 4 - 1
    c = np.array([data.draw(column), [float(x >= 0.5) for x in data.draw(column)], [0.0] * n, [1.0] * n]).T
    expected = [[LITERAL[name](u.tolist(), d.tolist()) for d in c.T] for u in a.T]
    np.testing.assert_allclose(score_of(name)(a, c), expected, atol=1e-12)


def test_controls_that_are_equal_have_no_deviation() -> None:
    a = np.array([-1.0, -1, -1, -1, -1, 1])  # the mean of all is no binary fraction, so squares do not cancel
    assert SCORES["cosy_mad"](a, np.array([0.0, 0, 0, 0.5, 0.5, 0.5])) == 0


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    a, soft = rng.normal(size=(60, 3)).round(1), rng.random((60, 2)).round(1)
    hard = (soft > 0.6).astype(float)
    b = binarised(a, ALPHA)
    for u in range(3):
        for d in range(2):
            one = {name: score_of(name)(a[:, u], soft[:, d]) for name in SCORES}
            assert all(np.shape(value) == () for value in one.values())
            assert one["auprc"] == pytest.approx(average_precision_score(b[:, u], soft[:, d]))
            assert one["auc"] == pytest.approx(roc_auc_score(b[:, u], soft[:, d]))
            assert one["correlation"] == pytest.approx(np.corrcoef(a[:, u], soft[:, d])[0, 1])
            assert scores.cosy_auc(a[:, u], hard[:, d]) == pytest.approx(roc_auc_score(hard[:, d], a[:, u]))
            assert scores.f1(a[:, u], hard[:, d], ALPHA) == pytest.approx(f1_score(b[:, u], hard[:, d]))
            assert scores.iou(a[:, u], hard[:, d], ALPHA) == pytest.approx(jaccard_score(b[:, u], hard[:, d]))
            assert scores.recall(a[:, u], hard[:, d], ALPHA) == pytest.approx(recall_score(b[:, u], hard[:, d]))


def test_a_score_has_the_axes_that_it_is_given() -> None:
    a, c = np.random.default_rng(0).random((20, 3)), np.random.default_rng(1).random((20, 2))
    for score in SCORES.values():
        assert score(a, c).shape == (3, 2)
        assert score(a[:, 0], c).shape == (2,)
        assert score(a, c[:, 0]).shape == (3,)


def test_a_unit_that_is_mostly_zero_is_not_active_there() -> None:
    a = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 0, 3.0], [1.0] * 10]).T
    assert binarised(a, 0.5).sum(0).tolist() == [1, 0]
    tied = np.array([[0, 0, 0, 0, 0, 0, 0, 3.0, 3.0, 3.0]]).T
    assert binarised(tied, 0.1).sum() == 3


def test_labels_go_missing_and_come_at_random() -> None:
    rng = np.random.default_rng(0)
    c = np.zeros((40, 3))
    c[:7, 0] = c[:30, 1] = 1
    fewer, more = without_half(c, rng), with_as_many(c, rng)
    assert fewer.sum(0).tolist() == [3, 15, 0]
    assert (fewer <= c).all()
    assert more.sum(0).tolist() == [14, 40, 0]  # 30 have no 30 others
    assert (more >= c).all()


def test_ideal_units_tell_sound_scores_from_those_that_are_not() -> None:
    """A unit that is 1 where its concept is: no score can be deceived by what the unit itself does."""
    c = (np.random.default_rng(0).random((4000, 20)) < 0.02).astype(float)
    a = c + 1e-3 * np.random.default_rng(1).random(c.shape)
    found = {name: sanity_tests(score, a, c, scores.RANGES[name]) for name, score in SCORES.items()}
    assert found["correlation"] == found["cosine"] == scores.SanityTests(1, 1)
    assert found["auprc"].missing_labels == found["auprc"].extra_labels == 1
    assert found["recall"].extra_labels == 0


def test_the_meta_score_is_the_average_precision_over_pairs() -> None:
    rng = np.random.default_rng(0)
    found, is_true = rng.random((6, 5)).round(1), np.eye(6, 5, dtype=bool)
    assert meta_auprc(found, is_true) == pytest.approx(average_precision_score(is_true.ravel(), found.ravel()))
    assert meta_auprc(is_true.astype(float), is_true) == 1
