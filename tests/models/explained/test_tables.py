"""Statistics of columns against literal formulas; rows and frames that do not fit are refused by column."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.explained.tables import (
    check_row,
    columns_from_json,
    columns_of,
    columns_to_json,
    read_background,
    typed_frame,
)

FRAME = pd.DataFrame(
    {
        "income": [1.5, 2.5, np.nan, 8.0],
        "children": [0, 2, 2, 1],
        "town": ["Ulm", "Bonn", "Bonn", None],
        "owner": [True, False, True, True],
    }
)
COLUMNS = columns_of(FRAME)
ROW = {"income": 2.0, "children": 3, "town": "Ulm", "owner": True}


def test_statistics_of_each_kind() -> None:
    income, children, town, owner = COLUMNS
    assert (income.kind, income.dtype, income.mean, income.median) == ("numeric", "float64", 4.0, 2.5)
    assert income.std == pytest.approx(math.sqrt((2.5**2 + 1.5**2 + 4**2) / 3))
    assert (income.minimum, income.maximum) == (1.5, 8.0)
    assert (children.dtype, children.mean, children.mode) == ("int64", 1.25, 2)
    assert (town.kind, town.categories, town.mode, town.mean) == ("categorical", ("Bonn", "Ulm"), "Bonn", None)
    assert (owner.kind, owner.dtype, owner.categories, owner.mode) == ("categorical", "bool", (False, True), True)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30))
def test_the_mode_is_the_smallest_of_the_most_frequent(values: list[int]) -> None:
    (column,) = columns_of(pd.DataFrame({"x": values}))
    most = max(values.count(value) for value in values)
    assert column.mode == min(value for value in values if values.count(value) == most)
    assert column.mean == pytest.approx(sum(values) / len(values))


def test_json_gives_equal_columns_back() -> None:
    assert columns_from_json(json.loads(json.dumps(columns_to_json(COLUMNS)))) == COLUMNS


def test_the_types_that_a_model_wants_go_before_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("zip,open,extra\n01234,0,7\n99999,1,8\n")
    dtypes = {"zip": "str", "open": "bool"}
    zips, opened = columns_of(read_background(path, dtypes), dtypes)
    assert zips.categories == ("01234", "99999")
    assert opened.categories == (False, True)


@pytest.mark.parametrize(
    ("frame", "dtypes", "message"),
    [
        ({"a": [1, 2]}, {"b": "float64"}, "lack the column 'b'"),
        ({"a": [None, None]}, None, "'a' of the background rows is empty"),
        ({"a": ["x", "2"]}, {"a": "float64"}, "holds x; expected finite numbers"),
        ({"a": [1.0, math.inf]}, None, "holds inf"),
        ({"a": [1.0, 2.5]}, {"a": "int64"}, "holds 2.5; the model takes whole numbers"),
        ({"a": ["yes", "no"]}, {"a": "bool"}, "expected True or False"),
    ],
)
def test_backgrounds_that_do_not_fit(frame: dict, dtypes: dict | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        columns_of(pd.DataFrame(frame), dtypes)


def test_background_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; expected a CSV file of background rows"):
        read_background(tmp_path / "none.csv")
    (tmp_path / "one.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="a background of 1 rows"):
        read_background(tmp_path / "one.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="not a CSV file"):
        read_background(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="two columns are called 'a'"):
        read_background(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))


def test_a_row_in_the_columns_types() -> None:
    row = check_row({"owner": np.bool_(False), "town": "Ulm", "children": 3.0, "income": 2, "more": "x"}, COLUMNS)
    assert row == {"income": 2.0, "children": 3, "town": "Ulm", "owner": False}
    assert list(row) == ["income", "children", "town", "owner"]
    assert [type(value) for value in row.values()] == [float, int, str, bool]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"income": math.nan}, "'income' is empty"),
        ({"town": None}, "'town' is empty"),
        ({"income": "2.5"}, "'income': '2.5' is not a number"),
        ({"income": -math.inf}, "'income': -inf is not finite"),
        ({"children": 2.5}, "'children': 2.5 is not a whole number of type int64"),
        ({"children": 1e30}, "'children': 1e[+]30 is not a whole number"),
        (
            {"town": "Bon"},
            "'town': unknown category 'Bon'; the background rows have 'Bonn', 'Ulm'; did you mean 'Bonn'",
        ),
        ({"income": True}, "'income': True is not a number"),
        ({"income": 10**400}, "'income': inf is not finite"),
        ({"owner": "yes"}, "'owner': 'yes' is neither true nor false"),
        ({"income": [1.0]}, "is not a number"),
    ],
)
def test_rows_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_row(ROW | change, COLUMNS)


def test_a_missing_column() -> None:
    with pytest.raises(InputError, match="'town' is missing; expected the columns income, children, town, owner"):
        check_row({k: v for k, v in ROW.items() if k != "town"}, COLUMNS)


def test_categories_of_whole_numbers_are_found_whatever_their_type() -> None:
    columns = columns_of(pd.DataFrame({"code": ["3", "4"]}), {"code": "str"})
    assert [check_row({"code": value}, columns)["code"] for value in (3, 3.0, "3")] == ["3"] * 3


def test_frames_have_the_types_of_the_columns_in_their_order() -> None:
    rows = pd.DataFrame({"owner": [1, 0], "town": ["Ulm", "Bonn"], "children": [1.0, 2.0], "income": [1, 2]})
    typed = typed_frame(rows, COLUMNS)
    assert list(typed.columns) == ["income", "children", "town", "owner"]
    assert [str(typed[name].dtype) for name in ("income", "children", "owner")] == ["float64", "int64", "bool"]


def test_fractions_of_whole_columns_are_passed_on_only_where_allowed() -> None:
    rows = pd.DataFrame([ROW | {"children": 1.25}])
    assert typed_frame(rows, COLUMNS, fractions=True)["children"].tolist() == [1.25]
    with pytest.raises(InputError, match=r"'children' takes whole numbers .int64., got 1.25"):
        typed_frame(rows, COLUMNS)
    with pytest.raises(InputError, match="column 'income': could not convert"):
        typed_frame(pd.DataFrame([ROW | {"income": "x"}]), COLUMNS)
    with pytest.raises(InputError, match="'income' is missing"):
        typed_frame(rows.drop(columns="income"), COLUMNS)


def test_cells_of_a_file_are_read_as_their_columns_want_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        f"zip,flag,version,land,id,size\n01234,true,1.10,NA,{2**53 + 1},1.5\n"
        "02139,false,1.9,None,,NA\n,true,2.0,DE,7,2\n"
    )
    kinds = {"zip": "str", "flag": "str", "version": "str", "id": "int64", "size": "float64"}
    frame = read_background(path, kinds)
    assert frame["zip"].dropna().tolist() == ["01234", "02139"]
    assert frame["flag"].tolist() == ["true", "false", "true"]
    assert frame["version"].tolist() == ["1.10", "1.9", "2.0"]
    assert frame["land"].tolist() == ["NA", "None", "DE"]  # text, although nobody said so
    assert frame["id"].dropna().tolist() == [2**53 + 1, 7]
    assert frame["size"].isna().tolist() == [False, True, False]
    (land,) = columns_of(frame[["land"]])
    assert land.categories == ("DE", "NA", "None")


def test_numbers_that_a_type_does_not_hold_are_refused() -> None:
    exact = columns_of(pd.DataFrame({"id": np.arange(2**53, 2**53 + 5)}), {"id": "int64"})
    assert check_row({"id": 2**53 + 1}, exact) == {"id": 2**53 + 1}
    assert (exact[0].mode, exact[0].median) == (2**53, 2**53 + 2)
    assert typed_frame(pd.DataFrame({"id": [2**53 + 1]}), exact)["id"].tolist() == [2**53 + 1]
    small = columns_of(pd.DataFrame({"a": [1.0, 2.0]}), {"a": "float32"})
    for call in (lambda: check_row({"a": 1e300}, small), lambda: typed_frame(pd.DataFrame({"a": [1e300]}), small)):
        with pytest.raises(InputError, match="column 'a': 1e\\+300 is beyond float32"):
            call()
    with pytest.raises(InputError, match="'a' of the background rows holds 1e\\+300, which is beyond float32"):
        columns_of(pd.DataFrame({"a": [1.0, 1e300]}), {"a": "float32"})
    with pytest.raises(InputError, match="column 'a': 9007199254740993 is beyond 2\\^53 and would become"):
        check_row({"a": 2**53 + 1}, columns_of(pd.DataFrame({"a": [1.0, 2.0]})))


def test_dates_are_named() -> None:
    for dates in (pd.date_range("2020-01-01", periods=3), pd.to_timedelta([1, 2, 3], unit="D")):
        with pytest.raises(InputError, match="column 'when' of the background rows holds dates or times"):
            columns_of(pd.DataFrame({"when": dates}))
