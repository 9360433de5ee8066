"""Data sets in the layouts that they are published in, read where they lie: nothing is downloaded.

| name | files below ROOT | label | beside it |
|---|---|---|---|
| `cifar10:ROOT` | cifar-10-batches-py, as torchvision keeps it | the class | |
| `cifar100:ROOT` | cifar-100-python | the class | |
| `imagenet:ROOT` | val or train, and meta.bin | the class | |
| `celeba:ROOT` | celeba: img_align_celeba and the lists, as torchvision keeps it | an attribute | true attributes |
| `waterbirds:ROOT` | metadata.csv, here or in a folder waterbird* | landbird, waterbird | the place: land, water |
| `coco:ROOT` | val2017 or train2017, annotations/captions_*2017.json | | captions |

The split is the test split where there is one with labels, otherwise the validation split; `#train` names the training
images. CelebA is labelled by the attribute Male, `celeba:ROOT#Smiling` and `celeba:ROOT#train,Smiling` by another.
"""

import codecs
import json
import os
import pickle
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from conceptry.evaluation.data import LabelledImage, csv_rows
from conceptry.models.errors import InputError, closest
from conceptry.models.images import image_files, png_bytes
from conceptry.models.manifest import read_text

TRAIN = "train"


@dataclass(frozen=True)
class AnnotatedImage(LabelledImage):
    """An image and what is known of it. captions: sentences, each of which is true; concepts: true words by kind."""

    captions: tuple[str, ...] = ()
    concepts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def caption(self) -> str | None:
        """The first of the captions."""
        return self.captions[0] if self.captions else None


@dataclass(frozen=True)
class Published:
    """A data set as it lies there: how many images it has, what each of them is, and the names of its classes."""

    count: int
    read: Callable[[int], AnnotatedImage]
    classes: tuple[str, ...] = ()


def published(scheme: str, rest: str) -> Published:
    """The data set `scheme`:`rest`, see the table above. Raises InputError where it cannot be read."""
    root, _, chosen = rest.partition("#")
    words = [word.strip() for word in chosen.split(",") if word.strip()]
    split = TRAIN if TRAIN in words else "test"
    attributes = [word for word in words if word != TRAIN]
    if attributes and (scheme != "celeba" or len(attributes) > 1):
        raise InputError(f"{scheme}:{rest}: after # comes train, for the training images, or nothing at all")
    if scheme == "celeba":
        return _celeba(Path(root), split, *attributes)
    return _READERS[scheme](Path(root), split)


@dataclass(frozen=True)
class CifarLayout:
    """How torchvision keeps a CIFAR data set: its folder, its files by split, and the keys of labels and names."""

    folder: str
    splits: dict[str, tuple[str, ...]]
    meta: str
    labels: str
    names: str


_CIFAR = {
    "cifar10": CifarLayout(
        "cifar-10-batches-py",
        {"test": ("test_batch",), "train": tuple(f"data_batch_{i}" for i in range(1, 6))},
        "batches.meta",
        "labels",
        "label_names",
    ),
    "cifar100": CifarLayout(
        "cifar-100-python", {"test": ("test",), "train": ("train",)}, "meta", "fine_labels", "fine_label_names"
    ),
}


def _cifar(layout: CifarLayout) -> Callable[[Path, str], Published]:
    def read(root: Path, split: str) -> Published:
        folder = root / layout.folder
        classes = tuple(_read_batch(folder / layout.meta).get(layout.names, ()))
        batches = [_read_batch(folder / file) for file in layout.splits[split]]
        strange = InputError(f"{folder}: its files are not those of CIFAR; download the data set again")
        try:
            images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            labels = [classes[label] for batch in batches for label in batch[layout.labels]]
        except (KeyError, ValueError, IndexError, TypeError):
            raise strange from None
        if len(labels) != len(images):
            raise strange

        def image(i: int) -> AnnotatedImage:
            return AnnotatedImage(png_bytes(Image.fromarray(np.ascontiguousarray(images[i]))), labels[i])

        return Published(len(images), image, classes)

    return read


