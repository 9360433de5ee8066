"""Base of the data of all methods: items with labels, draws by a seed, a digest; images from folders and tables.

Each method's `data` module builds on it and lists the data that it knows by name, as `zoo:NAME`, `folder:PATH` or
`csv:PATH`.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import pandas as pd

from conceptry._former import name_of
from conceptry.evaluation.isolation.client import Predict
from conceptry.models.errors import InputError, closest
from conceptry.models.images import image_files
from conceptry.models.manifest import read_text

LONGEST_NAME = 500  # characters of a data set's name that MLflow keeps


class LabelledItem(Protocol):
    """One thing to evaluate on; `label` is its class, None where that is not known."""

    @property
    def label(self) -> str | None: ...


@dataclass(frozen=True)
class LabelledImage:
    """An image to evaluate on. source: the content of its file, or where it lies; label: its class."""

    source: bytes | Path
    label: str | None = None

    def content(self) -> bytes:
        """Bytes of the image's file."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    @cached_property
    def key(self) -> str:
        """Identifier of the image in tables of several versions."""
        return hashlib.sha256(self.content()).hexdigest()[:16]


@dataclass(frozen=True)
class EvaluationData:
    """Data to evaluate a version on; `digest` is a SHA-256 over all of its content and annotations."""

    unit: ClassVar[str] = "rows"
    name: str
    digest: str

    @property
    def items(self) -> Sequence[LabelledItem]:
        """Items that the data consist of."""
        raise NotImplementedError

    @property
    def asked(self) -> Sequence[Any]:
        """Items as versions are asked about them, each with the `key` that names it in tables."""
        return self.items

    def __len__(self) -> int:
        return len(self.items)

    def check_label(self, label: str | None) -> None:
        """Raise InputError listing near labels unless something is labelled `label`, or that is None."""
        items_of(self.items, self.label_of(label), self.name)

    def label_of(self, label: str | None) -> str | None:
        """Label that `label` stands for: data with numbered classes take their numbers too."""
        return label

    def through(self, predict: Predict) -> Predict:
        """`predict` as these data have it asked."""
        return predict

    @property
    def logged_digest(self) -> str:
        """The digest as MLflow keeps it: it takes 36 characters at most."""
        return self.digest[:32]

    @property
    def logged_name(self) -> str:
        """The name as MLflow keeps it: of a longer one than it takes, the start and a digest of the whole."""
        if len(self.name) <= LONGEST_NAME:
            return self.name
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"{self.name[: LONGEST_NAME - 12]}... {digest}"


Item = TypeVar("Item", bound=LabelledItem)
AnyItem = TypeVar("AnyItem")


def items_of(items: Sequence[Item], label: str | None, name: str) -> list[Item]:
    """Items of the data `name` labelled `label`, all of them for None. Raises InputError listing near labels."""
    if label is None:
        return list(items)
    if found := [item for item in items if item.label == label]:
        return found
    labels = sorted({item.label for item in items if item.label})
    if not labels:
        raise InputError(f"{name} has no labels, so there is no class {label!r}")
    near = closest(label, labels) or labels[:5]
    raise InputError(f"{label!r} is not one of the {len(labels)} labels of {name}; near: {', '.join(near)}")


def draw_sample(items: Sequence[AnyItem], size: int | None, seed: int) -> list[AnyItem]:
    """Draw `size` items by `seed`, in their order; take all of them where there are no more, or for None."""
    if size is None or size >= len(items):
        return list(items)
    rows = np.random.default_rng(seed).choice(len(items), size, replace=False)
    return [items[i] for i in sorted(rows)]


def folder_images(root: Path) -> list[LabelledImage]:
    """Images below a folder; the folder that each lies in is its label where there are several."""
    files = image_files(root)
    are_labelled = len({file.parent for file in files}) > 1
    return [LabelledImage(file, label=file.parent.name if are_labelled else None) for file in files]


def csv_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a .csv file; raises InputError where there is no such file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        return list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: is no CSV ({error})") from None


def image_rows(
    table: pd.DataFrame, labels: Sequence[object] | None
) -> Iterator[tuple[dict[Any, Any], bytes | Path, str | None]]:
    """Rows of a table of images, each with its image and with its entry of `labels`, None where it has none.

    Raises InputError for a table without the column image, and naming the row whose image cannot be used.
    """
    if "image" not in table.columns:
        raise InputError(f"expected a column image, got {', '.join(map(str, table.columns)) or 'none'}")
    rows = table.to_dict("records")
    given = [None] * len(rows) if labels is None else list(labels)
    for number, (row, label) in enumerate(zip(rows, given, strict=True)):
        source = row["image"] if isinstance(row["image"], bytes) else Path(str(row["image"]))
        if isinstance(source, Path) and not source.is_file():
            raise InputError(f"row {number}, column 'image': expected bytes or the path of a picture")
        yield row, source, None if label is None else str(label)


def __getattr__(name: str) -> Any:
    return name_of(__name__, name)
