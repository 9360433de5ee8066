"""Pyfuncs of users: models from code, pickled ones, tables of whole numbers, texts, and answers that are none."""

import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conceptry.models.errors import InputError
from conceptry.models.explained import load_explained, read_explained

ROWS = pd.DataFrame({"rooms": [1, 2, 2, 5], "area": [30.0, 50.0, 55.0, 120.0], "town": ["Ulm", "Bonn", "Ulm", "Ulm"]})

SCRIPT = """
import mlflow, numpy as np, pandas as pd
from pathlib import Path

class Priced(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.factor = float(Path(context.artifacts["factor"]).read_text()) if context.artifacts else 1.0
    def predict(self, context, model_input, params=None):
        assert model_input["rooms"].dtype == np.int64, model_input.dtypes
        return self.factor * (model_input["area"] * (1 + model_input["rooms"])) + 7.0 * (model_input["town"] == "Ulm")

mlflow.models.set_model(Priced())
"""


@pytest.fixture(scope="module")
def log(store: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Log a pyfunc, from the source of a script or as an object that is pickled, and return its URI."""
    import mlflow
    from mlflow.models import infer_signature

    def log(model: Any, example: Any, outputs: Any = None, **options: Any) -> str:
        if isinstance(model, str):
            path = tmp_path_factory.mktemp("code") / "script.py"
            path.write_text(textwrap.dedent(model))
            model = str(path)
        with mlflow.start_run(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's hints on signatures
            if example is not None:
                options["signature"] = infer_signature(example, outputs)
            options = {"pip_requirements": ["scikit-learn==1.0", "not-installed", "--no-index"]} | options
            return mlflow.pyfunc.log_model(name="pyfunc", python_model=model, **options).model_uri

    return log


def answering(expression: str) -> str:
    """The source of a pyfunc whose answer is an expression of its input `x`."""
    return f"""
    import mlflow, numpy as np, pandas as pd
    class Answer(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            x = model_input
            return {expression}
    mlflow.models.set_model(Answer())
    """


def price(rows: pd.DataFrame, factor: float = 1.0) -> np.ndarray:
    return np.asarray(factor * rows["area"] * (1 + rows["rooms"]) + 7.0 * (rows["town"] == "Ulm"))[:, None]


@pytest.fixture(scope="module")
def priced(log: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    factor = tmp_path_factory.mktemp("factor") / "factor.txt"
    factor.write_text("2.0")
    return log(SCRIPT, ROWS, artifacts={"factor": str(factor)})


def test_a_model_from_code_over_a_table(priced: str, tmp_path: Path) -> None:
    model = load_explained(priced, "cpu", statistics=ROWS)
    assert (model.modality, model.form, model.classes) == ("table", "values", ("target",))
    assert model.requirements == ("scikit-learn",)
    np.testing.assert_allclose(model(ROWS), price(ROWS, 2.0))
    model.save(tmp_path / "explained")
    assert (tmp_path / "explained" / "model" / "artifacts" / "factor.txt").read_text() == "2.0"
    np.testing.assert_allclose(read_explained(tmp_path / "explained", "cpu")(ROWS), price(ROWS, 2.0))


def test_baselines_of_whole_columns_are_whole_and_it_is_said(priced: str) -> None:
    model = load_explained(priced, "cpu", statistics=ROWS)
    rooms = model.columns[0]
    assert (rooms.mean, rooms.median) == (2.0, 2.0)  # 2.5 is rounded to the even neighbour
    assert model.notes == ("mean and median are rounded in columns where the model takes whole numbers alone: rooms",)
    masked = ROWS.assign(rooms=[rooms.mean, 1.0, 2.0, 5.0])
    np.testing.assert_allclose(model(masked), price(masked, 2.0))
    with pytest.raises(InputError, match=r"'rooms' takes whole numbers .int64., got 1.5; choose a baseline of whole"):
        model(ROWS.assign(rooms=1.5))


def test_a_pickled_pyfunc_needs_consent(log: Callable[..., str]) -> None:
    import mlflow.pyfunc

    class Sum(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["area"] + 1

    uri = log(Sum(), ROWS)
    with pytest.raises(InputError, match=r"python_model\.pkl is a pickle.*from code .pyfunc.*--allow-pickle"):
        load_explained(uri, "cpu", statistics=ROWS)
    model = load_explained(uri, "cpu", statistics=ROWS, allow_pickle=True)
    np.testing.assert_allclose(model(ROWS)[:, 0], ROWS["area"] + 1)


def test_without_a_signature_the_background_says_the_columns(log: Callable[..., str]) -> None:
    model = load_explained(log(answering("x['area'].to_numpy() * 2"), None), "cpu", statistics=ROWS)
    assert [column.name for column in model.columns] == ["rooms", "area", "town"]
    np.testing.assert_allclose(model(ROWS)[:, 0], ROWS["area"] * 2)


def test_arrays_instead_of_columns(log: Callable[..., str]) -> None:
    example = np.ones((4, 2), np.float32)
    rows = pd.DataFrame(example * [[1], [2], [3], [4]], columns=["u", "v"])
    model = load_explained(log(answering("x.sum(1, keepdims=True)"), example), "cpu", statistics=rows)
    assert [column.dtype for column in model.columns] == ["float32", "float32"]
    assert model(rows)[:, 0].tolist() == [2, 4, 6, 8]


def test_columns_without_names(log: Callable[..., str]) -> None:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    signature = ModelSignature(Schema([ColSpec("long"), ColSpec("long")]))
    uri = log(answering("np.asarray(x).sum(1)"), None, signature=signature)
    rows = pd.DataFrame({"u": [1, 2, 3], "v": [10, 20, 30]})
    model = load_explained(uri, "cpu", statistics=rows)
    assert [(column.name, column.dtype) for column in model.columns] == [("u", "int64"), ("v", "int64")]
    assert model(rows)[:, 0].tolist() == [11, 22, 33]
    numbered = rows.set_axis([0, 1], axis=1)
    model = load_explained(log(answering("x.sum(axis=1)"), numbered), "cpu", statistics=numbered)
    assert [column.name for column in model.columns] == ["0", "1"]
    mixed = log(answering("x"), None, signature=ModelSignature(Schema([ColSpec("long"), ColSpec("string")])))
    with pytest.raises(InputError, match="unnamed columns of different types"):
        load_explained(mixed, "cpu", statistics=rows)


def test_text_by_one_column(log: Callable[..., str]) -> None:
    uri = log(answering("x['review'].str.len()"), pd.DataFrame({"review": ["good"]}))
    model = load_explained(uri, "cpu")
    assert model.modality == "text"
    assert model(["good", "", "not bad"])[:, 0].tolist() == [4, 0, 7]
    with pytest.raises(InputError, match="a background of 1 rows says nothing"):
        load_explained(uri, "cpu", statistics=pd.DataFrame({"review": ["good"]}))
    table = load_explained(uri, "cpu", statistics=pd.DataFrame({"review": ["good", "bad"]}))
    assert (table.modality, table.columns[0].categories) == ("table", ("bad", "good"))


def test_probabilities_are_checked_where_they_are_claimed(log: Callable[..., str]) -> None:
    two = log(answering("np.stack([x['area'] / 200, 1 - x['area'] / 200], 1)"), ROWS)
    model = load_explained(two, "cpu", statistics=ROWS, outputs="probabilities")
    assert model.classes == ("class_0", "class_1")
    one = load_explained(log(answering("x['area'] / 200"), ROWS), "cpu", statistics=ROWS, outputs="probabilities")
    assert one.classes == ("class_0", "class_1")
    assert one(ROWS).shape == (4, 1)
    uri = log(answering("np.stack([x['area'] / 200, x['area'] / 200], 1)"), ROWS)
    with pytest.raises(InputError, match=r"2 outputs of a sample do not sum to 1 .off by 0.7"):
        load_explained(uri, "cpu", statistics=ROWS, outputs="probabilities")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("x['town'].tolist()", "returns 'Ulm', which is not a number; expected an array of numbers"),
        ("np.where(x['area'] > 50, '1', '0')", "returns '0', which is not a number"),
        ("np.full(len(x), np.nan)", r"returns \[nan\] for sample 0, expected finite numbers"),
        ("np.zeros((len(x), 2, 2))", r"returns shape \(4, 2, 2\) for 4 samples, expected \(4, k\)"),
        ("1.0", r"returns shape \(\) for 4 samples"),
        ("{'a': 1}", "returns dict; expected an array of numbers"),
        ("1 / 0", "the model failed on 4 samples: division by zero"),
    ],
)
def test_answers_that_are_none(log: Callable[..., str], expression: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_explained(log(answering(expression), ROWS), "cpu", statistics=ROWS)


def test_columns_that_no_table_has(log: Callable[..., str]) -> None:
    dates = pd.DataFrame({"when": pd.to_datetime(["2020-01-01", "2020-01-02"])})
    with pytest.raises(InputError, match="column 'when' is of type datetime; a table that can be explained has"):
        load_explained(log(answering("x"), dates), "cpu", statistics=ROWS)


def test_code_that_fails_when_it_is_loaded(log: Callable[..., str], tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    source = f"import pathlib\nif not pathlib.Path({str(flag)!r}).exists():\n    import no_such_package\n"
    uri = log(source + textwrap.dedent(answering("x['area']")), ROWS)
    flag.unlink()
    with pytest.raises(InputError, match="no_such_package"):
        load_explained(uri, "cpu", statistics=ROWS)
