"""Images that SpLiCE versions are evaluated on, with what is known of each.

| name | what |
|---|---|
| `zoo:emoji-scenes` | held-out scenes of the emoji world: half with one object (labelled), half with two (captioned) |
| `folder:PATH` | images; the folder that each lies in is its label where there are several |
| `csv:PATH` | a table with the columns image (path), and any of label, caption, concepts (separated by ;) |
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd

from conceptry.evaluation.data import EvaluationData, LabelledImage, csv_rows, draw_sample, folder_images, image_rows
from conceptry.models.errors import InputError
from conceptry.models.manifest import sha256_file

DEFAULT = "zoo:emoji-scenes"
SCHEMES = (DEFAULT, "folder:PATH", "csv:PATH")
DEFAULT_SIZE = 512


@dataclass(frozen=True)
class AnnotatedImage(LabelledImage):
    """An image and what is known of it. caption: a sentence; concepts: true words by kind."""

    caption: str | None = None
    concepts: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageData(EvaluationData):
    """Images to evaluate on."""

    unit: ClassVar[str] = "pictures"
    images: Sequence[AnnotatedImage]

    @property
    def items(self) -> Sequence[AnnotatedImage]:
        return self.images


def load_images(name: str, size: int | None = None, seed: int = 0) -> ImageData:
    """Read the data called `name` (see the table above).

    `size` limits the number of images: a draw by `seed` from a folder or a table, the first ones of the zoo's scenes
    of that seed (default 512). Raises InputError for unknown names and for data that cannot be read.
    """
    if size is not None and size < 2:
        raise InputError(f"size must be at least 2 pictures, got {size}")
    scheme, _, rest = name.partition(":")
    if name == DEFAULT:
        images = _emoji_scenes(size or DEFAULT_SIZE, seed)
    elif scheme == "folder" and rest:
        images = [AnnotatedImage(i.source, i.label) for i in draw_sample(folder_images(Path(rest)), size, seed)]
    elif scheme == "csv" and rest:
        images = draw_sample(_table(Path(rest)), size, seed)
    else:
        raise InputError(f"unknown data {name!r}; expected one of {', '.join(SCHEMES)}")
    return ImageData(name, _digest(images), images)


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
    from PIL import Image

    from conceptry.models.images import png_bytes
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