class _ArrayUnpickler(pickle.Unpickler):
    """Reads the pickles that CIFAR consists of, and nothing but numbers, texts and arrays."""

    _ALLOWED: ClassVar = {
        # numpy's own would take a type of Python objects, and bytes for the addresses of some.
        "_reconstruct": lambda *_: np.ndarray.__new__(np.ndarray, (0,), "b"),
        "ndarray": object(),  # an argument of it, and nothing to call
        "dtype": np.dtype,
        "encode": codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] in ("numpy", "_codecs") and name in self._ALLOWED:
            return self._ALLOWED[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")


def _read_batch(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, of what is out of date in pickles as old as these
            batch = _ArrayUnpickler(stream, encoding="latin1").load()
    except OSError:
        raise InputError(f"{path}: no such file; ROOT is the folder that torchvision downloads CIFAR into") from None
    except Exception as error:  # damaged pickles raise whatever they run into
        raise InputError(f"{path}: is no file of CIFAR ({type(error).__name__})") from None
    if not isinstance(batch, dict):
        raise InputError(f"{path}: is no file of CIFAR")
    return batch


def _imagenet(root: Path, split: str) -> Published:
    import torch

    folder, meta = root / ("val" if split == "test" else split), root / "meta.bin"
    try:
        names = torch.load(meta, weights_only=True)[0]
    except OSError:
        raise InputError(
            f"{meta}: no such file; torchvision.datasets.ImageNet writes it, with the names of the classes. "
            f"Without it, folder:{folder} labels the images by WordNet's numbers"
        ) from None
    except Exception as error:  # torch raises many types on files that are something else
        raise InputError(f"{meta}: is no meta.bin of torchvision's ImageNet ({type(error).__name__})") from None
    files = image_files(folder)
    wnids = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name in names)
    shared = Counter(names[wnid][0] for wnid in wnids)  # "crane" is a bird, and a machine
    labels = {w: names[w][0] if shared[names[w][0]] == 1 else f"{names[w][0]} ({w})" for w in wnids}
    if strange := next((file for file in files if file.parent.name not in labels), None):
        raise InputError(f"{strange}: lies in no folder of a class that {meta} names")
    return Published(
        len(files), lambda i: AnnotatedImage(files[i], labels[files[i].parent.name]), tuple(labels.values())
    )


def _celeba(root: Path, split: str, attribute: str = "Male") -> Published:
    folder = root / "celeba"
    listed = folder / "list_attr_celeba.txt"
    columns, *rows = _lines(listed, skipped=1) or [[]]
    if not columns:
        raise InputError(f"{listed}: names no attributes")
    if attribute not in columns:
        near = ", ".join(closest(attribute, columns) or columns[:5])
        raise InputError(f"{folder}: {attribute!r} is not one of the {len(columns)} attributes of CelebA; near: {near}")
    number = {TRAIN: "0", "test": "2"}[split]
    chosen = {row[0] for row in _lines(folder / "list_eval_partition.txt") if row[-1] == number}
    known = [(row[0], row[1:]) for row in rows if row[0] in chosen]
    if any(len(values) != len(columns) for _, values in known):
        raise InputError(f"{folder / 'list_attr_celeba.txt'}: a row does not have a value for each attribute")
    at, words = columns.index(attribute), [name.replace("_", " ").lower() for name in columns]

    def image(i: int) -> AnnotatedImage:
        name, values = known[i]
        true = tuple(word for word, value in zip(words, values, strict=True) if value == "1")
        label = words[at] if values[at] == "1" else f"not {words[at]}"
        return AnnotatedImage(_file(folder / "img_align_celeba", name), label, concepts={"attributes": true})

    return Published(len(known), image, (f"not {words[at]}", words[at]))


def _lines(path: Path, skipped: int = 0) -> list[list[str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; ROOT is the folder that torchvision downloads CelebA into")
    return [line.split() for line in read_text(path).splitlines()[skipped:] if line.strip()]


BIRDS, PLACES = ("landbird", "waterbird"), ("land", "water")


def _waterbirds(root: Path, split: str) -> Published:
    tables = [root / "metadata.csv", *sorted(root.glob("waterbird*/metadata.csv"))]
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        raise InputError(f"{root}: expected metadata.csv of Waterbirds, here or in a folder waterbird*")
    columns, rows = csv_rows(table)
    if missing := {"img_filename", "y", "split", "place"} - set(columns):
        raise InputError(f"{table}: expected the columns of Waterbirds, {', '.join(sorted(missing))} among them")
    number = {TRAIN: "0", "test": "2"}[split]
    chosen = [row for row in rows if row["split"] == number]
    if strange := next((row for row in chosen if {row["y"], row["place"]} - {"0", "1"}), None):
        raise InputError(f"{table}: {strange['img_filename']!r} has a y or a place that is neither 0 nor 1")

    def image(i: int) -> AnnotatedImage:
        row = chosen[i]
        place = {"place": (PLACES[int(row["place"])],)}
        return AnnotatedImage(_file(table.parent, row["img_filename"]), BIRDS[int(row["y"])], concepts=place)

    return Published(len(chosen), image, BIRDS)


def _coco(root: Path, split: str) -> Published:
    name = f"{TRAIN if split == TRAIN else 'val'}2017"
    path = root / "annotations" / f"captions_{name}.json"
    if not path.is_file():
        raise InputError(f"{path}: no such file; ROOT holds the folders annotations and {name} of COCO")
    captions: dict[int, list[str]] = defaultdict(list)
    try:
        record = json.loads(read_text(path))
        for each in sorted(record["annotations"], key=lambda each: each["id"]):
            captions[each["image_id"]].append(" ".join(str(each["caption"]).split()))
        files = [(str(each["file_name"]), tuple(captions[each["id"]])) for each in record["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: are no captions of COCO ({error!r})") from None
    return Published(len(files), lambda i: AnnotatedImage(_file(root / name, files[i][0]), captions=files[i][1]))


def _file(folder: Path, name: str) -> Path:
    """The image `name` of a data set, which may not lie elsewhere than in its folder."""
    path = folder / name
    if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):  # a link may lead elsewhere
        raise InputError(f"{folder}: {name!r} lies outside of it")
    if not path.is_file():
        raise InputError(f"{path}: no such file, but the data set lists it")
    return path


_READERS: dict[str, Callable[[Path, str], Published]] = {
    **{scheme: _cifar(layout) for scheme, layout in _CIFAR.items()},
    "imagenet": _imagenet,
    "waterbirds": _waterbirds,
    "coco": _coco,
}
SCHEMES = (*_READERS, "celeba")
