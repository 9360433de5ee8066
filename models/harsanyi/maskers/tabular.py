"""Players of a table: the columns of one row, or groups of them.

An absent column takes its baseline value: a mean, a median, a mode, or that of another row.

| symbol | meaning | shape |
|---|---|---|
| row, baseline | values by column name | (columns,) |
| owner | player of each column, BACKGROUND for those always present | (columns,) |
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column
from conceptry.models.explained.tables import check_row
from conceptry.models.harsanyi.maskers.base import check_players, index_of, owners, partition, presence

BASELINES = ("mean", "median", "mode")


class TabularMasker:
    """The row of a table, where any subset of columns, or of groups of columns, can be at the baseline.

    Args:
        row: value by column name, one for every column.
        columns: of the explained model.
        baseline: as the row; `tabular_baseline` makes one. Columns of whole numbers may have a fraction here.
        groups: column names by the name of the player that they form together; other columns are a player each.
        background: columns that keep the value of the row in every subset.

    Attributes:
        players: names of the n players, by their first column.
        owner: (columns,) int64, the player of each column, BACKGROUND for none.

    Raises InputError, naming the column, for a value that is missing, NaN, of the wrong type or no known category, for
    a name that is no column, and for a column in two groups.
    """

    def __init__(
        self,
        row: Mapping[str, Any],
        columns: Sequence[Column],
        baseline: Mapping[str, Any],
        groups: Mapping[str, Sequence[str]] | None = None,
        background: Sequence[str] = (),
    ):
        places = {column.name: place for place, column in enumerate(columns)}
        grouped = {name: _places(group, places, f"group {name!r}") for name, group in (groups or {}).items()}
        members = partition(list(places), grouped.values(), _places(background, places, "background"))
        self.owner = owners(members, len(columns))
        name_of = {k: name for name, k in places.items()} | {
            min(group): name for name, group in grouped.items() if group
        }
        self.players = check_players(name_of[items[0]] for items in members)
        present = _checked(row, columns, places, "row")
        absent = _checked(baseline, [_with_fractions(column, baseline) for column in columns], places, "baseline")
        # Two rows, absent and present: whatever is taken from them has their dtype.
        self._values: pd.DataFrame | dict[str, Any]
        if all(column.dtype == "float64" for column in columns):  # in one array, for tables can be wide
            values = np.array([[part[name] for name in places] for part in (absent, present)], np.float64)
            self._values = pd.DataFrame(values, columns=index_of(tuple(places)))
        else:
            self._values = {c.name: _pair(c, absent[c.name], present[c.name]) for c in columns}

    def masked(self, masks: np.ndarray) -> pd.DataFrame:
        """One row of the table for each row of `masks` (batch, n) bool.

        Columns have the dtype that the model wants; one of whole numbers is float64 where its baseline has a fraction.
        """
        chosen = presence(masks, self.owner).astype(np.intp)
        if isinstance(self._values, pd.DataFrame):
            values = self._values.to_numpy()
            return pd.DataFrame(np.where(chosen, values[1], values[0]), columns=self._values.columns)
        return pd.DataFrame({name: pair.take(chosen[:, k]) for k, (name, pair) in enumerate(self._values.items())})


def tabular_baseline(columns: Sequence[Column], kind: str = "mean") -> dict[str, Any]:
    """Mean, median or mode of each numeric column, the mode of each categorical one. Else InputError."""
    if kind not in BASELINES:
        raise InputError(f"baseline is {kind!r}; expected one of {', '.join(BASELINES)}")
    baseline = {c.name: c.mode if c.kind == "categorical" else getattr(c, kind) for c in columns}
    for name, value in baseline.items():
        if value is None:
            raise InputError(f"column {name!r} has no {kind}; give a row as the baseline")
    return baseline


def _checked(row: Mapping[str, Any], columns: Sequence[Column], places: Mapping[str, int], what: str) -> dict[str, Any]:
    _places(row, places, what)
    try:
        return check_row(row, columns)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


def _places(names: Sequence[str] | Mapping[str, Any], places: Mapping[str, int], where: str) -> list[int]:
    for name in names:
        if name not in places:
            raise InputError(f"{where}: there is no column {name!r}; expected columns among {', '.join(places)}")
    return [places[name] for name in names]


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float) and not value.is_integer()  # NaN is none


def _with_fractions(column: Column, baseline: Mapping[str, Any]) -> Column:
    """The column as a baseline has it: one of whole numbers may hold a fraction there."""
    fraction = column.dtype.startswith("int") and _is_fraction(baseline.get(column.name))
    return replace(column, dtype="float64") if fraction else column


def _pair(column: Column, absent: Any, present: Any) -> Any:
    """The two values of a column, absent and present, in the type that the model wants."""
    if column.dtype in ("str", "category"):
        return pd.Series([absent, present], dtype=object if column.gaps else None).array
    if not column.dtype.startswith("int") or not (_is_fraction(absent) or math.isnan(present)):
        return pd.Series([absent, present], dtype=np.dtype(column.dtype)).array
    if isinstance(present, int) and int(float(present)) != present:
        raise InputError(
            f"column {column.name!r}: {present} is beyond 2^53, and cannot be held beside the fraction {absent:g} of "
            "the baseline; choose a baseline of whole numbers, such as the mode"
        )
    return pd.Series([float(absent), float(present)]).array
