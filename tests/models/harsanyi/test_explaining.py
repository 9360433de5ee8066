"""The explainer as users meet it: a model in any form, samples in any form, records that say what a server says."""

import base64
import json

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import conceptry
from conceptry.models.errors import InputError
from conceptry.models.harsanyi import AndOrGraph, Explanations, Harsanyi, Interactions, Settings, TensorMasker
from conceptry.models.harsanyi.interactions.moebius import moebius
from conceptry.models.images import png_bytes
from conceptry.registry import list_versions

ROWS = pd.DataFrame({"a": [1.0, 2.0, -1.0, 0.5], "b": [0.0, 3.0, 1.0, -2.0], "c": [5.0, 1.0, 0.0, 2.0]})


def product(x: np.ndarray) -> np.ndarray:
    return x[:, 0] * x[:, 1] + x[:, 2]


@pytest.fixture(scope="module")
def explainer() -> Harsanyi:
    return Harsanyi(product, background=ROWS, baseline={"a": 0.0, "b": 0.0, "c": 0.0})


@pytest.fixture
def tiny(tiny_classifier) -> Harsanyi:
    return Harsanyi(f"classifier:{tiny_classifier}")


def test_settings_by_name_are_those_of_an_object() -> None:
    named = Harsanyi(product, statistics=ROWS, baseline="median", background=["c"], target=0, temperature=1)
    assert (
        named.settings
        == Harsanyi(product, Settings("output", "0", baseline="median", background="c"), statistics=ROWS).settings
    )
    grouped = Harsanyi(product, statistics=ROWS, players={"both": ["a", "b"]}).explain(ROWS.iloc[1])
    assert grouped.players == ("both", "c")
    for message, options in (
        ("unknown setting 'temprature' of harsanyi; did you mean 'temperature'", {"temprature": 2.0}),
        ("unknown setting 'x' of harsanyi; expected one of reward, target", {"x": 2.0}),
        ("temperature must be of type float, got '2'", {"temperature": "2"}),
        ("a table model has no baseline 'blur'", {"baseline": "blur"}),
        ("baseline row needs a file", {"baseline": "row"}),
        ("players nowhere.json: no such file", {"players": "nowhere.json"}),
        ("background rows are given twice", {"background": ROWS}),
        ("product has no output 'up'", {"target": "up"}),
    ):
        with pytest.raises(InputError, match=message):
            Harsanyi(product, statistics=ROWS, **options)


def test_rows_in_any_form(explainer: Harsanyi) -> None:
    row = {"a": 2.0, "b": 3.0, "c": 1.0}
    expected = {("a", "b"): 6.0, ("c",): 1.0}
    for sample in (row, pd.Series(row), [2.0, 3.0, 1.0], np.array([2.0, 3.0, 1.0]), torch.tensor([2.0, 3.0, 1.0])):
        found = explainer.explain(sample)
        assert isinstance(found, Interactions)
        assert {tuple(p["players"]): p["effect"] for p in found.patterns()} == pytest.approx(expected)
    for samples in (
        ROWS,
        ROWS.to_numpy(),
        torch.tensor(ROWS.to_numpy()),
        ROWS.to_dict("records"),
        list(ROWS.to_numpy()),
    ):
        several = explainer.explain(samples)
        assert isinstance(several, Explanations)
        assert [item.v_full for item in several] == pytest.approx(product(ROWS.to_numpy()).tolist())
        assert len(several) == 4
        assert several[1].v_full == pytest.approx(7.0)
    for samples, message in (
        ([], "there is nothing to explain"),
        (3, r"expected a row as \{column: value\} or as 3 values, got int"),
        ([1.0, 2.0], "expected 3 values, of a, b, c, got 2"),
        ([row, {"a": 1.0}], "row 1: column 'b' is missing"),
        ([[1.0, 2.0, 3.0], [1.0]], "row 1: expected 3 values"),
    ):
        with pytest.raises(InputError, match=message):
            explainer.explain(samples)


