"""A classifier as an explained model: what it reads, what it refuses, and that its folder gives it back."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.architectures import Shape, build_network
from conceptry.models.explained.classifiers.classifier import Classifier, Description, read_classifier
from conceptry.models.explained.classifiers.features import build_vocabulary, tokenise
from conceptry.models.explained.protocol import Column, DifferentiableModel

CPU = torch.device("cpu")
COLUMNS = (
    Column("age", "numeric", mean=40.0, median=39.0, std=10.0, minimum=18.0, maximum=90.0, mode=36.0),
    Column("work", "categorical", categories=("none", "own", "state"), mode="own", dtype="str"),
    Column("same", "numeric", mean=2.0, median=2.0, std=0.0, minimum=2.0, maximum=2.0, mode=2.0),
)
FRAME = pd.DataFrame({"age": [40.0, 60.0], "work": ["state", "none"], "same": [2.0, 3.0]})
VOCABULARY = build_vocabulary(["a good film , is n't it ?", "a bad film ."], 100, 1)
TEXTS = ["A good film, isn't it?", "bad [MASK] .", "", "a zeppelin"]


def _model(description: Description) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier("zoo:test", description, build_network(description.shape), CPU)


@pytest.fixture
def table() -> Classifier:
    shape = Shape("mlp2", (5,), 1, 4)
    return _model(Description(shape, "table", "values", ("target",), COLUMNS, target_mean=100.0, target_std=20.0))


def _text(arch: str) -> Classifier:
    shape = Shape(arch, (len(VOCABULARY),), 1, 6, embedding=4, dropout=0.5)
    return _model(Description(shape, "text", "logits", ("negative", "positive"), vocabulary=VOCABULARY))


@pytest.fixture(params=["lstm2", "cnn"])
def text(request: pytest.FixtureRequest) -> Classifier:
    return _text(request.param)


@pytest.fixture
def image() -> Classifier:
    return _model(Description(Shape("lenet", (1, 8, 8), 10, 12), "image", "logits", tuple("0123456789")))


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def test_columns_are_standardised_and_categories_one_hot(table: Classifier):
    expected = [[0.0, 0, 0, 1, 0], [2.0, 1, 0, 0, 1]]  # a column that never varied is centred only
    assert table.encode(FRAME).tolist() == expected
    assert table.feature_owner(FRAME).tolist() == [0, 1, 1, 1, 2]
    shuffled = FRAME.assign(more=1)[["same", "more", "work", "age"]]
    assert np.array_equal(table(shuffled), table(FRAME))


def test_a_regressor_answers_in_units_of_the_target(table: Classifier):
    raw = table.network(table.encode(FRAME)).double().numpy()
    assert table(FRAME).dtype == np.float64
    assert np.allclose(table(FRAME), 100 + 20 * raw, rtol=1e-6)
    assert np.allclose(table.forward(table.encode(FRAME)).numpy(), table(FRAME))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.drop(columns="work"), "column 'work' is missing; expected the columns age, work, same"),
        (FRAME.assign(age=[1.0, np.nan]), "row 1, column 'age': expected a finite number, got"),
        (FRAME.assign(age=[np.inf, 1.0]), "row 0, column 'age': expected a finite number, got"),
        (FRAME.assign(age=["old", "30"]), "row 0, column 'age': expected a finite number, got 'old'"),
        (FRAME.assign(work=["own", "boss"]), "row 1, column 'work': unknown category 'boss'; expected one of 'none', "),
        (FRAME.assign(work=[["own"], "own"]), "row 0, column 'work': unknown category ['own']"),
        (FRAME.assign(work=["own", None]), "row 1, column 'work': unknown category"),
        (pd.concat([FRAME, FRAME[["age"]]], axis=1), "column 'age' is given 2 times; expected it once"),
        (FRAME.to_numpy(), "a table model takes a DataFrame, got ndarray"),
    ],
)
def test_bad_tables_are_refused(table: Classifier, frame: pd.DataFrame, message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        table(frame)


def test_words_and_marks():
    assert tokenise("A Good film, isn't it?") == ["a", "good", "film", ",", "isn't", "it", "?"]
    assert tokenise("it 's do n't [MASK].") == ["it", "'s", "do", "n't", "[MASK]", "."]
    assert tokenise("\u2019twas [mask]") == ["\u2019", "twas", "[MASK]"]
    assert tokenise(" ") == []
    assert build_vocabulary(["b b a a c", "d"], 2, 1) == ("<pad>", "<unk>", "[MASK]", "a", "b")
    assert build_vocabulary(["b b [MASK] c"], 9, 2) == ("<pad>", "<unk>", "[MASK]", "b")


def test_texts_of_different_lengths_read_alike_alone_and_together(text: Classifier):
    together = text(TEXTS)
    assert together.shape == (4, 1)
    for i, one in enumerate(TEXTS):
        assert np.allclose(text([one])[0], together[i], atol=1e-6)
        assert np.allclose(text.forward(text.encode([one]))[0].numpy(), together[i], atol=1e-6)


def test_nothing_reads_as_a_masked_word_and_unknown_words_alike(text: Classifier):
    assert np.array_equal(text([""]), text(["[MASK]"]))
    assert np.array_equal(text(["a zeppelin"]), text(["A xylophone"]))
    assert not np.array_equal(text(["a zeppelin"]), text(["a [MASK]"]))


def test_embeddings_and_their_owners(text: Classifier):
    assert text.tokens("bad [MASK] .") == ["bad", "[MASK]", "."]
    x = text.encode(["bad [MASK] .", "a good film"])
    assert x.shape == (2, 3, 4)
    assert text.feature_owner(["bad [MASK] ."]).tolist() == [[0] * 4, [1] * 4, [2] * 4]
    with pytest.raises(InputError, match="texts must have the same number of tokens to be encoded together"):
        text.encode(["a", "a b"])
    with pytest.raises(InputError, match="a text model takes a list of texts"):
        text("a good film")
    with pytest.raises(InputError, match="a text model takes a list of texts"):
        text([3.0])


def test_images_are_read_as_pixels(image: Classifier):
    x = image.encode(IMAGES)
    assert x.shape == (3, 1, 8, 8)
    assert torch.allclose(x[:, 0], torch.from_numpy(IMAGES.mean(axis=-1) / 255).float(), atol=1e-6)
    assert image.size == (8, 8)
    assert image.feature_owner(IMAGES).unique().tolist() == [-1]
    colour = _model(Description(Shape("lenet", (3, 8, 8), 2, 12), "image", "logits", ("a", "b")))
    assert torch.equal(colour.encode(IMAGES)[0, 2], torch.from_numpy(IMAGES[0, :, :, 2] / np.float32(255)))
    for wrong in (IMAGES[0], IMAGES[:, :7], IMAGES / 255):
        with pytest.raises(InputError, match=r"takes uint8 images of shape \(batch, 8, 8, 3\), got"):
            image(wrong)


@pytest.mark.parametrize("kind", ["table", "lstm2", "cnn", "image"])
def test_a_folder_gives_the_same_model_back(kind: str, table: Classifier, image: Classifier, tmp_path: Path):
    model, inputs = {"table": (table, FRAME), "image": (image, IMAGES)}.get(kind) or (_text(kind), TEXTS)
    before = torch.get_rng_state()
    model.save(tmp_path / "model")
    read = read_classifier(tmp_path / "model", CPU, "zoo:other")
    assert isinstance(read, DifferentiableModel)
    assert (read.name, read.description) == ("zoo:other", model.description)
    assert np.array_equal(read(inputs), model(inputs))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["classifier.json", "model.safetensors"]
    assert torch.equal(torch.get_rng_state(), before)
    assert read.lineage["explained_sha256"] == model.lineage["explained_sha256"]
    model.save(tmp_path / "half", torch.float16)
    assert np.allclose(read_classifier(tmp_path / "half", CPU, "x")(inputs), model(inputs), rtol=1e-2, atol=1e-2)


def test_features_can_be_differentiated_while_weights_are_frozen(text: Classifier):
    x = text.encode(TEXTS[:1]).requires_grad_()
    text.forward(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in text.network.parameters())


def test_calls_from_many_threads_agree(text: Classifier):
    expected = text(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(outputs, expected) for outputs in pool.map(lambda _: text(TEXTS), range(32)))


def test_folders_that_are_no_classifier_are_refused(table: Classifier, tmp_path: Path):
    with pytest.raises(InputError, match=r"holds no classifier\.json; expected a folder written by conceptry train"):
        read_classifier(tmp_path, CPU, "x")
    table.save(tmp_path)
    content = (tmp_path / "classifier.json").read_text()
    values = json.loads(content)
    for broken in (
        content[:-9],
        json.dumps({**values, "modality": "text"}),
        json.dumps({**values, "shape": {**values["shape"], "hidden": 5}}),
        json.dumps({key: value for key, value in values.items() if key != "columns"}),
    ):
        (tmp_path / "classifier.json").write_text(broken)
        with pytest.raises(InputError, match="is not a classifier that can be read"):
            read_classifier(tmp_path, CPU, "x")
    (tmp_path / "classifier.json").write_text(content)
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(InputError, match="is not a classifier that can be read"):
        read_classifier(tmp_path, CPU, "x")
