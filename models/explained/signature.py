"""What a model takes, from its MLflow signature and the background rows: a table, text, pictures or points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column
from conceptry.models.explained.tables import columns_of, read_background

_DTYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
}
_TENSORS = ("float64", "float32", "int64", "int32", "bool")


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model. dtypes: of the columns by name, empty where the model does not say; a
    dtype is "" where the model says the name alone. optional: names of columns that rows may lack.

    shape: of one sample where the model takes an array instead of columns: (k,), (channels, height, width) or
    (points, 3), with -1 for any size, and
    `tensor` its dtype. A single column of dtype str is text.
    """

    dtypes: tuple[tuple[str, str], ...] = ()
    shape: tuple[int, ...] = ()
    tensor: str = ""
    optional: frozenset[str] = frozenset()

    @property
    def is_text(self) -> bool:
        return len(self.dtypes) == 1 and self.dtypes[0][1] == "str"

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def is_points(self) -> bool:
        return len(self.shape) == 2


def inputs_of(schema: Any, name: str) -> Inputs:
    """The inputs that MLflow's input schema describes (None: not known). Raises InputError for what is no table."""
    if schema is None or not len(schema.inputs):
        return Inputs()
    if schema.is_tensor_spec():
        return _tensor_inputs(schema.inputs, name)
    dtypes = []
    for position, spec in enumerate(schema.inputs):
        kind = getattr(spec.type, "name", str(spec.type))
        if kind not in _DTYPES:
            raise InputError(
                f"{name}: column {spec.name or position + 1!r} is of type {kind}; "
                f"a table that can be explained has columns of {', '.join(_DTYPES)}"
            )
        dtypes.append((spec.name, _DTYPES[kind]))
    if all(column is None for column, _ in dtypes):
        if [dtype for _, dtype in dtypes] == ["str"]:
            return Inputs(dtypes=(("text", "str"),))
        kinds = {dtype for _, dtype in dtypes}
        if len(kinds) > 1 and kinds & {"str", "bool"}:
            raise InputError(f"{name}: takes unnamed columns of different types; log it with names of the columns")
        return array_inputs((len(dtypes),), kinds.pop() if len(kinds) == 1 else "float64", name)
    optional = frozenset(str(spec.name) for spec in schema.inputs if not spec.required)
    return Inputs(dtypes=tuple((str(column), dtype) for column, dtype in dtypes), optional=optional)


def _tensor_inputs(specs: Sequence[Any], name: str) -> Inputs:
    if len(specs) != 1:
        raise InputError(f"{name}: takes {len(specs)} arrays at once; a model that can be explained takes one")
    shape, dtype = tuple(specs[0].shape)[1:], np.dtype(specs[0].type)
    if dtype.kind in "USO" and not shape:
        return Inputs(dtypes=(("text", "str"),))
    return array_inputs(shape, dtype.name, name)


def array_inputs(shape: Sequence[Any], dtype: str, name: str) -> Inputs:
    """The inputs of a model that takes an array (batch, *shape); InputError unless a table, pictures or points."""
    known = all(isinstance(size, int) and size > 0 for size in shape)
    image = len(shape) == 3 and shape[0] in (1, 3) and dtype == "float32"
    cloud = len(shape) == 2 and shape[1] == 3 and dtype == "float32"
    if dtype not in _TENSORS or not (image or cloud or (len(shape) == 1 and known)):
        raise InputError(
            f"{name}: takes an array of shape (batch, {', '.join(map(str, shape))}) and type {dtype}; expected a table "
            "(batch, columns), or pictures (batch, 1 or 3, height, width) or points (batch, points, 3) as float32"
        )
    return Inputs(shape=tuple(size if isinstance(size, int) else -1 for size in shape), tensor=dtype)