def test_texts_in_any_form() -> None:
    counts = Harsanyi(lambda texts: [t.split().count("good") for t in texts], modality="text")
    assert counts.explain("good film").v_full == 1.0
    for samples in (
        ["good", "bad"],
        pd.Series(["good", "bad"]),
        pd.DataFrame({"text": ["good", "bad"]}),
        np.array(["good", "bad"]),
    ):
        assert [item.v_full for item in counts.explain(samples)] == [1.0, 0.0]
    for samples, message in (
        ("  ", "^expected a text that is not blank"),
        (["good", 3], "row 1: expected a text that is not blank"),
        (pd.DataFrame({"texts": ["good"]}), "the table has no column 'text'; it has texts"),
    ):
        with pytest.raises(InputError, match=message):
            counts.explain(samples)


def test_images_in_any_form(tmp_path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, 4:] = 200, 100, 50
    image = Image.fromarray(pixels)
    image.save(tmp_path / "image.png")
    bright = Harsanyi(lambda x: x.mean(axis=(1, 2, 3)), modality="image", shape=(8, 8, 3), players="grid:2x2")
    expected = pixels.mean()
    tensor = torch.tensor(pixels).permute(2, 0, 1)
    encoded = base64.b64encode(png_bytes(image)).decode()
    forms = (
        image,
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
        png_bytes(image),
        encoded,
        pixels,
        tensor,
        tensor / 255,
    )
    for sample in forms:
        found = bright.explain(sample)
        assert found.v_full == pytest.approx(expected)
        np.testing.assert_array_equal(found.image, pixels)
    for samples in ([image, pixels], np.stack([pixels, pixels]), torch.stack([tensor, tensor])):
        assert [item.v_full for item in bright.explain(samples)] == pytest.approx([expected, expected])
    assert bright.explain(np.full((8, 8), 7, np.uint8)).v_full == pytest.approx(7.0)
    for sample, message in (
        (str(tmp_path / "absent.png"), "not a picture"),
        (tmp_path / "absent.png", "no such file"),
        (pixels.astype(float), r"an image is uint8 of shape \(height, width\) or \(height, width, 3\), got float64"),
        (tensor * 2.0, "holds values from 0 to 1"),
        (tensor[:2], r"a tensor of an image has the shape \(1 or 3, height, width\), got \(2, 8, 8\)"),
    ):
        with pytest.raises(InputError, match=message):
            bright.explain(sample)


def test_points_in_any_form() -> None:
    cloud = np.random.default_rng(0).normal(size=(6, 3))
    mean = Harsanyi(
        lambda x: np.asarray(x)[:, :, 0].mean(axis=1), modality="points", shape=(6, 3), players="clusters:2"
    )
    for sample in (cloud, cloud.tolist(), torch.tensor(cloud)):
        assert mean.explain(sample).v_full == pytest.approx(cloud[:, 0].mean())
    for samples in (np.stack([cloud, cloud]), [cloud, cloud.tolist()], pd.DataFrame({"points": [cloud.tolist()] * 2})):
        assert len(mean.explain(samples)) == 2
    with pytest.raises(InputError, match="row 1: expected finite coordinates"):
        mean.explain([cloud, cloud * np.nan])


def test_parameters_of_a_request(tiny: Harsanyi, tiny_rows: list[dict]) -> None:
    everything = tiny.explain(tiny_rows[0], denoise=False)
    assert len(everything.patterns()) == 31
    assert len(tiny.explain(tiny_rows[0], top_k=2).patterns()) == 2
    assert tiny.explain(tiny_rows[0], target="mid").target == tiny.explain(tiny_rows[0], target=1).target == "mid"
    with pytest.raises(
        InputError, match="explain has no parameter 'topk'; expected one of target, top_k, denoise, details"
    ):
        tiny.explain(tiny_rows[0], topk=2)
    with pytest.raises(InputError, match="top_k must be at least 1, got 0"):
        tiny.explain(tiny_rows, top_k=0)
    with pytest.raises(InputError, match="row 1: column 'age' is empty"):
        tiny.explain([tiny_rows[0], tiny_rows[1] | {"age": None}])


def test_a_record_says_what_a_server_says(tiny: Harsanyi, tiny_rows: list[dict], harsanyi_version) -> None:
    served = mlflow.pyfunc.load_model(harsanyi_version.uri)
    for params in ({}, {"details": True}, {"top_k": 3}, {"denoise": False, "target": "low"}):
        rows = served.predict(pd.DataFrame(tiny_rows), params=params).to_dict("records")
        record = tiny.explain(tiny_rows, **params)
        assert record.answers() == rows
        assert json.loads(record.to_json()) == {"method": "harsanyi", "explanations": rows}
        assert tiny.explain(tiny_rows[1], **params).to_dict() == {"method": "harsanyi", "explanations": rows[1:2]}


