"""Pieces of the SpLiCE harness against literal restatements: summaries, suppression, notes, batches."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from conceptry.evaluation.data import items_of
from conceptry.evaluation.harness import evaluation_of
from conceptry.evaluation.isolation.client import Answer, VersionProcess
from conceptry.evaluation.presenter import presenter_of
from conceptry.evaluation.reports import Report
from conceptry.evaluation.splice import client, experiments
from conceptry.evaluation.splice.data import AnnotatedImage, ImageData
from conceptry.evaluation.tables import save_summary
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.images import png_bytes

LABELS = ("dog", "zyx", "cat", "dog", "cat", "boat", "dog", "zyx", "zyx", "zyx")


@pytest.fixture(scope="module")
def predict(tiny_version) -> Iterator[VersionProcess]:
    with VersionProcess(tiny_version.uri, "cpu") as process:
        yield process


@pytest.fixture(scope="module")
def data(picture: Image.Image) -> ImageData:
    contents = [png_bytes(picture.rotate(35 * i)) for i in range(len(LABELS))]
    return ImageData("mine", "0" * 64, [AnnotatedImage(c, label) for c, label in zip(contents, LABELS, strict=True)])


def ignore(*_: object) -> None:
    pass


@pytest.mark.parametrize("label", [None, "dog"])
def test_a_summary_is_the_mean_of_the_answers(predict, data, label, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BATCH", 4)  # unequal batches must not weigh alike
    record = evaluation_of("splice").summarise(predict, data, label, ignore)
    answers = [predict(pd.DataFrame({"image": [p.content()]})).rows.iloc[0] for p in data.images]
    chosen = [a for a, p in zip(answers, data.images, strict=True) if label in (None, p.label)]
    n = len(chosen)
    assert (record["count"], record["label"]) == (n, label)
    assert record["l0"] == sum(a["l0"] for a in chosen) / n
    assert record["cosine"] == pytest.approx(sum(a["cosine"] for a in chosen) / n, abs=1e-5)
    words = [{c["concept"]: c["weight"] for c in a["concepts"]} for a in chosen]
    for entry in record["concepts"]:
        assert entry["weight"] == pytest.approx(sum(w.get(entry["concept"], 0) for w in words) / n, abs=1e-5)
        assert entry["share"] == sum(entry["concept"] in w for w in words) / n
    assert {entry["concept"] for entry in record["concepts"]} == {word for w in words for word in w}
    weights = [entry["weight"] for entry in record["concepts"]]
    assert weights == sorted(weights, reverse=True)


def test_unknown_labels_are_refused_with_near_ones(data) -> None:
    with pytest.raises(InputError, match="'dogs' is not one of the 4 labels of mine; near: dog"):
        items_of(data.images, "dogs", data.name)
    bare = ImageData("bare", "0" * 64, [AnnotatedImage(data.images[0].source)])
    with pytest.raises(InputError, match="bare has no labels, so there is no class 'dog'"):
        items_of(bare.images, "dog", bare.name)


def test_suppression_takes_the_word_of_each_class_away(predict, data) -> None:
    """Restated picture by picture; `zyx` has the most pictures and is no word of the vocabulary."""
    found = evaluation_of("splice").evaluate(predict, data, ignore).metrics
    asked = {"return_embedding": True}
    classes = sorted(set(LABELS))
    prompts = [predict(pd.DataFrame({"text": [f"a photo of a {c}"]}), asked).rows["embedding"][0] for c in classes]
    before, after = [], []
    for picture in data.images:
        if picture.label != "zyx":
            for hits, params in ((before, asked), (after, asked | {"suppress": [picture.label]})):
                z_hat = predict(pd.DataFrame({"image": [picture.content()]}), params).rows["recomposed"][0]
                best = max(range(len(classes)), key=lambda k: float(np.dot(z_hat, prompts[k])))
                hits.append(classes[best] == picture.label)
    assert found["suppressed_accuracy"] == pytest.approx(np.mean(after))
    assert found["suppressed_accuracy_drop"] == pytest.approx(np.mean(before) - np.mean(after))
    for name in ("suppressed_accuracy", "suppressed_accuracy_drop"):
        assert evaluation_of("splice").metrics[name].meaning


class Planted:
    """A version of two words, axes 0 and 1: z_hat is z, without the axis of the word that is suppressed."""

    words = ("dog", "cat")

    def __init__(self) -> None:
        self.suppressed: list[str] = []

    def __call__(self, rows: pd.DataFrame, params=None) -> Answer:
        if "text" in rows:
            z = [np.eye(3)[self.words.index(w)] if (w := t.split()[-1]) in self.words else np.eye(3)[2]
                 for t in rows["text"]]  # fmt: skip
            return Answer(pd.DataFrame({"embedding": z}), 0.1)
        (word,) = params["suppress"]
        if word not in self.words:
            raise InputError(f"{word!r} is not one of the 2 words of the vocabulary")
        self.suppressed.append(word)
        kept = [z * (np.arange(3) != self.words.index(word)) for z in rows["embedding"]]
        return Answer(pd.DataFrame({"recomposed": kept}), 0.1)


def test_a_word_that_carries_its_class_costs_all_of_it() -> None:
    pictures = [AnnotatedImage(b"", label) for label in ("cat", "dog", "other", "dog")]
    z = np.array([[0.0, 1.0, 0.1], [1.0, 0.0, 0.1], [0.0, 0.0, 1.0], [0.1, 0.0, 1.0]])
    nothing = np.zeros(4)
    explained = client.ImageExplanations(z, z, [[]] * 4, nothing, nothing, nothing)
    predict = Planted()
    experiments.zero_shot(predict, pictures, explained, report := Report())
    found = report.metrics
    assert predict.suppressed == ["dog", "cat"]  # the class with more pictures first
    assert found["zero_shot_recomposed"] == 3 / 4
    assert found["suppressed_accuracy"] == 0.0
    assert found["suppressed_accuracy_drop"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_pictures_of_a_label_are_found_by_its_sentence(rows: list[int]) -> None:
    """The nearest to "cat" is a dog, the second is a cat; of "dog" and of "other" the first is right already."""
    labels = ["cat", "dog", "other", "dog"]
    z = np.array([[0.0, 0.6, 0.8], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0], [0.8, 0.0, 0.6]])[rows]
    pictures = [AnnotatedImage(str(i).encode(), labels[i]) for i in rows]
    nothing = np.zeros(4)
    explained = client.ImageExplanations(z, z[:, [1, 0, 2]], [[]] * 4, nothing, nothing, nothing)
    experiments.zero_shot(Planted(), pictures, explained, report := Report())
    assert report.metrics["label_retrieval"] == pytest.approx(2 / 3)
    assert report.metrics["label_retrieval_at_5"] == 1.0
    # With both axes exchanged the nearest to "cat" is the other dog, and of "dog" and "other" the first is right.
    assert report.metrics["label_retrieval_recomposed"] == pytest.approx(2 / 3)
    assert evaluation_of("splice").metrics["label_retrieval_at_5_recomposed"].meaning


def test_what_the_encoder_refuses_is_left_out_and_noted(predict, data) -> None:
    def strict(rows: pd.DataFrame, params=None) -> Answer:
        if "text" in rows and any("zyx" in text for text in rows["text"]):
            raise InputError("'zyx' is not a word")
        return predict(rows, params)

    report = evaluation_of("splice").evaluate(strict, data, ignore)
    assert report.notes == ["zero-shot accuracy is left out: 'zyx' is not a word"]
    assert "zero_shot" not in report.metrics
    assert {"l0", "cosine", "solve_ms"} <= set(report.metrics)
    captioned = [AnnotatedImage(p.source, "dog", captions=(f"{p.label} {i}",)) for i, p in enumerate(data.images)]
    report = evaluation_of("splice").evaluate(strict, ImageData("c", "0" * 64, captioned), ignore)
    assert report.notes == ["retrieval is left out: 'zyx' is not a word"]


@pytest.mark.parametrize("kind", [ConceptryError, MlflowException])
def test_a_bad_picture_of_a_folder_is_named_by_its_file(tmp_path: Path, monkeypatch, kind: type[Exception]) -> None:
    monkeypatch.setattr(client, "BATCH", 2)
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for file in files:
        file.write_bytes(b"no picture")

    def predict(rows: pd.DataFrame, params=None) -> Answer:
        if predict.calls:  # type: ignore[attr-defined]
            raise kind("models:/w/1: row 1, column 'image': not a picture")
        predict.calls = 1  # type: ignore[attr-defined]
        return Answer(rows, 0.0)

    predict.calls = 0  # type: ignore[attr-defined]
    with pytest.raises(ConceptryError, match=rf"^models:/w/1: {files[3]}: not a picture$"):
        list(client.answers(predict, "image", [AnnotatedImage(file) for file in files]))
    predict.calls = 0  # type: ignore[attr-defined]
    with pytest.raises(ConceptryError, match=r"^models:/w/1: row 3, column 'image': not a picture$"):
        list(client.answers(predict, "image", [b""] * 4))


def test_pictures_of_which_nothing_is_known_say_nothing_of_words() -> None:
    pictures = [AnnotatedImage(b"", concepts={"concepts": ("red",)}), AnnotatedImage(b"")]
    explained: Any = SimpleNamespace(words=[["red", "dog"], ["train"]])
    experiments.concepts(pictures, explained, report := Report())
    assert report.metrics == {"recall_concepts": 1.0, "concept_precision": 0.5}
    explained.words = [[], ["train"]]
    experiments.concepts(pictures, explained, report := Report())
    assert report.metrics == {"recall_concepts": 0.0}


def test_pictures_are_read_as_their_batch_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BATCH", 2)
    files = [tmp_path / f"{i}" for i in range(4)]
    for file in files[:2]:
        file.write_bytes(b"first")

    def predict(rows: pd.DataFrame, params=None) -> Answer:
        for file in files[2:]:
            file.write_bytes(b"second")
        return Answer(rows, 0.0)

    parts = list(client.answers(predict, "image", [AnnotatedImage(file) for file in files]))
    assert [part["image"].tolist() for part in parts] == [[b"first"] * 2, [b"second"] * 2]


@pytest.mark.parametrize(("gap", "shown"), [(1e-7, False), (2e-3, True)])
def test_the_gap_is_shown_where_a_row_did_not_converge(gap: float, shown: bool) -> None:
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    record = {"file": "a.png", "l0": 1, "cosine": 0.5, "gap": gap, "concepts": [{"concept": "dog", "weight": 0.5}]}
    console.print(presenter_of("splice").describe([record]))
    assert (", gap 2.0e-03" in console.export_text()) is shown


def test_a_summary_goes_to_files(predict, data, tmp_path: Path) -> None:
    evaluation = evaluation_of("splice")
    record = evaluation.summarise(predict, data, "dog", ignore)
    for suffix in (".txt", ".csv", ".json", ".svg"):
        save_summary(evaluation, record, tmp_path / f"dog{suffix}")
    assert json.loads((tmp_path / "dog.json").read_text()) == record
    table = pd.read_csv(tmp_path / "dog.csv")
    assert list(table.columns) == ["data", "label", "count", "l0", "cosine", "concept", "weight", "share"]
    assert table["concept"].tolist() == [entry["concept"] for entry in record["concepts"]]
    text = (tmp_path / "dog.txt").read_text()
    assert text.startswith(f"dog (mine): 3 pictures, {record['l0']:.1f} words each, cosine {record['cosine']:.3f}")
    assert (tmp_path / "dog.svg").read_text().startswith("<?xml")
