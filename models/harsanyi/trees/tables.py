"""Samples and baselines, in whatever form users have them, as one table of an estimator's columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.harsanyi.maskers.base import index_of
from conceptry.models.harsanyi.trees.model import TreeModel, dense


def joint_table(sample: Any, baseline: Any, model: TreeModel) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The sample and, below it, the rows of the baseline, with the names of the columns to be shown.

    Tables are read by the names of the columns where these are the estimator's own; other tables by position, and their
    names are shown.

    Raises InputError where there is not one row of a sample, or no row of a baseline; for a column that is missing or
    unknown; where a column has categories in one of them that the other does not know.
    """
    columns = model.columns
    first, names = _rows("sample", sample, model)
    if len(first) != 1:
        raise InputError(f"the sample has {len(first)} rows; expected one")
    others, _ = _rows("baseline", baseline, model)
    if not len(others):
        raise InputError("the baseline has no row; expected one or more")
    if isinstance(first, np.ndarray) and isinstance(others, np.ndarray):
        return pd.DataFrame(np.concatenate([first, others]), columns=index_of(columns)).infer_objects(), names
    first, others = (
        part if isinstance(part, pd.DataFrame) else pd.DataFrame(part, columns=index_of(columns)).infer_objects()
        for part in (first, others)
    )
    joint = {}
    for name in columns:
        pair = _of_one_type(name, first[name], others[name])
        joint[name] = pd.concat(pair, ignore_index=True)
    return pd.DataFrame(joint), names


def _rows(what: str, given: Any, model: TreeModel) -> tuple[np.ndarray | pd.DataFrame, tuple[str, ...]]:
    """The rows in the order of the columns, and the names of these."""
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if isinstance(given, Mapping):
        given = pd.DataFrame([dict(given)])
    if isinstance(given, pd.DataFrame):
        return by_column(what, given, model)
    if isinstance(given, (list, tuple)) and given and isinstance(given[0], (Mapping, pd.Series)):
        return by_column(what, pd.DataFrame([dict(row) for row in given]), model)
    try:
        values: Any = dense(given)
        values = np.asarray(given, object) if values.dtype.kind in "US" else values
    except ValueError:  # rows of different lengths
        values = np.empty(0)
    if values.ndim == 1:
        values = values[None]
    columns = model.columns
    if values.ndim != 2 or values.shape[1] != len(columns):
        got = f"shape {values.shape}" if values.size else truncated_repr(given)
        raise InputError(f"the {what} is no row of {len(columns)} values, one for each column of the estimator: {got}")
    return values, tuple(columns)


def by_column(what: str, table: Any, model: TreeModel) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table with the estimator's columns in their order, and the names that these have in it; see `joint_table`."""
    names = tuple(map(str, table.columns))
    if len(set(names)) < len(names):
        raise InputError(f"the {what} has two columns of one name; expected different names")
    table = table.set_axis(list(names), axis=1)
    columns, written = model.columns, {model.written(name): name for name in names}
    if set(written) == set(columns) and len(written) == len(names):
        shown = tuple(written[name] for name in columns)
        return table[list(shown)].set_axis(list(columns), axis=1), shown
    if model.named:
        missing = [name for name in columns if name not in written]
        unknown = [name for name in names if model.written(name) not in columns]
        fault = f"has no column {missing[0]!r}" if missing else f"has a column {unknown[0]!r} that the estimator lacks"
        raise InputError(f"the {what} {fault}; expected the columns {truncated_repr(', '.join(columns), 200)}")
    if len(names) != len(columns):
        raise InputError(f"the {what} has {len(names)} columns; expected the {len(columns)} of the estimator")
    return table.set_axis(list(columns), axis=1), names


def _of_one_type(name: str, first: Any, others: Any) -> list[pd.Series]:
    """Both columns in the categories of the one that has some, for categories are what libraries number."""
    kinds = [column.dtype for column in (first, others) if isinstance(column.dtype, pd.CategoricalDtype)]
    if not kinds:
        return [first, others]
    if kinds[-1] != kinds[0]:
        raise InputError(f"column {name!r} has other categories in the baseline than in the sample; expected one type")
    return [_as_category(column, kinds[0]) for column in (first, others)]


def with_categories(table: pd.DataFrame, name: str, categories: Sequence[Any]) -> pd.DataFrame:
    """The table with one of its columns in given categories. Raises InputError for a value that is none of them."""
    return table.assign(**{name: _as_category(table[name], pd.CategoricalDtype(categories))})


def _as_category(column: Any, dtype: pd.CategoricalDtype) -> pd.Series:
    known = column.isna() | column.isin(dtype.categories)
    if not known.all():
        listed = truncated_repr(dtype.categories.tolist())
        raise InputError(
            f"column {column.name!r} has {column[~known].iloc[0]!r}; expected one of its categories {listed}"
        )
    return column.astype(dtype)