def test_a_record_is_drawn_and_shown(tiny: Harsanyi, tiny_rows: list[dict], tmp_path) -> None:
    record = tiny.explain(tiny_rows[0])
    record.plot(title="mine").savefig(tmp_path / "graph.svg")
    for view in ("graph", "patterns", "explanation"):
        record.plot(view).savefig(tmp_path / f"{view}.png")
    record.graph().save(tmp_path / "graph.html", highlight="rank-1")
    assert record.graph() == AndOrGraph.from_json(record.answers()[0]["graph"])
    strongest = " AND ".join(record.patterns()[0]["players"])
    assert strongest in record._repr_html_()
    assert strongest in repr(record)
    assert "<script>" not in tiny.explain(tiny_rows)._repr_html_()
    with pytest.raises(InputError, match="harsanyi draws one explanation in a figure, got 3"):
        tiny.explain(tiny_rows).plot()
    with pytest.raises(InputError, match="harsanyi has no view 'tree'; expected one of graph, patterns, explanation"):
        record.plot("tree")
    image = Harsanyi(lambda x: x.mean(axis=(1, 2, 3)), modality="image", players="grid:2x2").explain(
        np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    )
    image.plot("patterns").savefig(tmp_path / "image.png")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("kind", ["name", "estimator", "module"])
def test_an_object_becomes_a_version_and_comes_back(kind: str) -> None:
    from sklearn.linear_model import Ridge

    def make() -> Harsanyi:
        if kind == "name":
            return Harsanyi("zoo:wine", players={"colour": ["color_intensity", "hue"]})
        if kind == "estimator":
            estimator = Ridge().fit(ROWS, [1.0, 2.0, 3.0, 4.0])
            return Harsanyi(estimator, background=ROWS, baseline=ROWS.iloc[0])
        return Harsanyi(Small(), statistics=ROWS, outputs="logits", classes=["no", "yes"], baseline="learned")

    made = make()
    columns = made.model.columns
    samples = (
        ROWS
        if kind != "name"
        else pd.DataFrame([{c.name: c.mean for c in columns}, {c.name: c.maximum for c in columns}])
    )
    info = conceptry.log_model(made, registered_model_name=f"object-{kind}")
    again = conceptry.log_model(make(), registered_model_name=f"object-{kind}")
    assert info.registered_model_version == again.registered_model_version
    (version,) = list_versions(f"object-{kind}")
    loaded = conceptry.load_model(version.uri)
    assert isinstance(loaded, Harsanyi)
    conceptry.log_model(loaded, registered_model_name=f"object-{kind}")
    assert len(list_versions(f"object-{kind}")) == 1
    assert loaded.settings == made.settings
    answers = loaded.explain(samples).answers()
    assert mlflow.pyfunc.load_model(version.uri).predict(samples).to_dict("records") == answers
    for found, expected in zip(answers, made.explain(samples).answers(), strict=True):
        assert found["target"] == expected["target"]
        assert found["v_full"] == pytest.approx(expected["v_full"], rel=1e-5)
        assert found["l1"] == pytest.approx(expected["l1"], rel=1e-3)


@pytest.mark.usefixtures("store")
def test_what_no_version_can_hold(explainer: Harsanyi) -> None:
    with pytest.raises(InputError, match=r"product: a Python function cannot be packaged; log it with mlflow\.pyfunc"):
        conceptry.log_model(explainer, registered_model_name="never")

    class Own:
        name, modality, form, classes, columns = "own", "text", "values", ("y",), ()

        def __call__(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 1))

    with pytest.raises(InputError, match="own: a version carries its explained model, and one of class Own cannot be"):
        conceptry.log_model(Harsanyi(Own()), registered_model_name="never")


