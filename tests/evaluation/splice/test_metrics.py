"""Metrics of the splice harness against loops that restate them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    assert m.zero_shot_hits(z, t, labels).mean() == hits / 40
    assert m.zero_shot_hits(t, t / np.linalg.norm(t, axis=1, keepdims=True), list(range(6))).all()


@pytest.mark.parametrize("k", [1, 3])
def test_retrieval_recall(arrays, k: int) -> None:
    z, _ = arrays
    captions = z + np.random.default_rng(2).normal(size=z.shape)
    hits = 0
    for i in range(40):
        ranked = sorted(range(40), key=lambda j: -float(z[i] @ captions[j]))
        hits += i in ranked[:k]
    assert (m.retrieval_ranks(z, captions, m.belonging([[i] for i in range(40)], 40)) <= k).mean() == hits / 40


def test_the_rank_is_that_of_the_best_true_item(arrays) -> None:
    z, t = arrays
    rng = np.random.default_rng(3)
    true = [sorted(set(rng.integers(0, len(t), 3).tolist())) for _ in z]
    for query, rank in enumerate(m.retrieval_ranks(z, t, m.belonging(true, len(t)))):
        ordered = sorted(range(len(t)), key=lambda j: -float(z[query] @ t[j]))
        best = next(place for place, j in enumerate(ordered) if j in true[query])
        assert rank == 1 + best


def test_retrieval_in_chunks_is_retrieval_at_once(arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    z, t = arrays
    true = m.belonging([[k] for k in np.random.default_rng(3).integers(0, len(t), len(z))], len(t))
    whole = m.retrieval_ranks(z, t, true).tolist()
    assert len(whole) == len(z)
    monkeypatch.setattr(m, "CHUNK", 7)
    assert m.retrieval_ranks(z, t, true).tolist() == whole


def test_a_space_that_cannot_tell_captions_apart_earns_nothing() -> None:
    same = np.ones((5, 3))
    assert m.retrieval_ranks(same, same, m.belonging([[i] for i in range(5)], 5)).tolist() == [5] * 5


def test_concept_scores() -> None:
    named = [["dog", "red"], ["cat"], ["boat", "tree"], []]
    true = [("dog", "cat"), ("cat",), (), ("car",)]
    assert m.concept_recall(named, true) == pytest.approx([0.5, 1, np.nan, 0], nan_ok=True)
    assert m.concept_precision(named, true) == 2 / 5
    assert np.isnan(m.concept_precision([[]], [("dog",)]))


def test_a_label_is_named_by_itself_or_by_all_of_its_words() -> None:
    assert m.names_label(["animal", "Cat"], "cat")
    assert m.names_label(["truck", "fire"], "fire truck")
    assert not m.names_label(["truck", "red"], "fire truck")
    assert not m.names_label([], "cat")


@pytest.mark.parametrize(
    ("label", "word"),
    [("Dogs", "dog"), ("berries", "berry"), ("fire trucks", "fire truck"), ("box", "boxes"), ("glasses", "glass")],
)
def test_a_label_is_named_in_the_singular_and_in_the_plural(label: str, word: str) -> None:
    assert m.names_label([word], label)
    assert m.names_label([label], word)
    assert m.names_label(word.split(), label)


@pytest.mark.parametrize(("label", "word"), [("glass", "glas"), ("iris", "iri"), ("gas", "ga")])
def test_what_ends_in_s_is_no_plural(label: str, word: str) -> None:
    assert not m.names_label([word], label)


def test_the_control_is_the_mean_over_rows_of_other_labels() -> None:
    words, labels = [["cat"], ["cat", "dog"], ["dog"], ["tree"]], ["cat", "cat", "dog", "tree"]
    assert m.shuffled_share(words, labels).tolist() == pytest.approx([0.0, 0.0, 1 / 3, 0.0])
    assert np.isnan(m.shuffled_share(words[:2], labels[:2])).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.sampled_from(["cat", "Cat", "fire", "truck", "fire truck", "red"]), max_size=4),
            st.sampled_from(["cat", "fire truck", "Truck", "red fire", " "]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_the_control_asks_of_every_pair_of_rows_whether_the_words_name_the_label(rows) -> None:
    words, labels = [row[0] for row in rows], [row[1] for row in rows]
    for label, found in zip(labels, m.shuffled_share(words, labels), strict=True):
        named = [m.names_label(given, label) for given, other in zip(words, labels, strict=True) if other != label]
        assert found == pytest.approx(np.mean(named) if named else np.nan, nan_ok=True)


def test_calibration_and_order_of_stated_shares() -> None:
    hits = np.array([0, 0, 1, 0, 1, 1, 1, 1, 1, 1], dtype=float)
    sure = np.linspace(0.1, 1.0, 10)
    parts = [abs(sure[i : i + 2].mean() - hits[i : i + 2].mean()) for i in range(0, 10, 2)]
    assert m.calibration_error(sure, hits) == pytest.approx(np.mean(parts))
    pairs = [(a > b) + 0.5 * (a == b) for a in sure[hits > 0] for b in sure[hits == 0]]
    assert m.order_of(sure, hits) == pytest.approx(np.mean(pairs))
    assert m.order_of(np.ones(10), hits) == 0.5
    assert np.isnan(m.order_of(sure, np.ones(10)))
