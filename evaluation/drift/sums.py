"""What the answers about a data set say of each concept, in sums: memory does not grow with the rows.

A concept is a word of splice, with its weight, or a pattern of harsanyi, with its effect.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conceptry.evaluation.harsanyi.summary import pattern_name
from conceptry.models.errors import InputError

if TYPE_CHECKING:
    from pyarrow import DataType
    from pyarrow.dataset import Dataset

Named = tuple[str, float]
READERS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Named]]] = {
    "splice": ("concepts", lambda entry: (entry["concept"], float(entry["weight"]))),
    "harsanyi": ("patterns", lambda entry: (pattern_name(dict(entry)), float(entry["effect"]))),
}
"""By method: the column of an answer that lists concepts, and the name and the weight of one of them."""

ROWS_AT_ONCE = 8192
BLOCK = 2**26  # bytes of JSON that are read at once; a row has to fit
_ABOUT = ("error", "version", "fingerprint")


@dataclass
class ConceptSums:
    """Sums over the rows of a data set.

    rows: that have an answer; errors: that have none; versions: whose answers they are, by name and fingerprint; sums:
    by concept the number of rows that name it, the sum of its weights and that of their squares.
    """

    name: str
    method: str
    rows: int = 0
    errors: int = 0
    versions: set[tuple[str, str]] = field(default_factory=set)
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, answers: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        """Add the lists of concepts of some rows."""
        _, read = READERS[self.method]
        for concepts in answers:
            self.rows += 1
            for entry in concepts:
                name, weight = read(entry)
                held = self.sums.setdefault(name, np.zeros(3))
                held += (1.0, weight, weight * weight)

    def of(self, concepts: Sequence[str]) -> np.ndarray:
        """The sums of `concepts`: (concepts, 3), 0 of those that no row names."""
        return np.array([self.sums.get(name, np.zeros(3)) for name in concepts]).reshape(-1, 3)


def read_batch(folder: str, progress: Callable[[float], None] = lambda share: None) -> ConceptSums:
    """Sums over what `conceptry batch` has written: a folder, or one file of it.

    Raises InputError where nothing is there, and for answers that name no concepts.
    """
    import pyarrow as pa

    files = _files(Path(folder))
    if not files:
        raise InputError(
            f"{folder}: no such answers; expected a folder that `conceptry batch` has written, or a file of it"
        )
    try:
        names = _columns(files)
        method = next((name for name, (column, _) in READERS.items() if column in names), None)
        if method is None or not {"error", "version"} <= names:
            raise InputError(
                f"{folder}: holds no answers of splice or harsanyi as `conceptry batch` writes them, with the columns "
                f"error, version and {' or '.join(column for column, _ in READERS.values())}"
            )
        found = ConceptSums(folder, method)
        column, _ = READERS[method]
        asked = [column, *(name for name in _ABOUT if name in names)]
        data = _dataset(files, column, asked)
        total = max(1, data.count_rows())
        for batch in data.to_batches(columns=asked, batch_size=ROWS_AT_ONCE):
            cells = {name: batch.column(name).to_pylist() for name in asked}
            answered = [error is None for error in cells["error"]]
            found.errors += answered.count(False)
            found.add(concepts or [] for concepts, has in zip(cells[column], answered, strict=True) if has)
            fingerprints = cells.get("fingerprint", [""] * len(answered))
            found.versions |= set(zip(cells["version"], fingerprints, strict=True))
            progress((found.rows + found.errors) / total)
        return found
    except InputError:
        raise
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be read: {str(error).splitlines()[0]}") from None


def read_answers(name: str, method: str, answers: Iterator[Sequence[Mapping[str, Any]]], uri: str) -> ConceptSums:
    """Sums over the answers of the version `uri` about the data `name`."""
    found = ConceptSums(name, method, versions={(uri, "")})
    found.add(answers)
    return found


def is_batch(path: str) -> bool:
    """Whether `path` is a folder that `conceptry batch` has written to, or a file of such a folder."""
    return Path(path).is_file() or bool(_files(Path(path)))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = [sorted(path.glob(f"part-*.{suffix}")) for suffix in ("parquet", "json")] if path.is_dir() else []
    whole = ([file for file in files if file.stat().st_size] for files in found)  # an empty part of JSON is no bytes
    return next((files for files in whole if files), [])


def _columns(files: Sequence[Path]) -> set[str]:
    """Names of the columns of answers."""
    if files[0].suffix == ".parquet":
        import pyarrow.parquet as pq

        return set(pq.read_schema(files[0]).names)
    with files[0].open(encoding="utf-8") as stream:  # null columns are written too
        row = json.loads(stream.readline())
    return set(row) if isinstance(row, dict) else set()


def _dataset(files: Sequence[Path], column: str, asked: Sequence[str]) -> "Dataset":
    """The answers; of JSON nothing is inferred: a column may be null, or look like dates, for a whole file."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.json as pj

    if files[0].suffix == ".parquet":
        return ds.dataset([str(file) for file in files], format="parquet")
    schema = pa.schema([(column, _TYPES[column]()), *((name, pa.string()) for name in asked if name != column)])
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    form = ds.JsonFileFormat(parse_options=options, read_options=pj.ReadOptions(block_size=BLOCK))
    return ds.dataset([str(file) for file in files], format=form, schema=schema)


def _of_words() -> "DataType":
    import pyarrow as pa

    return pa.list_(pa.struct([("concept", pa.string()), ("weight", pa.float64())]))


def _of_patterns() -> "DataType":
    import pyarrow as pa

    return pa.list_(pa.struct([("players", pa.list_(pa.string())), ("kind", pa.string()), ("effect", pa.float64())]))


_TYPES = {"concepts": _of_words, "patterns": _of_patterns}