def test_a_function_over_tensors_in_one_call() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0] * x[:, 1], x[:, 2] - x[:, 0]], dim=1)

    x, baseline = torch.tensor([2.0, 3.0, -1.0]), torch.tensor([1.0, 0.0, 0.0])
    record = Harsanyi.of_tensor(function, x, baseline, 0, players=["a", "b", "c"])
    masked = [torch.where(torch.tensor(mask), x, baseline) for mask in record.masks(np.arange(8))]
    np.testing.assert_allclose(record.v, [float(function(row[None])[0, 0]) for row in masked])
    np.testing.assert_allclose(record.i_and, moebius(record.v))
    assert {tuple(p["players"]): p["effect"] for p in record.patterns()} == {("b",): 3.0, ("a", "b"): 3.0}
    assert (record.target, record.calls) == ("output_0", 8)
    assert Harsanyi.of_tensor(function, x, baseline, "second", classes=["first", "second"]).v_full == -3.0
    arrays = Harsanyi.of_tensor(lambda x: x[:, 0] * x[:, 1], x.numpy(), baseline.numpy())
    np.testing.assert_allclose(arrays.v, record.v)
    assert arrays.drawable()[0]["sample"] == {"x1": 2.0, "x2": 3.0, "x3": -1.0}
    record.plot("explanation")


def test_rewards_segments_and_maskers_of_tensors() -> None:
    def logits(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :2] * 3

    x = torch.arange(1.0, 9.0).reshape(2, 2, 2)
    halves = Harsanyi.of_tensor(logits, x, segments=[[0, 0], [1, 1]], reward="log_odds")
    assert halves.players == ("x1", "x2")
    assert halves.target == "class_1"
    np.testing.assert_allclose(halves.v, [0.0, 0.0, 3.0, 3.0])  # both outputs are of the first segment
    background = Harsanyi.of_tensor(logits, x, 0.0, 1, segments=[[-1, 0], [0, 0]], reward="log_odds", temperature=2.0)
    np.testing.assert_allclose(background.v, [-1.5, 1.5])
    less = Harsanyi.of_tensor(logits, x, 0.0, 1, segments=[[-1, 0], [0, 0]], subtract_empty=True)
    np.testing.assert_allclose(less.v, [0.0, 6.0])
    both = Harsanyi.of_tensor(lambda x: (x > 0).any(1) * 1.0, [1.0, 1.0, 1.0], interactions="and-or")
    assert [p["kind"] for p in both.patterns()] == ["or"]
    features = torch.tensor([1.0, 2.0])
    masker = TensorMasker(features, torch.zeros(2), torch.tensor([0, 1]), ["left", "right"])
    own = Harsanyi.of_tensor(lambda x: x.sum(1), None, masker=masker)
    assert {tuple(p["players"]): p["effect"] for p in own.patterns()} == {("left",): 1.0, ("right",): 2.0}

    class Texts:
        players = ("not", "good")

        def masked(self, masks: np.ndarray) -> list[str]:
            return [" ".join(w for w, here in zip(self.players, mask, strict=True) if here) for mask in masks]

    words = Harsanyi.of_tensor(lambda texts: [float(t == "good") for t in texts], None, masker=Texts())
    assert {tuple(p["players"]): p["effect"] for p in words.patterns()} == {("good",): 1.0, ("not", "good"): -1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.ones(2, 2, 2)}, r"x of shape \(2, 2, 2\) does not say what the players are; expected segments"),
        ({"baseline": torch.ones(4)}, r"baseline of shape \(4,\) does not broadcast to \(3,\), the shape of x"),
        ({"segments": [0, 2, 2]}, r"segments must hold each of the players 0 to 1"),
        ({"players": ["a", "b"]}, "segments must hold each of the players 0 to 1"),
        ({"players": ["a", "b", "b"]}, "two players are called 'b'"),
        ({"target": 4}, "the function has no output '4'; expected predicted, an index below 1"),
        ({"reward": "odds"}, "reward must be one of log_odds"),
        ({"reward": "logit", "outputs": "probabilities"}, "reward logit needs logits"),
        ({"learning_rate": 0.1}, "of_tensor has no setting 'learning_rate'; expected one of temperature"),
        ({"classes": ["a"], "players": ["a"], "masker": object()}, "a masker says what the players are"),
        ({"x": torch.tensor([1.0, float("nan"), 0.0])}, "features: 1 of 3 are NaN or infinite"),
    ],
)
def test_what_of_tensor_refuses(arguments: dict, message: str) -> None:
    given = {"x": torch.ones(3), "baseline": 0.5} | arguments
    with pytest.raises(InputError, match=message):
        Harsanyi.of_tensor(lambda x: x.sum(1) / 4, **given)
