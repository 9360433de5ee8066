"""Data that explainers are evaluated on: pictures with what is known of each, and a digest.

| name | what |
|---|---|
| `zoo:emoji-scenes` | held-out scenes of the emoji world: half with one object (labelled), half with two (captioned) |
| `folder:PATH` | pictures; the folder that each lies in is its label where there are several |
| `csv:PATH` | a table with the columns image (path), and any of label, caption, concepts (separated by ;) |
"""

import csv
import difflib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import pandas as pd

from conceptry.models.errors import InputError
from conceptry.models.images import image_files
from conceptry.models.manifest import sha256_file

SCHEMES = ("zoo:emoji-scenes", "folder:PATH", "csv:PATH")
DEFAULT_SIZE = 512


@dataclass(frozen=True)
class Picture:
    """One picture and what is known of it.

    source: the content of its file, or where it lies; label: its class; caption: a sentence; concepts: true words
    by kind.
    """

    source: bytes | Path
    label: str | None = None
    caption: str | None = None
    concepts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def content(self) -> bytes:
        """The bytes of the picture's file."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


class Labelled(Protocol):
    """One thing to evaluate on; `label` is its class, None where that is not known."""

    @property
    def label(self) -> str | None: ...


@dataclass(frozen=True)
class EvaluationData:
    """What a version is evaluated on; `digest` is a SHA-256 over all of its content and annotations."""

    unit: ClassVar[str] = "rows"
    name: str
    digest: str

    @property
    def items(self) -> Sequence["Labelled"]:
        """What it is made of."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.items)

    def check_label(self, label: str | None) -> None:
        """Raise InputError listing near labels unless something is labelled `label`, or that is None."""
        labelled(self.items, label, self.name)

    @property
    def logged_digest(self) -> str:
        """The digest as MLflow keeps it: it takes 36 characters at most."""
        return self.digest[:32]


@dataclass(frozen=True)
class PictureData(EvaluationData):
    """Pictures to evaluate on."""

    unit: ClassVar[str] = "pictures"
    pictures: Sequence[Picture]

    @property
    def items(self) -> Sequence[Picture]:
        return self.pictures


Item = TypeVar("Item", bound="Labelled")


def labelled(items: Sequence[Item], label: str | None, name: str) -> list[Item]:
    """The items of the data `name` labelled `label`, all of them for None. Raises InputError listing near labels."""
    if label is None:
        return list(items)
    if chosen := [item for item in items if item.label == label]:
        return chosen
    labels = sorted({item.label for item in items if item.label})
    if not labels:
        raise InputError(f"{name} has no labels, so there is no class {label!r}")
    near = difflib.get_close_matches(label, labels, n=3) or labels[:5]
    raise InputError(f"{label!r} is not one of the {len(labels)} labels of {name}; near: {', '.join(near)}")


def load_data(name: str, size: int | None = None, seed: int = 0) -> PictureData:
    """The data called `name` (see the table above).

    `size` limits the number of pictures: a draw by `seed` from a folder or a table, the first ones of the zoo's
    scenes of that seed (default 512). Raises InputError for unknown names and for data that cannot be read.
    """
    if size is not None and size < 2:
        raise InputError(f"size must be at least 2 pictures, got {size}")
    scheme, _, rest = name.partition(":")
    if name == "zoo:emoji-scenes":
        pictures = _emoji_scenes(size or DEFAULT_SIZE, seed)
    elif scheme == "folder" and rest:
        pictures = sampled(_folder(Path(rest)), size, seed)
    elif scheme == "csv" and rest:
        pictures = sampled(_table(Path(rest)), size, seed)
    else:
        raise InputError(f"unknown data {name!r}; expected one of {', '.join(SCHEMES)}")
    return PictureData(name, _digest(pictures), pictures)


def _emoji_scenes(size: int, seed: int) -> list[Picture]:
    from PIL import Image

    from conceptry.models.images import png_bytes
    from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

    halves = [
        EmojiScenes("heldout", size - size // 2, seed, n_objects=1),
        EmojiScenes("heldout", size // 2, seed, n_objects=2),
    ]
    pictures = []
    for scenes in halves:
        for index in range(len(scenes)):
            scene = scenes[index]
            single = len(scene.objects) == 1
            pictures.append(
                Picture(
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
    return pictures


def _folder(root: Path) -> list[Picture]:
    files = image_files(root)
    labelled = len({file.parent for file in files}) > 1
    return [Picture(file, label=file.parent.name if labelled else None) for file in files]


def _table(path: Path) -> list[Picture]:
    columns, rows = csv_rows(path)
    if "image" not in columns or set(columns) - {"image", "label", "caption", "concepts"}:
        found = ", ".join(sorted(set(columns))) or "none"
        raise InputError(f"{path}: expected the columns image and any of label, caption, concepts; got {found}")
    pictures = []
    for number, row in enumerate(rows, start=2):
        file = path.parent / (row["image"] or "")
        if not file.is_file():
            raise InputError(f"{path}, line {number}: no picture at {row['image']!r}")
        words = _words(row.get("concepts"))
        concepts = {"concepts": words} if words else {}
        pictures.append(Picture(file, row.get("label") or None, row.get("caption") or None, concepts))
    if not pictures:
        raise InputError(f"{path}: holds no rows")
    return pictures


def table_data(table: pd.DataFrame, labels: Sequence[object] | None, name: str) -> PictureData:
    """Data from a DataFrame with the column image (bytes or a path) and any of label, caption and concepts.

    `labels`, one for each row, stand in for a column label. Raises InputError naming the row that cannot be used.
    """
    pictures = []
    for row, source, label in picture_rows(table, labels):
        known = {key: str(row[key]) for key in ("label", "caption", "concepts") if isinstance(row.get(key), str)}
        if label is not None:
            known["label"] = label
        words = _words(known.get("concepts"))
        pictures.append(Picture(source, known.get("label"), known.get("caption"), {"concepts": words} if words else {}))
    return PictureData(name, _digest(pictures), pictures)


def csv_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a .csv file and its rows; raises InputError where there is no such file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        return list(reader.fieldnames or ()), list(reader)


def picture_rows(
    table: pd.DataFrame, labels: Sequence[object] | None
) -> Iterator[tuple[dict[Any, Any], bytes | Path, str | None]]:
    """The rows of a table of pictures, each with its picture and with its entry of `labels`, None where it has none.

    Raises InputError for a table without the column image, and naming the row whose picture cannot be used.
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


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(";") if word.strip())


def sampled(items: list[Item], size: int | None, seed: int) -> list[Item]:
    """A draw of `size` items by `seed`, in their order; all of them where there are no more, or for None."""
    if size is None or size >= len(items):
        return items
    import numpy as np

    chosen = np.random.default_rng(seed).choice(len(items), size, replace=False)
    return [items[i] for i in sorted(chosen)]


def _digest(pictures: Sequence[Picture]) -> str:
    total = hashlib.sha256()
    for picture in pictures:
        if isinstance(picture.source, bytes):
            content = hashlib.sha256(picture.source).hexdigest()
        else:
            content = sha256_file(picture.source)
        known = (picture.label, picture.caption, sorted(picture.concepts.items()))
        total.update(f"{content} {known!r}\n".encode())
    return total.hexdigest()
