"""Metrics of the splice harness against loops that restate them."""

import numpy as np
import pytest

from conceptry.evaluation.splice import metrics as m


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 8)), rng.normal(size=(6, 8))


def test_zero_shot_accuracy(arrays) -> None:
    z, t = arrays
    labels = np.random.default_rng(1).integers(0, 6, 40).tolist()
    hits = 0
    for i in range(40):
        best = max(range(6), key=lambda k: sum(z[i, j] * t[k, j] for j in range(8)))
        hits += best == labels[i]
    assert m.zero_shot_accuracy(z, t, labels) == hits / 40
    assert m.zero_shot_accuracy(t, t / np.linalg.norm(t, axis=1, keepdims=True), list(range(6))) == 1.0


@pytest.mark.parametrize("k", [1, 3])
def test_retrieval_recall(arrays, k: int) -> None:
    z, _ = arrays
    captions = z + np.random.default_rng(2).normal(size=z.shape)
    hits = 0
    for i in range(40):
        ranked = sorted(range(40), key=lambda j: -float(z[i] @ captions[j]))
        hits += i in ranked[:k]
    assert m.retrieval_recall(z, captions, list(range(40)), k) == hits / 40


def test_retrieval_in_chunks_is_retrieval_at_once(arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    z, t = arrays
    truth = np.random.default_rng(3).integers(0, len(t), len(z)).tolist()
    whole = m.retrieval_recall(z, t, truth)
    assert 0 < whole < 1
    monkeypatch.setattr(m, "CHUNK", 7)
    assert m.retrieval_recall(z, t, truth) == whole


def test_a_space_that_cannot_tell_captions_apart_earns_nothing() -> None:
    same = np.ones((5, 3))
    assert m.retrieval_recall(same, same, list(range(5))) == 0.0


def test_concept_scores() -> None:
    named = [["dog", "red"], ["cat"], ["boat", "tree"], []]
    true = [("dog", "cat"), ("cat",), (), ("car",)]
    assert m.concept_recall(named, true) == {"recall": pytest.approx((0.5 + 1 + 0) / 3), "all": pytest.approx(1 / 3)}
    assert m.concept_precision(named, true) == 2 / 5
    assert np.isnan(m.concept_precision([[]], [("dog",)]))


def test_spread() -> None:
    assert m.spread(np.array([1.0, 3.0]), "l0") == {"l0": 2.0, "l0_std": 1.0}
