"""What the answers about a data set say of each concept, in sums: memory does not grow with the rows.

A concept is a word of splice, with its weight, or a pattern of harsanyi, with its effect.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conceptry.evaluation.harsanyi.summary import pattern_name
from conceptry.models.errors import InputError

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

Named = tuple[str, float]
READERS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Named]]] = {
    "splice": ("concepts", lambda entry: (entry["concept"], float(entry["weight"]))),
    "harsanyi": ("patterns", lambda entry: (pattern_name(dict(entry)), float(entry["effect"]))),
}
"""By method: the column of an answer that lists concepts, and the name and the weight of one of them."""

ROWS_AT_ONCE = 8192
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
    data = _dataset(Path(folder))
    method = next((name for name, (column, _) in READERS.items() if column in data.schema.names), None)
    if method is None or not {"error", "version"} <= set(data.schema.names):
        raise InputError(
            f"{folder}: holds no answers of splice or harsanyi as `conceptry batch` writes them, with the columns "
            f"error, version and {' or '.join(column for column, _ in READERS.values())}"
        )
    found = ConceptSums(folder, method)
    column, _ = READERS[method]
    total = max(1, data.count_rows())
    asked = [column, *(name for name in _ABOUT if name in data.schema.names)]
    for batch in data.to_batches(columns=asked, batch_size=ROWS_AT_ONCE):
        cells = {name: batch.column(name).to_pylist() for name in asked}
        answered = [error is None for error in cells["error"]]
        found.errors += answered.count(False)
        found.add(concepts or [] for concepts, has in zip(cells[column], answered, strict=True) if has)
        fingerprints = cells.get("fingerprint", [""] * len(answered))
        found.versions |= set(zip(cells["version"], fingerprints, strict=True))
        progress((found.rows + found.errors) / total)
    return found


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
    return next((files for files in found if files), [])


def _dataset(path: Path) -> "Dataset":
    import pyarrow as pa
    import pyarrow.dataset as ds

    files = _files(path)
    if not files:
        raise InputError(
            f"{path}: no such answers; expected a folder that `conceptry batch` has written, or a file of it"
        )
    kind = "parquet" if files[0].suffix == ".parquet" else "json"
    try:
        data = ds.dataset([str(file) for file in files], format=kind)
        if kind == "json":  # what the first rows do not hold, such as an error, is not in their schema
            data = data.replace_schema(pa.unify_schemas([ds.dataset(str(f), format=kind).schema for f in files]))
        return data
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise InputError(f"{path}: cannot be read as {kind}: {str(error).splitlines()[0]}") from None
