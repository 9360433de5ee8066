"""Images that SpLiCE versions are evaluated on, with what is known of each.

| name | what |
|---|---|
| `zoo:emoji-scenes` | held-out scenes of the emoji world: half with one object (labelled), half with two (captioned) |
| `zoo:emoji-spurious` | scenes of one object (labelled), never on the colour that goes with its class |
| `zoo:emoji-spurious#train` | the same, but nearly always on it |
| `folder:PATH` | images; the folder that each lies in is its label where there are several |
| `csv:PATH` | a table with the columns image (path), and any of label, caption, concepts (separated by ;) |
| `SCHEME:ROOT` | cifar10, cifar100, imagenet, celeba, waterbirds or coco in its published layout (see `published`) |

`#train` at the end of the last names the training images. Classes go by name or by number. `?suppress=WORD` at the end
of any of them, with more words after commas, has every answer leave out the words.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote

import pandas as pd
from PIL import Image

from conceptry.evaluation.data import EvaluationData, csv_rows, draw_sample, folder_images, image_rows
from conceptry.evaluation.isolation.client import Answer, Predict
from conceptry.evaluation.splice import published
from conceptry.evaluation.splice.published import AnnotatedImage
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from conceptry.models.manifest import sha256_file
from conceptry.models.method import whole_number

if TYPE_CHECKING:
    from conceptry.models.zoo.emoji_world.scenes import Scene

DEFAULT = "zoo:emoji-scenes"
SPURIOUS = "zoo:emoji-spurious"
SCHEMES = (DEFAULT, SPURIOUS, "folder:PATH", "csv:PATH", *(f"{scheme}:ROOT" for scheme in published.SCHEMES))
DEFAULT_SIZE = 512
SUPPRESS = "?suppress="


@dataclass(frozen=True)
class ImageData(EvaluationData):
    """Images to evaluate on.

    classes: their names in the order of their numbers, where classes have numbers; suppressed: words that every answer
    leaves out; classifier: name of the one whose classes the version's encoder mixes, where it is made of one.
    """

    unit: ClassVar[str] = "pictures"
    images: Sequence[AnnotatedImage]
    classes: tuple[str, ...] = ()
    suppressed: tuple[str, ...] = ()
    classifier: str = ""

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

    def through(self, predict: Predict) -> Predict:
        return Suppressing(predict, self.suppressed) if self.suppressed else predict


@dataclass(frozen=True)
class Suppressing:
    """`Predict` that sets the weights of `words` to zero in every answer, beside those that a request names."""

    predict: Predict
    words: tuple[str, ...]

    def __call__(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Answer:
        asked = dict(params or {})
        return self.predict(rows, asked | {"suppress": [*self.words, *asked.get("suppress", ())]})

    @contextmanager
    def redrawn(self, share: float, seed: int = 0) -> Iterator[Predict]:
        """The version with layers drawn anew, asked in the same way."""
        with self.predict.redrawn(share, seed) as other:
            yield Suppressing(other, self.words)


def without(name: str, words: Sequence[str]) -> str:
    """The name of the data `name`, "" for those by default, with `words` suppressed in every answer."""
    if not words:
        return name
    plain, known = parted(name)
    return f"{plain}{SUPPRESS}{','.join(quote(word, safe=' ') for word in dict.fromkeys((*known, *words)))}"


def parted(name: str) -> tuple[str, tuple[str, ...]]:
    """The name of the data themselves, and the words that are to be suppressed."""
    plain, _, words = name.partition(SUPPRESS)
    return plain, tuple(unquote(word) for word in words.split(",") if word)


def load_images(name: str, size: int | None = None, seed: int = 0) -> ImageData:
    """Read the data called `name` (see the table above).

    `size` limits the number of images: a draw by `seed` from a folder or a table, the first ones of the zoo's scenes
    of that seed (default 512). Raises InputError for unknown names and for data that cannot be read.
    """
    if size is not None and size < 2:
        raise InputError(f"size must be at least 2 pictures, got {size}")
    plain, suppressed = parted(name)
    scheme, _, rest = plain.partition(":")
    classes: tuple[str, ...] = ()
    if plain == DEFAULT:
        images = _emoji_scenes(size or DEFAULT_SIZE, seed)
    elif plain.partition("#")[0] == SPURIOUS:
        images = _spurious_scenes(plain, size or DEFAULT_SIZE, seed)
    elif scheme == "folder" and rest:
        images = [AnnotatedImage(i.source, i.label) for i in draw_sample(folder_images(Path(rest)), size, seed)]
    elif scheme == "csv" and rest:
        images = draw_sample(_table(Path(rest)), size, seed)
    elif scheme in published.SCHEMES and rest:
        source = published.published(scheme, rest)
        images = [source.read(i) for i in draw_sample(range(source.count), size, seed)]
        classes = source.classes
    else:
        raise InputError(f"unknown data {plain!r}; expected one of {', '.join(SCHEMES)}")
    if not images:
        raise InputError(f"{plain}: holds no pictures")
    return ImageData(name, content_digest(images, suppressed), images, classes, suppressed)


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
        images.append(AnnotatedImage(source, known.get("label"), _sentences(known.get("caption")), concepts))
    return ImageData(name, content_digest(images), images)


def _emoji_scenes(size: int, seed: int) -> list[AnnotatedImage]:
    from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

    halves = [
        EmojiScenes("heldout", size - size // 2, seed, n_objects=1),
        EmojiScenes("heldout", size // 2, seed, n_objects=2),
    ]
    return [_scene(scenes[index]) for scenes in halves for index in range(len(scenes))]


def _spurious_scenes(name: str, size: int, seed: int) -> list[AnnotatedImage]:
    from conceptry.models.zoo.emoji_world.scenes import SpuriousScenes

    _, _, split = name.partition("#")
    if split not in ("", published.TRAIN):
        raise InputError(f"{name}: after # comes train, for scenes to train on, or nothing at all")
    scenes = SpuriousScenes("mixed" if split else "disagreeing", size, seed)
    return [_scene(scenes[index]) for index in range(len(scenes))]


def _scene(scene: "Scene") -> AnnotatedImage:
    single = len(scene.objects) == 1
    return AnnotatedImage(
        source=png_bytes(Image.fromarray(scene.image)),
        label=scene.objects[0] if single else None,
        captions=() if single else (scene.caption,),
        concepts={"objects": scene.objects, "colour": (scene.colour,), "pattern": (scene.pattern,)},
    )


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
        images.append(AnnotatedImage(file, row.get("label") or None, _sentences(row.get("caption")), concepts))
    if not images:
        raise InputError(f"{path}: holds no rows")
    return images


def _sentences(text: str | None) -> tuple[str, ...]:
    return (text,) if text else ()


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(";") if word.strip())


def content_digest(images: Sequence[AnnotatedImage], suppressed: Sequence[str] = ()) -> str:
    """SHA-256 over images, what is known of them, and the words that answers about them leave out."""
    total = hashlib.sha256()
    for image in images:
        if isinstance(image.source, bytes):
            content = hashlib.sha256(image.source).hexdigest()
        else:
            content = sha256_file(image.source)
        sentences = image.captions if len(image.captions) > 1 else image.caption
        known = (image.label, sentences, sorted(image.concepts.items()))
        total.update(f"{content} {known!r}\n".encode())
    if suppressed:
        total.update(f"without {sorted(suppressed)!r}\n".encode())
    return total.hexdigest()
