"""The callable that other engines take."""

import pickle

import pandas as pd
import pytest
from PIL import Image

from conceptry.batch import predictor
from conceptry.evaluation.batch.predictor import Predictor, read_cell
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from conceptry.registry import load

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(scope="module")
def ask(tiny_version) -> Predictor:
    return predictor("tiny/1", {"top_k": 2}, rows=2)


@pytest.fixture(scope="module")
def table(picture: Image.Image) -> pd.DataFrame:
    pictures = [png_bytes(picture), b"no picture", png_bytes(picture.rotate(90))]
    return pd.DataFrame({"image": pictures, "place": ["a", "b", "c"]}, index=[7, 8, 9])


def test_a_table_in_and_a_table_out(ask: Predictor, table: pd.DataFrame, tiny_version) -> None:
    answers = pickle.loads(pickle.dumps(ask))(table)
    assert list(answers) == ["place", "concepts", "l0", "cosine", "gap", "error", "version", "fingerprint"]
    assert list(answers.index) == [7, 8, 9]
    assert answers["error"].isna().tolist() == [True, False, True]
    assert set(answers["version"]) == {"tiny/1"}
    expected = load(tiny_version.uri).predict(table.loc[[7, 9], ["image"]], params={"top_k": 2})
    assert [[c["concept"] for c in each] for each in answers.loc[[7, 9], "concepts"]] == [
        [c["concept"] for c in each] for each in expected["concepts"]
    ]
    assert list(ask.meta(table)) == list(answers)


def test_dask_maps_it_over_partitions(ask: Predictor) -> None:
    dask = pytest.importorskip("dask.dataframe")
    table = pd.DataFrame({"text": ["a dog", "a red car", " "], "place": [1, 2, 3]})
    frame = dask.from_pandas(table, npartitions=2)
    answers = frame.map_partitions(ask, meta=ask.meta(table)).compute(scheduler="threads")
    pd.testing.assert_frame_equal(answers[["l0", "error"]], ask(table)[["l0", "error"]], check_dtype=False)


def test_what_is_refused(tiny_version) -> None:
    with pytest.raises(InputError, match="has no parameter 'topk'"):
        predictor("tiny/1", {"topk": 2})
    with pytest.raises(InputError, match="no such version"):
        predictor("tiny/77")
    with pytest.raises(InputError, match="rows must be at least 1, got 0"):
        predictor("tiny/1", rows=0)


@pytest.mark.parametrize(
    ("text", "dtype", "cell"),
    [
        ("01", "str", "01"), ("NA", "category", "NA"), ("", "str", None), ("01", "int64", 1), ("NA", "float64", None),
        ("1e3", "float64", 1000.0), ("True", "bool", True), ("9007199254740993", "int64", 9007199254740993),
        ("old", "float64", "old"), ("1_0", "int64", "1_0"),
    ],
)  # fmt: skip
def test_cells_of_a_csv_file(text: str, dtype: str, cell: object) -> None:
    assert read_cell(text, dtype) == cell
    assert type(read_cell(text, dtype)) is type(cell)
