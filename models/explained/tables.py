"""The columns of a table: their statistics, the check of one row, and frames of the types that a model wants.

| dtype | kind | takes |
|---|---|---|
| float64, float32 | numeric | finite numbers |
| int64, int32 | numeric | whole numbers |
| bool | categorical | True and False |
| str | categorical | the categories that the background rows hold |
"""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError, closest
from conceptry.models.explained.protocol import Column

_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
_LISTED = 12  # categories that an error lists


def read_background(statistics: str | Path | pd.DataFrame, dtypes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Background rows from a CSV file with a header, or a copy of a frame; cells of "str" columns are kept as text."""
    if isinstance(statistics, pd.DataFrame):
        frame = statistics.reset_index(drop=True)
    else:
        path = Path(statistics)
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected a CSV file of background rows, such as the training data")
        text = {name: str for name, dtype in (dtypes or {}).items() if dtype == "str"}
        try:
            frame = pd.read_csv(path, dtype=text)  # type: ignore[arg-type]  # pandas' stubs want a defaultdict
        except (ValueError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a CSV file of background rows ({reason_of(error)})") from None
    if len(frame) < 2:
        raise InputError(f"a background of {len(frame)} rows says nothing of the columns; expected at least 2 rows")
    names = [str(name) for name in frame.columns]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two columns are called {repeated[0]!r} in the background rows; expected distinct names")
    return frame.set_axis(names, axis=1)


def columns_of(frame: pd.DataFrame, dtypes: Mapping[str, str] | None = None) -> tuple[Column, ...]:
    """The columns `dtypes` names, or all of `frame`, with the statistics of their values; empty cells are left out.

    dtypes: what the model wants, by column (default, and where it is "": the
    frame's own types, text where they are none of the table's).
    std is the population's. The mode is the smallest of the most frequent values.
    Raises InputError for a column that is missing, empty, or holds other values than its type.
    """
    wanted = dtypes or dict.fromkeys(map(str, frame.columns), "")
    if missing := [name for name in wanted if name not in frame.columns]:
        raise InputError(
            f"the background rows lack the column {missing[0]!r}; the model takes {_listed(list(wanted))}, "
            f"the rows have {_listed([str(name) for name in frame.columns])}"
        )
    return tuple(_column(name, pd.Series(frame[name]), dtype) for name, dtype in wanted.items())


def check_row(row: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """One sample by column name, as Python values of the columns' types; other keys of `row` are left out.

    Raises InputError that names the column for a missing or empty cell, text where a number is wanted, a number that
    is not finite or not whole where it has to be, and a category that no background row has.
    """
    for column in columns:
        if column.name not in row:
            raise InputError(
                f"column {column.name!r} is missing; expected the columns {_listed([c.name for c in columns])}"
            )
    return {column.name: _checked(row[column.name], column) for column in columns}


def typed_frame(rows: pd.DataFrame, columns: Sequence[Column], *, fractions: bool = False) -> pd.DataFrame:
    """The columns of `rows` in the model's order and types, for any number of rows at once.

    fractions: whether a numeric column of whole numbers may hold others, as the mean of a baseline does; it is passed
    on as float64 then, else refused by InputError.
    """
    typed = {}
    for column in columns:
        if column.name not in rows.columns:
            raise InputError(f"column {column.name!r} is missing; the model takes {_listed([c.name for c in columns])}")
        try:
            typed[column.name] = _typed(pd.Series(rows[column.name]), column, fractions)
        except (ValueError, TypeError) as error:
            raise InputError(f"column {column.name!r}: {reason_of(error)}") from None
    return pd.DataFrame(typed, index=rows.index)


def columns_to_json(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Columns as JSON values; `columns_from_json` gives equal ones back."""
    return [asdict(column) for column in columns]


def columns_from_json(values: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    return tuple(Column(**{**value, "categories": tuple(value["categories"])}) for value in values)


def _dtype_of(series: pd.Series) -> str:
    for dtype, test in (
        ("bool", pd.api.types.is_bool_dtype),
        ("int64", pd.api.types.is_integer_dtype),
        ("float64", pd.api.types.is_float_dtype),
    ):
        if test(series):
            return dtype
    return "str"


def _column(name: str, series: pd.Series, dtype: str) -> Column:
    dtype = dtype or _dtype_of(series)
    values = series.dropna()
    if values.empty:
        raise InputError(f"column {name!r} of the background rows is empty; expected values to take a baseline from")
    if dtype == "str":
        text = values.astype(str)
        return Column(
            name, "categorical", categories=tuple(sorted(text.unique())), mode=str(text.mode().iloc[0]), dtype=dtype
        )
    if dtype == "bool":
        truth = _as_truth(values, name)
        return Column(name, "categorical", categories=(False, True), mode=bool(truth.mean() > 0.5), dtype=dtype)
    numeric = np.asarray(pd.to_numeric(values, errors="coerce"), np.float64)
    if not np.isfinite(numeric).all():
        bad = values.iloc[int(np.flatnonzero(~np.isfinite(numeric))[0])]
        raise InputError(f"column {name!r} of the background rows holds {bad}; expected finite numbers")
    whole = dtype.startswith("int")
    if whole and (numeric != np.rint(numeric)).any():
        bad = numeric[numeric != np.rint(numeric)][0]
        raise InputError(f"column {name!r} of the background rows holds {bad}; the model takes whole numbers here")
    distinct, counts = np.unique(numeric, return_counts=True)
    mode = float(distinct[counts.argmax()])
    return Column(
        name,
        "numeric",
        mean=float(numeric.mean()),
        median=float(np.median(numeric)),
        std=float(numeric.std()),
        minimum=float(numeric.min()),
        maximum=float(numeric.max()),
        mode=int(mode) if whole else mode,
        dtype=dtype,
    )


def _as_truth(values: pd.Series, name: str) -> pd.Series:
    truth = values.astype(str).str.lower().map(_TRUTH)
    if truth.isna().any():
        raise InputError(
            f"column {name!r} holds {values.iloc[int(truth.isna().to_numpy().argmax())]!r}; expected True or False"
        )
    return truth.astype(bool)


def _checked(value: Any, column: Column) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value)):
        raise InputError(f"column {column.name!r} is empty; expected a value in every column")
    if column.kind == "categorical":
        return _category(value, column)
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise InputError(f"column {column.name!r}: {value!r} is not a number")
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"column {column.name!r}: {number} is not finite")
    if not column.dtype.startswith("int"):
        return number
    limit = np.iinfo(column.dtype)
    if not number.is_integer() or not limit.min <= number <= limit.max:
        raise InputError(f"column {column.name!r}: {number} is not a whole number of type {column.dtype}")
    return int(number)


