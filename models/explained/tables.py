"""The columns of a table: their statistics, the check of one row, and frames of the types that a model wants.

| dtype | kind | takes |
|---|---|---|
| float64, float32 | numeric | finite numbers that the type holds |
| int64, int32 | numeric | whole numbers, exactly |
| bool | categorical | True and False |
| str | categorical | the categories that the background rows hold, and others where the model takes them |
| category | categorical | the categories of the background rows alone, as pandas' type of that name |

An empty cell is a value where the column has `gaps`.
"""

import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError, closest
from conceptry.models.explained.protocol import Column

_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
_LISTED = 12  # categories that an error lists
_FLOAT32 = float(np.finfo(np.float32).max)
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_EXACT = 2**53  # above it float64 leaves whole numbers out


def read_background(statistics: str | Path | pd.DataFrame, dtypes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Background rows from a CSV file with a header, see `read_cells`, or a copy of a frame."""
    if isinstance(statistics, pd.DataFrame):
        frame = statistics.reset_index(drop=True)
    else:
        path = Path(statistics)
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected a CSV file of background rows, such as the training data")
        try:
            frame = read_cells(path, dtypes or {})
        except (ValueError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a CSV file of background rows ({reason_of(error)})") from None
    if len(frame) < 2:
        raise InputError(f"a background of {len(frame)} rows says nothing of the columns; expected at least 2 rows")
    names = [str(name) for name in frame.columns]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two columns are called {repeated[0]!r} in the background rows; expected distinct names")
    return frame.set_axis(names, axis=1)


def read_cells(path: Path, dtypes: Mapping[str, str]) -> pd.DataFrame:
    """The cells of a CSV file with a header, as the columns of `dtypes` want them, others as pandas reads them.

    Text stays what it is: 01234, 1.10 and true in a column of text are no numbers, and NA and None are words; only a
    cell without anything is empty. Whole numbers beside empty cells stay exact. Raises what pandas does.
    """
    frame, written = pd.read_csv(path), pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in frame.columns:
        cells, kind = pd.Series(written[name]), dtypes.get(str(name), "") or _dtype_of(pd.Series(frame[name]))
        if kind in ("str", "category"):
            frame[name] = cells.astype(object).where(cells != "", None)
        elif frame[name].dtype == np.float64 and all(map(_WHOLE.fullmatch, cells[frame[name].notna()])):
            frame[name] = cells.where(frame[name].notna(), None).astype("Int64")
    return frame


def columns_of(frame: pd.DataFrame, dtypes: Mapping[str, str] | None = None) -> tuple[Column, ...]:
    """The columns `dtypes` names, or all of `frame`, with the statistics of their values; empty cells are left out.

    dtypes: what the model wants, by column (default, and where it is "": the
    frame's own types, text where they are none of the table's).
    std is the population's. The mode is the smallest of the most frequent values.
    Raises InputError for a column that is missing, empty, or holds dates or other values than its type.
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
    is not finite, not whole where it has to be or not one that the type holds, and a category that no background row
    has. An empty cell is NaN, or None of text, where the column has gaps.
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
    typed, names = _floats(rows, columns), tuple(column.name for column in columns)
    if len(typed) == len(names) and tuple(rows.columns) == names:
        return rows.copy()
    for column in columns:
        if column.name in typed:
            continue
        if column.name not in rows.columns:
            raise InputError(f"column {column.name!r} is missing; the model takes {_listed([c.name for c in columns])}")
        try:
            typed[column.name] = _typed(pd.Series(rows[column.name]), column, fractions)
        except InputError:
            raise
        except (ValueError, TypeError) as error:
            raise InputError(f"column {column.name!r}: {reason_of(error)}") from None
    return pd.DataFrame({name: typed[name] for name in names}, index=rows.index)


def _floats(rows: pd.DataFrame, columns: Sequence[Column]) -> dict[str, Any]:
    """The columns that have the type of the model already, float64 without gaps: at once, for tables can be wide."""
    if not rows.columns.is_unique:
        return {}
    dtypes = dict(zip(rows.columns, rows.dtypes, strict=True))
    names = [
        column.name
        for column in columns
        if column.dtype == "float64" and column.kind == "numeric" and dtypes.get(column.name) == np.float64
    ]
    values = (rows if names == list(dtypes) else rows[names]).to_numpy()
    gaps: Any = np.isnan(values).any(axis=0)
    return {name: values[:, k] for k, name in enumerate(names) if not gaps[k]}


def with_unseen(row: Mapping[str, Any], columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns, those of text with the category of `row` added where no background row has it."""
    return tuple(
        replace(column, categories=(*column.categories, text))
        if column.dtype == "str" and isinstance(text := row.get(column.name), str) and text not in column.categories
        else column
        for column in columns
    )


def columns_to_json(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Columns as JSON values; `columns_from_json` gives equal ones back."""
    return [
        {name: value for name, value in asdict(column).items() if name != "gaps" or value}  # files of old lack it
        for column in columns
    ]


def columns_from_json(values: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    return tuple(Column(**{**value, "categories": tuple(value["categories"])}) for value in values)


def _dtype_of(series: pd.Series) -> str:
    for dtype, test in (
        ("category", lambda series: isinstance(series.dtype, pd.CategoricalDtype)),
        ("bool", pd.api.types.is_bool_dtype),
        ("int64", pd.api.types.is_integer_dtype),
        ("float64", pd.api.types.is_float_dtype),
    ):
        if test(series):
            return dtype
    return "str"


_TIMES = ("datetime64", "datetime", "date", "timedelta64", "timedelta", "time", "period", "interval")


def _column(name: str, series: pd.Series, dtype: str) -> Column:
    values = series.dropna()
    if values.empty:
        raise InputError(f"column {name!r} of the background rows is empty; expected values to take a baseline from")
    if (kind := pd.api.types.infer_dtype(values)) in _TIMES:
        raise InputError(
            f"column {name!r} of the background rows holds dates or times ({kind}); a table that can be explained has "
            "columns of numbers, truth values and text, so give the model numbers, such as days since a date"
        )
    dtype = dtype or _dtype_of(series)
    if dtype in ("str", "category"):
        return _categorical(name, values, dtype)
    if dtype == "bool":
        truth = _as_truth(values, name)
        return Column(name, "categorical", categories=(False, True), mode=bool(truth.mean() > 0.5), dtype=dtype)
    return _numeric(name, values, dtype)


def _categorical(name: str, values: pd.Series, dtype: str) -> Column:
    if dtype == "category" and isinstance(values.dtype, pd.CategoricalDtype):
        # All of the type's own, since boosters go by their places; as Python values, which JSON holds.
        categories = tuple(values.cat.categories.tolist())
        mode = categories[int(values.cat.codes.value_counts().sort_index().idxmax())]
    else:
        text = values.astype(str)
        categories, mode = tuple(sorted(text.unique())), str(text.mode().iloc[0])
    return Column(name, "categorical", categories=categories, mode=mode, dtype=dtype)


def _numeric(name: str, values: pd.Series, dtype: str) -> Column:
    parsed = pd.to_numeric(values, errors="coerce")
    numeric = np.asarray(parsed, np.float64)
    if not np.isfinite(numeric).all():
        bad = values.iloc[int(np.flatnonzero(~np.isfinite(numeric))[0])]
        raise InputError(f"column {name!r} of the background rows holds {bad}; expected finite numbers")
    if dtype == "float32" and (beyond := np.abs(numeric) > _FLOAT32).any():
        raise InputError(
            f"column {name!r} of the background rows holds {numeric[beyond][0]:g}, which is beyond float32, the type "
            "that the model takes here"
        )
    whole = dtype.startswith("int")
    if whole and (numeric != np.rint(numeric)).any():
        bad = numeric[numeric != np.rint(numeric)][0]
        raise InputError(f"column {name!r} of the background rows holds {bad}; the model takes whole numbers here")
    exact = np.asarray(parsed, np.int64) if whole and pd.api.types.is_integer_dtype(parsed) else numeric
    distinct, counts = np.unique(exact, return_counts=True)
    mode = distinct[counts.argmax()]
    return Column(
        name,
        "numeric",
        mean=float(numeric.mean()),
        median=_median(exact),
        std=float(numeric.std()),
        minimum=float(numeric.min()),
        maximum=float(numeric.max()),
        mode=int(mode) if whole else float(mode),
        dtype=dtype,
    )


def _median(values: np.ndarray) -> float:
    """The median; of whole numbers that float64 does not hold, the lower one of the two in the middle."""
    median = float(np.median(values))
    return int(np.sort(values)[(len(values) - 1) // 2]) if values.dtype == np.int64 and abs(median) > _EXACT else median


def _as_truth(values: pd.Series, name: str) -> pd.Series:
    truth = values.astype(str).str.lower().map(_TRUTH)
    if truth.isna().any():
        raise InputError(
            f"column {name!r} holds {values.iloc[int(truth.isna().to_numpy().argmax())]!r}; expected True or False"
        )
    return truth.astype(bool)


def _is_gap(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value))


def _checked(value: Any, column: Column) -> Any:
    if _is_gap(value):
        if column.gaps:
            return None if column.kind == "categorical" else math.nan
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
    if column.dtype.startswith("int"):
        limit, whole = np.iinfo(column.dtype), isinstance(value, numbers.Integral) or number.is_integer()
        # A whole number would change above 2^53 by way of a float.
        exact = int(value) if isinstance(value, numbers.Integral) else int(number) if whole else 0
        if not whole or not limit.min <= exact <= limit.max:
            raise InputError(f"column {column.name!r}: {number} is not a whole number of type {column.dtype}")
        return exact
    if column.dtype == "float32" and abs(number) > _FLOAT32:
        raise InputError(f"column {column.name!r}: {number:g} is beyond float32, the type that the model takes here")
    if isinstance(value, numbers.Integral) and int(number) != int(value):
        raise InputError(
            f"column {column.name!r}: {int(value)} is beyond 2^53 and would become {number:.0f}, since the column is "
            "of type float64; log the model with whole numbers (int64) in this column"
        )
    return number


def _category(value: Any, column: Column) -> Any:
    if column.dtype == "bool":
        if isinstance(value, numbers.Real | np.bool_) and value in (0, 1):
            return bool(value)
        raise InputError(f"column {column.name!r}: {value!r} is neither true nor false")
    # A table of another type turns a category 3 into 3.0.
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    for category in column.categories:
        if text == str(category):
            return category
    names = [str(category) for category in column.categories]
    near = closest(text, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"column {column.name!r}: unknown category {value!r}; the background rows have "
        f"{_listed([repr(category) for category in column.categories])}{hint}"
    )


def _typed(series: pd.Series, column: Column, fractions: bool) -> Any:
    if column.dtype == "bool":
        return series.to_numpy() if series.dtype == np.bool_ else _as_truth(series, column.name).to_numpy()
    gaps = series.isna().to_numpy()
    if gaps.any() and not column.gaps:
        raise InputError(f"column {column.name!r} is empty; expected a value in every column")
    if column.dtype == "category":
        values = pd.Categorical(series.astype(object), categories=pd.Index(column.categories))
        if (unknown := pd.isna(values) & ~gaps).any():
            raise InputError(f"column {column.name!r}: unknown category {series.tolist()[unknown.argmax()]!r}")
        return values
    if column.kind == "categorical":
        text = series.astype(str)
        return text.astype(object).where(~gaps, np.nan) if gaps.any() else text
    values = series.to_numpy(np.float64, na_value=np.nan)
    if column.dtype == "float32" and (beyond := np.abs(values) > _FLOAT32).any():
        raise InputError(f"column {column.name!r}: {values[beyond][0]:g} is beyond float32")
    if not column.dtype.startswith("int"):
        return values.astype(column.dtype)
    if gaps.any():  # as pandas has whole numbers beside empty cells
        return values
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
