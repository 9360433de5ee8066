"""Players of a table: the columns of one row, or groups of them.

An absent column takes its baseline value: a mean, a median, a mode, or that of another row.

| symbol | meaning | shape |
|---|---|---|
| row, baseline | values by column name | (columns,) |
| owner | player of each column, BACKGROUND for those always present | (columns,) |
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column
from conceptry.models.explained.tables import check_row
from conceptry.models.harsanyi.maskers.base import check_players, owners, partition, presence

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
        absent = _checked(baseline, [_with_fractions(column) for column in columns], places, "baseline")
        # Two rows, absent and present: whatever is taken from them has their dtype.
        self._values = {
            column.name: pd.Series([absent[column.name], present[column.name]], dtype=_dtype(column, absent)).array
            for column in columns
        }

    def masked(self, masks: np.ndarray) -> pd.DataFrame:
        """One row of the table for each row of `masks` (batch, n) bool.

        Columns have the dtype that the model wants; one of whole numbers is float64 where its baseline has a fraction.
        """
        chosen = presence(masks, self.owner).astype(np.intp)
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


def _with_fractions(column: Column) -> Column:
    return replace(column, dtype="float64") if column.dtype.startswith("int") else column


def _dtype(column: Column, absent: Mapping[str, Any]) -> Any:
    if column.dtype == "str":
        return None  # what pandas itself takes for text
    fraction = column.dtype.startswith("int") and absent[column.name] != int(absent[column.name])
    return np.dtype("float64" if fraction else column.dtype)
