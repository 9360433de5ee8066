"""Probes over words: they read the class off its word, live of no word that is taken away, and see no test data."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from conceptry.evaluation.isolation.client import Answer
from conceptry.evaluation.splice import probe as p
from conceptry.evaluation.splice.data import ImageData, content_digest
from conceptry.evaluation.splice.published import AnnotatedImage
from conceptry.models.errors import InputError

ANIMALS = ("cat", "dog", "owl")
COLOURS = ("red", "blue", "grey")  # of an animal each, while training


def ignore(what: str, share: float) -> None:
    assert 0 <= share <= 1


def planted(count: int, agrees: bool, seed: int, name: str = "planted") -> ImageData:
    """Pictures named `animal colour noise #number`, labelled by the animal; the colour is the animal's, or never is."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(count):
        animal = i % 3
        colour = animal if agrees else (animal + 1 + rng.integers(2)) % 3
        images.append(
            AnnotatedImage(
                f"{ANIMALS[animal]} {COLOURS[colour]} noise{rng.integers(4)} #{seed}-{i}".encode(), ANIMALS[animal]
            )
        )
    return ImageData(name, content_digest(images), images)


class Words:
    """`Predict` that answers with the words in the file; the colour is heavier, as a shortcut is."""

    def __call__(self, rows: pd.DataFrame, params: Any = None) -> Answer:
        left_out = set(dict(params or {}).get("suppress", ()))
        texts = [[w for w in content.decode().split() if w[0] != "#"] for content in rows["image"]]
        concepts = [
            [{"concept": w, "weight": 2.0 if w in COLOURS else 1.0} for w in text if w not in left_out]
            for text in texts
        ]
        # Embeddings know the colour alone.
        z = [np.eye(3)[COLOURS.index(next(w for w in text if w in COLOURS))] for text in texts]
        shown = {"concepts": concepts, "embedding": z, "recomposed": z, "l0": 3.0, "cosine": 1.0, "gap": 0.0}
        return Answer(pd.DataFrame(shown), 0.1)

    def redrawn(self, share: float, seed: int = 0):
        raise NotImplementedError


def test_a_probe_over_words_survives_what_misleads_one_over_embeddings() -> None:
    train, test = planted(90, True, 0), planted(60, False, 1, "misleading")
    record, report = p.probe(Words(), train, test, list(COLOURS), 0, ignore)
    found = {name: each["mean"] for name, each in record["accuracy"].items()}
    assert found["probe_accuracy_embedding"] == found["probe_accuracy_recomposed"] == 0.0
    assert found["probe_accuracy_edited"] == 1.0  # without its colours it has the animals alone
    assert record["constant"] == pytest.approx(1 / 3)
    assert report.metrics["probe_concepts"] == record["concepts"]
    assert [each["strength"] for each in record["curve"]] == sorted(each["strength"] for each in record["curve"])
    assert record["curve"][0]["concepts"] <= len(ANIMALS + COLOURS)  # and none of the noise
    assert len(report.samples) == 60
    without = ImageData("misleading", test.digest, test.images, suppressed=COLOURS)
    blind, _ = p.probe(
        Words(), ImageData("planted", train.digest, train.images, suppressed=COLOURS), without, (), 0, ignore
    )
    assert blind["accuracy"]["probe_accuracy"]["mean"] == 1.0
    assert {name: words[0]["concept"] for name, words in blind["words"].items()} == {name: name for name in ANIMALS}


def test_the_path_starts_where_no_word_is_left() -> None:
    rng = np.random.default_rng(0)
    weights, y = csr_array(rng.random((60, 8)) * (rng.random((60, 8)) < 0.5)), rng.integers(0, 2, 60)
    least = p.strengths(weights, y)[0] / p.PATH[0]
    for factor, any_used in ((0.98, False), (1.1, True)):
        model = p._sparse(0).set_params(C=least * factor, tol=1e-8, max_iter=20_000)
        assert bool(len(p._read(model.fit(weights, y)).used)) == any_used
    path = p.fit_path(weights, y, 0)
    model = p._sparse(0).set_params(C=path[5].strength, tol=1e-8, max_iter=20_000).fit(weights, y)
    np.testing.assert_array_equal(p._read(model).classify(weights), model.predict(weights))


def test_a_part_is_held_out_of_each_class() -> None:
    data = planted(30, True, 0)
    train, test = p.divide(data, 0)
    assert (len(train), len(test)) == (21, 9)
    assert sorted(i.label for i in test.images) == sorted(ANIMALS * 3)
    assert not {id(i) for i in train.images} & {id(i) for i in test.images}
    assert train.digest != test.digest == p.divide(data, 0)[1].digest
    assert p.divide(data, 1)[1].digest != test.digest


def test_figures_of_other_training_data_do_not_replace_each_other() -> None:
    test, *train = (planted(12, True, seed, name) for seed, name in enumerate(("data", "one", "other")))
    found = [p._measured(each, test, other=True) for each in train]
    assert [each.name for each in found] == ["data (trained on one)", "data (trained on other)"]
    assert len({each.digest for each in (*found, test)}) == 3
    assert p._measured(train[0], test, other=False) is test


def test_what_cannot_be_probed_is_refused() -> None:
    train, few = planted(30, True, 0), planted(4, True, 5)
    bare = ImageData("bare", "0" * 64, [AnnotatedImage(b"cat red noise1")])
    strange = ImageData("strange", "0" * 64, [AnnotatedImage(b"cat red noise1", "cow")])
    one = ImageData("one", "0" * 64, [AnnotatedImage(b"cat red noise1", "cat")] * 3)
    for given, sentence in (
        ((train, bare), "bare has no labels; a probe needs the class of each picture"),
        ((train, strange), "strange: planted has no pictures of the class 'cow'"),
        ((one, train), "one: a probe tells classes apart, but all pictures are of 'cat'"),
        ((few, train), "planted: cross-validation needs two pictures of each class, 'dog' has one"),
    ):
        with pytest.raises(InputError, match=sentence):
            p.probe(Words(), *given, (), 0, ignore)
    with pytest.raises(InputError, match="are in planted too; a probe is measured on pictures that it has not seen"):
        p.probe(Words(), train, train, (), 0, ignore)
    with pytest.raises(InputError, match="--edit rde: no training picture is named by it; near: red"):
        p.probe(Words(), train, planted(9, False, 1), ("rde",), 0, ignore)
    with pytest.raises(InputError, match="the class 'dog' has one picture; name data to train on, or add pictures"):
        p.divide(few, 0)