def table_columns(
    inputs: Inputs, statistics: str | Path | pd.DataFrame | None, name: str
) -> tuple[tuple[Column, ...], pd.DataFrame]:
    """The columns of a table with their statistics, and background rows without gaps (in those columns' order).

    `gaps` says where the background has some; `with_gaps` asks the model whether it takes them. Optional columns that
    the background lacks are left out. Where every row has a gap, the rows are filled with medians
    and modes.
    """
    if statistics is None:
        takes = f" of the columns {', '.join(column for column, _ in inputs.dtypes)}" if inputs.dtypes else ""
        raise InputError(
            f"{name}: explains rows of a table, whose baseline needs statistics: expected a CSV file of background "
            f"rows{takes}, such as the training data (an example row that was logged with a model is no background)"
        )
    frame = read_background(statistics, dict(inputs.dtypes))
    dtypes = {name: dtype for name, dtype in inputs.dtypes if name in frame.columns or name not in inputs.optional}
    if inputs.shape:
        (k,) = inputs.shape
        numbered = [f"x{i + 1}" for i in range(k)]
        names = numbered if set(numbered) <= set(frame.columns) else [str(column) for column in frame.columns]
        if len(names) != k:
            raise InputError(
                f"{name}: takes {k} unnamed columns, the background rows have {len(names)} ({', '.join(names[:12])}); "
                f"expected these {k} alone, in the model's order, or columns x1 to x{k}"
            )
        dtypes = dict.fromkeys(names, inputs.tensor)
    columns = columns_of(frame, dtypes or None)
    rows = frame.loc[:, [column.name for column in columns]]
    columns = tuple(replace(column, gaps=bool(rows[column.name].isna().any())) for column in columns)
    whole = rows.dropna()
    if len(whole):
        return columns, whole
    filled = {c.name: c.mode if c.kind == "categorical" or c.dtype.startswith("int") else c.median for c in columns}
    return columns, rows.fillna(filled)


Ask = Callable[[pd.DataFrame], Any]


def with_gaps(
    columns: Sequence[Column], rows: pd.DataFrame, ask_of: Callable[[tuple[Column, ...]], Ask], *, every: bool
) -> tuple[Column, ...]:
    """The columns, with `gaps` where the model answers rows in which the cell is empty.

    rows: without gaps. ask_of: makes the model of such columns. every: also try columns that have no gap in the
    background, of models that refuse what they do not take.
    """
    tried = [c.name for c in columns if c.dtype != "bool" and (every or c.gaps)]

    def taken(names: Sequence[str]) -> bool:
        place = {name: row for row, name in enumerate(names)}  # the row in which the cell is empty
        some = tuple(replace(column, gaps=column.name in place) for column in columns)
        first = rows.head(1).astype(dict.fromkeys(names, object))
        empty = first.loc[first.index.repeat(len(names))].reset_index(drop=True)
        for name, row in place.items():
            cells = empty[name].to_numpy(copy=True)
            cells[row] = None
            empty[name] = pd.Series(cells, dtype=object)
        try:
            ask_of(some)(empty)
        except InputError:
            return False
        return True

    found = set(tried) if not tried or taken(tried) else {name for name in tried if taken([name])}
    return tuple(replace(column, gaps=column.name in found) for column in columns)


def refuse_statistics(statistics: Any, name: str, what: str) -> None:
    """Raise InputError where background rows were given to a model that has no use for them."""
    if statistics is not None:
        raise InputError(f"{name}: takes {what}, for which statistics of a table mean nothing; leave them out")


def whole_baselines(columns: Sequence[Column]) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Columns whose means and medians a model with an enforced schema can take, and the note that says what was done.

    MLflow refuses fractions in columns of whole numbers, so mean and median are rounded there.
    """
    whole = [column.name for column in columns if column.dtype.startswith("int")]
    rounded = tuple(
        replace(column, mean=float(np.rint(column.mean)), median=float(np.rint(column.median)))
        if column.name in whole and column.mean is not None and column.median is not None
        else column
        for column in columns
    )
    note = f"mean and median are rounded in columns where the model takes whole numbers alone: {', '.join(whole)}"
    return rounded, (note,) if whole else ()
