"""Images that SpLiCE versions are evaluated on, with what is known of each.

| name | what |
|---|---|
| `zoo:emoji-scenes` | held-out scenes of the emoji world: half with one object (labelled), half with two (captioned) |
| `folder:PATH` | images; the folder that each lies in is its label where there are several |
| `csv:PATH` | a table with the columns image (path), and any of label, caption, concepts (separated by ;) |
| `cifar10:ROOT` | test images of CIFAR-10: the folder `cifar-10-batches-py` in ROOT, as torchvision keeps it |
| `cifar100:ROOT` | test images of CIFAR-100: the folder `cifar-100-python` in ROOT |
| `imagenet:ROOT` | validation images of ImageNet: the folder `val` in ROOT, with the names of the file `meta.bin` |

`#train` at the end of the last three names the training images. Their classes go by name or by number.
"""

import codecs
import hashlib
import pickle
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.evaluation.data import EvaluationData, LabelledImage, csv_rows, draw_sample, folder_images, image_rows
from conceptry.models.errors import InputError
from conceptry.models.images import image_files, png_bytes
from conceptry.models.manifest import sha256_file
from conceptry.models.method import whole_number

DEFAULT = "zoo:emoji-scenes"
SCHEMES = (DEFAULT, "folder:PATH", "csv:PATH", "cifar10:ROOT", "cifar100:ROOT", "imagenet:ROOT")
DEFAULT_SIZE = 512


@dataclass(frozen=True)
class AnnotatedImage(LabelledImage):
    """An image and what is known of it. caption: a sentence; concepts: true words by kind."""

    caption: str | None = None
    concepts: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageData(EvaluationData):
    """Images to evaluate on. classes: their names in the order of their numbers, where classes have numbers."""

    unit: ClassVar[str] = "pictures"
    images: Sequence[AnnotatedImage]
    classes: tuple[str, ...] = ()

    @property
    def items(self) -> Sequence[AnnotatedImage]:
        return self.images

    @property
    def pictures(self) -> Sequence[AnnotatedImage]:
        """Former name of `images`."""
        return self.images

    def label_of(self, label: str | None) -> str | None:
        number = whole_number(label) if label and label not in self.classes else None
        return self.classes[number] if number is not None and number < len(self.classes) else label


def load_images(name: str, size: int | None = None, seed: int = 0) -> ImageData:
    """Read the data called `name` (see the table above).

    `size` limits the number of images: a draw by `seed` from a folder or a table, the first ones of the zoo's scenes
    of that seed (default 512). Raises InputError for unknown names and for data that cannot be read.
    """
    if size is not None and size < 2:
        raise InputError(f"size must be at least 2 pictures, got {size}")
    scheme, _, rest = name.partition(":")
    classes: tuple[str, ...] = ()
    if name == DEFAULT:
        images = _emoji_scenes(size or DEFAULT_SIZE, seed)
    elif scheme == "folder" and rest:
        images = [AnnotatedImage(i.source, i.label) for i in draw_sample(folder_images(Path(rest)), size, seed)]
    elif scheme == "csv" and rest:
        images = draw_sample(_table(Path(rest)), size, seed)
    elif scheme in _READERS and rest:
        root, _, split = rest.partition("#")
        if split not in ("", "train"):
            raise InputError(f"{name}: after # comes train, for the training images, or nothing at all")
        count, read, classes = _READERS[scheme](Path(root), split or "test")
        images = [read(i) for i in draw_sample(range(count), size, seed)]
    else:
        raise InputError(f"unknown data {name!r}; expected one of {', '.join(SCHEMES)}")
    return ImageData(name, _digest(images), images, classes)


def table_images(table: pd.DataFrame, labels: Sequence[object] | None, name: str) -> ImageData:
    """Read data from a DataFrame with the column image (bytes or a path) and any of label, caption and concepts.

    `labels`, one for each row, stand in for a column label. Raises InputError naming the row that cannot be used.
    """
    images = []
    for row, source, label in image_rows(table, labels):
        known = {key: str(row[key]) for key in ("label", "caption", "concepts") if isinstance(row.get(key), str)}
        if label is not None:
            known["label"] = label
        words = _words(known.get("concepts"))
        concepts = {"concepts": words} if words else {}
        images.append(AnnotatedImage(source, known.get("label"), known.get("caption"), concepts))
    return ImageData(name, _digest(images), images)


def _emoji_scenes(size: int, seed: int) -> list[AnnotatedImage]:
    from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

    halves = [
        EmojiScenes("heldout", size - size // 2, seed, n_objects=1),
        EmojiScenes("heldout", size // 2, seed, n_objects=2),
    ]
    images = []
    for scenes in halves:
        for index in range(len(scenes)):
            scene = scenes[index]
            single = len(scene.objects) == 1
            images.append(
                AnnotatedImage(
                    source=png_bytes(Image.fromarray(scene.image)),
                    label=scene.objects[0] if single else None,
                    caption=None if single else scene.caption,
                    concepts={
                        "objects": scene.objects,
                        "colour": (scene.colour,),
                        "pattern": (scene.pattern,),
                    },
                )
            )
    return images


def _table(path: Path) -> list[AnnotatedImage]:
    columns, rows = csv_rows(path)
    if "image" not in columns or set(columns) - {"image", "label", "caption", "concepts"}:
        found = ", ".join(sorted(set(columns))) or "none"
        raise InputError(f"{path}: expected the columns image and any of label, caption, concepts; got {found}")
    images = []
    for number, row in enumerate(rows, start=2):
        file = path.parent / (row["image"] or "")
        if not file.is_file():
            raise InputError(f"{path}, line {number}: no picture at {row['image']!r}")
        words = _words(row.get("concepts"))
        concepts = {"concepts": words} if words else {}
        images.append(AnnotatedImage(file, row.get("label") or None, row.get("caption") or None, concepts))
    if not images:
        raise InputError(f"{path}: holds no rows")
    return images


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


Reading = tuple[int, Callable[[int], AnnotatedImage], tuple[str, ...]]
"""How many images there are, what each of them is, and the names of the classes."""


def _cifar(layout: CifarLayout) -> Callable[[Path, str], Reading]:
    def read(root: Path, split: str) -> Reading:
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

        return len(images), image, classes

    return read


class _ArrayUnpickler(pickle.Unpickler):
    """Reads the pickles that CIFAR consists of, and nothing but numbers, texts and arrays."""

    _ALLOWED: ClassVar = {
        "_reconstruct": np.empty(0).__reduce__()[0],
        "ndarray": np.ndarray,
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


def _imagenet(root: Path, split: str) -> Reading:
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
    return len(files), lambda i: AnnotatedImage(files[i], labels[files[i].parent.name]), tuple(labels.values())


_READERS: dict[str, Callable[[Path, str], Reading]] = {
    **{scheme: _cifar(layout) for scheme, layout in _CIFAR.items()},
    "imagenet": _imagenet,
}


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(";") if word.strip())


def _digest(images: Sequence[AnnotatedImage]) -> str:
    total = hashlib.sha256()
    for image in images:
        if isinstance(image.source, bytes):
            content = hashlib.sha256(image.source).hexdigest()
        else:
            content = sha256_file(image.source)
        known = (image.label, image.caption, sorted(image.concepts.items()))
        total.update(f"{content} {known!r}\n".encode())
    return total.hexdigest()
