"""The function over parts of a data set that every engine can call: rows in, rows with answers out.

A process of Spark, Ray or Dask that calls it starts one process of the version, which runs the version's own code, and
keeps it for all parts that it is given.
"""

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pandas._libs.parsers import STR_NA_VALUES

from conceptry.evaluation.batch import answers as a
from conceptry.evaluation.batch.refusals import ask
from conceptry.evaluation.batch.settings import BATCH_ROWS
from conceptry.evaluation.isolation.client import ProcessEndedError, VersionProcess
from conceptry.models.errors import ConceptryError, InputError

REFUSED = "_refused"  # of a row that is not asked about: why
HELD_MOST = 2  # versions that a process holds at one time
_held: dict[tuple[str, str, int], VersionProcess] = {}
_holding = threading.Lock()


@dataclass(frozen=True)
class Asked:
    """A version and what it is asked.

    Attributes:
        uri: with its number.
        fingerprint: of the version and `params`, see `conceptry.evaluation.batch.answers`.
        inputs: columns that the version reads.
        columns: of its answers, with their Arrow types.
        needed: those of `inputs` that every table has to have.
        dtypes: of inputs, where they are known: how the text of a CSV file is read.
        copy: name of a folder with its files that Spark has sent to each machine; None has each process fetch them.
    """

    uri: str
    fingerprint: str
    inputs: tuple[str, ...]
    columns: Mapping[str, pa.DataType]
    needed: tuple[str, ...] = ()
    dtypes: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    copy: str | None = None

    @property
    def title(self) -> str:
        """NAME/NUMBER."""
        return self.uri.removeprefix("models:/")


def asked_version(uri: str, params: Mapping[str, Any] | None = None, device: str = "auto") -> Asked:
    """What `uri` means now, an alias by its number. Raises InputError for unknown versions and parameters."""
    from mlflow.models import get_model_info

    from conceptry.evaluation.harness import evaluation_of
    from conceptry.registry.versions import check_known, find_version

    version, params = find_version(uri), dict(params or {})
    signature = get_model_info(version.uri).signature
    assert signature is not None  # every registered version has one
    check_known(uri, signature, params)
    inputs = tuple(map(str, signature.inputs.input_names()))
    known_of = evaluation_of(version.method).known_of(version)
    return Asked(
        uri=version.uri,
        fingerprint=a.asked_fingerprint(version.fingerprint, params),
        inputs=inputs,
        columns=a.answer_columns(version.method, signature, params),
        needed=inputs if known_of.get("modality") == "table" else (),
        dtypes=json.loads(known_of.get("columns", "{}")),
        params=params,
        device=device,
    )


