"""Models as objects: estimators, torch modules and functions give what they themselves give, and go into a folder."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.explained.load import read_explained
from conceptry.models.explained.loaders.objects import as_explained
from conceptry.models.explained.protocol import DifferentiableModel, ExplainedModel, PackagedModel, PixelModel
from conceptry.models.manifest import digest_of_files, files_in


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(size=(60, 3)), columns=pd.Index(["a", "b", "c"]))


def forest(rows: pd.DataFrame):
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(4, random_state=0).fit(rows, np.where(rows["a"] > 0, "up", "down"))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))


def saved_twice(first: ExplainedModel, second: ExplainedModel, folder: Path) -> ExplainedModel:
    """The first as it is read from its folder; equal models have folders of equal bytes."""
    digests = []
    for name, model in (("first", first), ("second", second)):
        assert isinstance(model, PackagedModel)
        model.save(folder / name)
        digests.append(digest_of_files(folder / name, files_in(folder / name)))
    assert digests[0] == digests[1]
    return read_explained(folder / "first", "cpu")


def test_an_estimator(rows: pd.DataFrame, tmp_path: Path) -> None:
    estimator = forest(rows)
    model = as_explained(estimator, statistics=rows)
    assert (model.name, model.modality, model.form) == ("RandomForestClassifier", "table", "probabilities")
    assert model.classes == ("down", "up")
    assert [column.name for column in model.columns] == ["a", "b", "c"]
    np.testing.assert_array_equal(model(rows), estimator.predict_proba(rows))
    read = saved_twice(model, as_explained(forest(rows), statistics=rows), tmp_path)
    np.testing.assert_array_equal(read(rows), model(rows))
    assert (read.classes, read.columns) == (model.classes, model.columns)


def test_an_estimator_over_texts(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    texts = ["good film", "bad film", "good", "bad"]
    model = as_explained(make_pipeline(CountVectorizer(), Ridge()).fit(texts, [1.0, -1.0, 1.0, -1.0]))
    assert (model.modality, model.form, model.classes) == ("text", "values", ("target",))
    assert model(["good"])[0, 0] > 0 > model(["bad"])[0, 0]


def test_a_module_over_a_table(rows: pd.DataFrame, tmp_path: Path) -> None:
    module = network()
    model = as_explained(module, statistics=rows, outputs="logits", classes=["no", "yes"])
    assert isinstance(model, DifferentiableModel)
    assert (model.name, model.form, model.classes) == ("Sequential", "logits", ("no", "yes"))
    assert module.training  # the user's own is left as it was
    assert all(parameter.requires_grad for parameter in module.parameters())
    expected = module.eval()(torch.tensor(rows.to_numpy(np.float32))).detach().double().numpy()
    np.testing.assert_allclose(model(rows), expected, rtol=1e-6)
    read = saved_twice(
        model, as_explained(network(), statistics=rows, outputs="logits", classes=["no", "yes"]), tmp_path
    )
    np.testing.assert_allclose(read(rows), expected, rtol=1e-5, atol=1e-6)
    assert (read.classes, read.columns) == (("no", "yes"), model.columns)
    assert isinstance(read, DifferentiableModel)


def test_a_module_over_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = as_explained(module, shape=(3, 8, 8), outputs="logits")
    assert isinstance(model, PixelModel)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    expected = module(torch.tensor(images).permute(0, 3, 1, 2) / 255).detach().double().numpy()
    np.testing.assert_allclose(model(images), expected, rtol=1e-5, atol=1e-7)


def test_functions(rows: pd.DataFrame, tmp_path: Path) -> None:
    def product(arrays: np.ndarray) -> np.ndarray:
        return arrays[:, 0] * arrays[:, 1]

    for statistics in (rows, rows.to_numpy()):
        model = as_explained(product, statistics=statistics)
        assert (model.name, model.form, model.classes) == ("product", "values", ("target",))
        frame = pd.DataFrame(rows.to_numpy(), columns=pd.Index([column.name for column in model.columns]))
        np.testing.assert_array_equal(model(frame)[:, 0], (rows["a"] * rows["b"]).to_numpy())
    assert [column.name for column in model.columns] == ["x1", "x2", "x3"]
    assert as_explained(lambda texts: [len(text) for text in texts], modality="text")(["abc"]).tolist() == [[3.0]]
    assert as_explained(lambda x: x.mean(axis=(1, 2)), modality="image").classes == ("output_0", "output_1", "output_2")
    with pytest.raises(
        InputError, match=r"product: a Python function cannot be packaged; log it with mlflow\.pyfunc and"
    ):
        model.save(tmp_path / "product")  # type: ignore[attr-defined]


class Own:
    name, modality, form, classes, columns = "own", "text", "values", ("y",), ()

    def __call__(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 1))


def test_what_is_refused(rows: pd.DataFrame) -> None:
    own = Own()
    assert as_explained(own) is own

    def refused(message: str, model: object, **arguments) -> None:
        with pytest.raises(InputError, match=message):
            as_explained(model, **arguments)

    refused("a dict is no model; expected a name such as zoo:wine, a scikit-learn estimator, a torch module", {})
    refused("outputs means nothing for a Own, which says what it is; leave it out", own, outputs="logits")
    refused("zoo:wine: brings its own classes; leave it out", "zoo:wine", classes=["a"])
    refused("shape means nothing for a scikit-learn estimator", forest(rows), shape=(3,))
    refused("explains rows of a table, whose baseline needs statistics", forest(rows))
    refused("Sequential: what the module takes is not known; expected statistics", network())
    refused("takes an array of shape", network(), shape=(4, 4, 4))
    refused("modality means nothing for a torch module", network(), modality="table")
    refused("expected 2 different names in classes, got", network(), statistics=rows, classes=["a"])
    refused("outputs must be one of auto, logits", network(), statistics=rows, outputs="odds")
    refused("modality is 'sound'; expected one of table", lambda x: x, modality="sound")
    refused("statistics describe the columns of a table, and", lambda x: x, modality="text", statistics=rows)
    refused("the model failed on 32 samples: oops", failing, statistics=rows)


def failing(arrays: np.ndarray) -> np.ndarray:
    raise ValueError("oops")


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) if float(x.sum().item()) > -1e9 else x


def test_what_cannot_be_packaged_is_told(rows: pd.DataFrame, tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    class Mine(Ridge):
        """A class that no other process can import."""

    model = as_explained(Mine().fit(rows, rows["a"]), statistics=rows)
    with pytest.raises(InputError, match=r"Mine: cannot be packaged as a skops file .*log it to MLflow yourself"):
        model.save(tmp_path / "mine")  # type: ignore[attr-defined]
    module = as_explained(Untraceable(), statistics=rows)
    with pytest.raises(InputError, match=r"Untraceable: cannot be exported .*explain it in Python"):
        module.save(tmp_path / "module")  # type: ignore[attr-defined]