def _category(value: Any, column: Column) -> Any:
    if column.dtype == "bool":
        if isinstance(value, numbers.Real | np.bool_) and value in (0, 1):
            return bool(value)
        raise InputError(f"column {column.name!r}: {value!r} is neither true nor false")
    # A table of another type turns a category 3 into 3.0.
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if text in column.categories:
        return text
    near = closest(text, column.categories, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"column {column.name!r}: unknown category {value!r}; the background rows have "
        f"{_listed([repr(category) for category in column.categories])}{hint}"
    )


def _typed(series: pd.Series, column: Column, fractions: bool) -> Any:
    if column.dtype == "bool":
        return series.to_numpy() if series.dtype == np.bool_ else _as_truth(series, column.name).to_numpy()
    if column.kind == "categorical":
        return series.astype(str)
    values = series.to_numpy(np.float64)
    if not column.dtype.startswith("int"):
        return values.astype(column.dtype)
    if (fractional := values != np.rint(values)).any():
        if fractions:
            return values
        raise InputError(
            f"column {column.name!r} takes whole numbers ({column.dtype}), got {values[fractional][0]}; "
            "choose a baseline of whole numbers, such as the mode"
        )
    return series.to_numpy(column.dtype)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def reason_of(error: Exception) -> str:
    """An exception of other people's code in one line; MLflow puts the reason behind the data that it was given."""
    text = str(error).rpartition(" Error: ")[2].strip() or type(error).__name__
    return text.splitlines()[0]