class Predictor:
    """Rows with a version's answers: a callable over tables, for `map_batches` (Ray) and `map_partitions` (Dask).

    Each process that calls it loads the version once and keeps it. An alias means the version that it names when the
    predictor is made. A row that the version refuses has null answers and a sentence in `error`.

    Args:
        uri: `models:/NAME/NUMBER`, `NAME/NUMBER` or `NAME@ALIAS`, of the MLflow store that all processes reach.
        params: parameters of the method for all rows.
        device: auto, cpu, cuda or cuda:INDEX.
        rows: rows of a request to the version; memory grows with it.

    Raises:
        InputError: for unknown versions and parameters.
    """

    def __init__(
        self, uri: str, params: Mapping[str, Any] | None = None, *, device: str = "auto", rows: int = BATCH_ROWS
    ) -> None:
        import mlflow

        if rows < 1:
            raise InputError(f"rows must be at least 1, got {rows}")
        self.asked, self.rows = asked_version(uri, params, device), rows
        self.stores = (mlflow.get_tracking_uri(), mlflow.get_registry_uri())

    def __call__(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table without the columns that the version reads pictures and embeddings from, and with its answers."""
        import mlflow

        # A process that is set up already is left alone: a registry that is named goes along with no other store.
        if (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) != self.stores:
            mlflow.set_tracking_uri(self.stores[0])
            mlflow.set_registry_uri(self.stores[1])
        passed = passed_columns(self.asked, list(map(str, table.columns)))
        read = table.loc[:, [name in self.asked.inputs for name in table.columns]]
        parts = [self._part(read.iloc[i : i + self.rows]) for i in range(0, len(read), self.rows)]
        answers = pd.concat(parts) if parts else self._frame([], [], table.index[:0])
        return pd.concat([table[passed], answers], axis=1)

    def meta(self, table: pd.DataFrame) -> pd.DataFrame:
        """An answer without rows, which says its columns to Dask; table: any part of the input."""
        return self(table.iloc[:0])

    def _part(self, rows: pd.DataFrame) -> pd.DataFrame:
        return self._frame(*_answered(self.asked, rows), rows.index)

    def _frame(self, found: Sequence[Any], errors: Sequence[str | None], index: pd.Index) -> pd.DataFrame:
        arrays = added_arrays(self.asked, found, errors)
        return pd.DataFrame({name: array.to_pandas() for name, array in arrays.items()}).set_axis(index, axis=0)


def passed_columns(asked: Asked, names: Sequence[str]) -> list[str]:
    """Columns of the input that go through to the output.

    Not those that the answer repeats, nor pictures and the like, which are as large as the input.
    Raises InputError for a column that is to go through and has the name of an answer's.
    """
    heavy = ("image", "images", "masks", "embedding", "points")
    added = (*asked.columns, a.ERROR, a.VERSION, a.FINGERPRINT)
    known = {name.casefold() for name in added}  # Spark does not tell capitals from small letters
    read = {name for name in names if name in asked.inputs}
    for name in names:
        if name.casefold() in known and name not in read:
            raise InputError(f"the input's column {name!r} has the name of one of the answer; give it another name")
    return [name for name in names if name not in added and not (name in read and name in heavy) and name != REFUSED]


def added_arrays(
    asked: Asked, answers: Sequence[Mapping[str, Any] | None], errors: Sequence[str | None]
) -> dict[str, pa.Array]:
    """The columns that a version adds to rows."""
    return {
        **a.answer_arrays(asked.columns, answers),
        a.ERROR: pa.array(errors, pa.string()),
        a.VERSION: pa.array([asked.title] * len(answers), pa.string()),
        a.FINGERPRINT: pa.array([asked.fingerprint] * len(answers), pa.string()),
    }


def answered_batches(
    asked: Asked, passed: Sequence[str], batches: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches of a part of Spark's, with the columns `passed` and answers, and how many of its rows are refused."""
    for batch in batches:
        refused = batch.column(REFUSED).to_pylist() if REFUSED in batch.schema.names else [None] * batch.num_rows
        wanted = pa.array([row for row, why in enumerate(refused) if why is None], pa.int64())
        answers: list[dict[str, Any] | None] = [None] * batch.num_rows
        errors: list[str | None] = list(refused)
        rows = _pandas(asked, batch.select([name for name in asked.inputs if name in batch.schema.names]).take(wanted))
        try:
            found = _answered(asked, rows)
        except ProcessEndedError as error:
            ids = batch.column(a.ID).to_pylist()
            raise ConceptryError(f"rows {ids[0]} to {ids[-1]}: {error}") from None
        for row, answer, error in zip(wanted.to_pylist(), *found, strict=True):
            answers[row], errors[row] = answer, error
        arrays = {name: batch.column(name) for name in passed} | added_arrays(asked, answers, errors)
        yield pa.RecordBatch.from_pydict(arrays), sum(error is not None for error in errors)


def _pandas(asked: Asked, batch: pa.RecordBatch) -> pd.DataFrame:
    """Cells as versions take them: whole numbers stay exact beside gaps, decimals are floats, text is what it says."""
    for number, column in enumerate(batch.schema):
        if pa.types.is_decimal(column.type):
            batch = batch.set_column(number, column.name, batch.column(number).cast(pa.float64()))
    rows = batch.to_pandas(integer_object_nulls=True)
    for name, dtype in asked.dtypes.items():
        if name in rows and pa.types.is_string(batch.schema.field(name).type):
            rows[name] = pd.Series([read_cell(cell, dtype) for cell in rows[name]], dtype=object, index=rows.index)
    return rows


def read_cell(text: str | None, dtype: str) -> Any:
    """A cell of a CSV file as a column of that type wants it, as `conceptry.models.explained.tables.read_cells` does.

    Text stays what it is, and only an empty cell is empty; elsewhere what pandas takes for missing is. What is no
    number stays text, which the version refuses by name.
    """
    if not text:
        return None
    if dtype in ("str", "category"):
        return text
    text = text.strip()
    if text in STR_NA_VALUES:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text) if "_" not in text else text
    except ValueError:
        return text


def _answered(asked: Asked, rows: pd.DataFrame) -> tuple[list[dict[str, Any] | None], list[str | None]]:
    return ask(_process(asked), rows, asked.params) if len(rows) else ([], [])


def _process(asked: Asked) -> VersionProcess:
    """The process of the version that this process holds; a new one where it has none yet, or that one has ended."""
    key = (asked.fingerprint, asked.device, os.getpid())  # a forked process has none of its parent's
    with _holding:
        held = _held.get(key)
        if held is not None and not held.has_ended:
            return held
        for other in [other for other in _held if other[2] != os.getpid()]:
            del _held[other]
        while len(_held) >= HELD_MOST:
            _held.pop(next(iter(_held))).__exit__()
        _held[key] = VersionProcess(asked.uri, asked.device, _copy(asked)).__enter__()
        return _held[key]


def _copy(asked: Asked) -> Path | None:
    if asked.copy is None:
        return None
    from pyspark import SparkFiles

    return Path(SparkFiles.get(asked.copy))


def in_folder(asked: Asked, copy: str) -> Asked:
    """The same, loaded from the folder of that name that Spark has sent to each machine."""
    return replace(asked, copy=copy)
