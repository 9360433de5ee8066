"""Images that perturbation versions are evaluated on, and real images that judge what they draw.

| name | what | labels | judges |
|---|---|---|---|
| `zoo:digits-16`, `zoo:digits` | held-out digits, 16 x 16 or 8 x 8 | yes | the training digits |
| `folder:PATH` | pictures; the folder that each lies in is its label where there are several | maybe | none |
| `csv:PATH` | a table with the column image (path) and any of label, target, source (classes) | maybe | none |
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.evaluation.data import EvaluationData, csv_rows, draw_sample, folder_images, image_rows
from conceptry.evaluation.perturbation.judges import Reference, to_grey
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes

DEFAULT_SIZE = 100
DIGITS = ("digits-16", "digits")
SCHEMES = (*(f"zoo:{name}" for name in DIGITS), "folder:PATH", "csv:PATH")
COLUMNS = ("image", "label", "target", "source")


@dataclass(frozen=True)
class Case:
    """One picture to perturb (None: a probe, which starts from noise), and what is known or asked of it.

    image: the content of its file, or where it lies; label: its true class; target: the class to go toward; source:
    the class to leave, or the class that it was mistaken for; for an inversion the picture to start from.
    """

    image: bytes | Path | None
    label: str | None = None
    target: str | None = None
    source: str | bytes | None = None

    @cached_property
    def content(self) -> bytes | None:
        """The bytes of the picture's file."""
        return self.image.read_bytes() if isinstance(self.image, Path) else self.image

    @cached_property
    def key(self) -> str:
        """Identifier of the image in tables of several versions."""
        return hashlib.sha256(self.content or b"").hexdigest()[:16]


@dataclass(frozen=True)
class CaseData(EvaluationData):
    """Pictures to evaluate on; `reference`: real pictures with classes, where there are some to judge probes by."""

    unit: ClassVar[str] = "pictures"
    cases: Sequence[Case]
    reference: Reference | None = None

    @property
    def items(self) -> Sequence[Case]:
        return self.cases

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """All labels and targets, sorted, those of the reference included: the same in any draw of the zoo's digits."""
        known = set(self.reference.labels) if self.reference else set()
        return tuple(sorted(known | {name for case in self.cases for name in (case.label, case.target) if name}))

    @property
    def asked(self) -> Sequence[Case]:
        return self.toward_others()

    def toward_others(self) -> list[Case]:
        """The cases, each with a target: its own, or another class than its label.

        Which class depends on the content of the picture alone, so it does not change with the draw. A case without
        label stays without target where it has none: it is to leave whatever class it is in.
        """
        return [case if case.target or not case.label else self._aimed(case) for case in self.cases]

    def _aimed(self, case: Case) -> Case:
        others = [name for name in self.classes if name != case.label]
        return replace(case, target=others[int(case.key, 16) % len(others)]) if others else case


def load_cases(name: str | None, params: Mapping[str, str], size: int | None, seed: int) -> CaseData:
    """The data called `name` (see the table above); for None the held-out digits that suit the explained network.

    `size` (default 100) limits the pictures to a draw by `seed`. Raises InputError for unknown names and for data
    that cannot be read.
    """
    if size is not None and size < 1:
        raise InputError(f"size must be at least 1 picture, got {size}")
    name = name or _suiting(params["model"])
    scheme, _, rest = name.partition(":")
    reference = None
    if name in SCHEMES:
        cases, reference = _digits(rest)
    elif scheme == "folder" and rest:
        cases = [Case(image.source, image.label) for image in folder_images(Path(rest))]
    elif scheme == "csv" and rest:
        cases = read_table(Path(rest))
        if any(case.image is None for case in cases):
            raise InputError(f"{rest}: every row needs a picture to be evaluated on")
    else:
        raise InputError(f"unknown data {name!r}; expected one of {', '.join(SCHEMES)}")
    cases = draw_sample(cases, size or DEFAULT_SIZE, seed)
    return CaseData(name, _digest(cases), cases, reference)


def table_cases(table: pd.DataFrame, labels: Sequence[object] | None, name: str) -> CaseData:
    """Data from a DataFrame with the column image (bytes or a path) and any of label, target and source.

    `labels`, one a row, stand in for a column label. Raises InputError naming the row that cannot be used.
    """
    cases = []
    for row, image, label in image_rows(table, labels):
        cells = {key: row.get(key) for key in ("label", "target", "source")}
        known = {key: str(cell) for key, cell in cells.items() if _is_filled(cell)}
        cases.append(Case(image, **known | ({} if label is None else {"label": label})))
    return CaseData(name, _digest(cases), cases)


def _is_filled(cell: object) -> bool:
    return cell is not None and cell is not pd.NA and cell == cell and cell != ""  # only NaN differs from itself


def read_table(path: Path) -> list[Case]:
    """The rows of a .csv file. Raises InputError naming the line that cannot be used.

    Columns: any of image (a path, from the file's folder; empty: a probe), label, target and source.
    """
    columns, rows = csv_rows(path)
    if not columns or set(columns) - set(COLUMNS):
        found = ", ".join(columns) or "none"
        raise InputError(f"{path}: expected columns among {', '.join(COLUMNS)}; got {found}")
    cases = []
    for line, row in enumerate(rows, start=2):
        file = path.parent / row["image"] if row.get("image") else None
        if file and not file.is_file():
            raise InputError(f"{path}, line {line}: no picture at {row['image']!r}")
        cases.append(Case(file, row.get("label") or None, row.get("target") or None, row.get("source") or None))
    if not cases:
        raise InputError(f"{path}: holds no rows")
    return cases


def load_reference(name: str) -> Reference:
    """The training pictures of a data set of the zoo, as judges of probes: `digits-16` or `digits`."""
    return _digits(name)[1]


def _suiting(model: str) -> str:
    scheme, _, network = model.partition(":")
    for name in DIGITS:
        if scheme == "zoo" and (network == name or network.startswith(f"{name}-")):
            return f"zoo:{name}"
    raise InputError(f"no data is known for {model}; name it: {', '.join(SCHEMES)}")


def _digits(name: str) -> tuple[list[Case], Reference]:
    from conceptry.models.zoo.datasets import load_dataset

    data = load_dataset(name)
    cases = [
        Case(png_bytes(Image.fromarray(data.inputs[row])), data.classes[int(data.targets[row])]) for row in data.heldout
    ]
    labels = tuple(data.classes[int(k)] for k in data.targets[data.train])
    return cases, Reference(to_grey(data.inputs[data.train]), labels)


def _digest(cases: Sequence[Case]) -> str:
    total = hashlib.sha256()
    for case in cases:
        content = hashlib.sha256(case.content or b"").hexdigest()
        total.update(f"{content} {(case.label, case.target, case.source)!r}\n".encode())
    return total.hexdigest()


def grey_of(images: Sequence[Image.Image]) -> np.ndarray:
    """Decoded RGB pictures of one size as grey values (n, H, W) in [0, 1]."""
    return to_grey(np.stack([np.asarray(image) for image in images]))
