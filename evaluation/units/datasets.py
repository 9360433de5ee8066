"""Pictures with the classes of a network, in parts that are scored apart: what ablations are measured on.

| name | parts |
|---|---|
| `zoo:scenes-spurious` | agreeing, disagreeing: whether the background has the colour of the object's class |
| `zoo:NAME` | heldout: the held-out pictures of another data set of the zoo |
| `folder:PATH` | pictures: a folder for each class, called as the class |
"""

from collections.abc import Mapping

import numpy as np
import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import format_names
from conceptry.models.explained.protocol import PixelModel
from conceptry.models.milan.ablation import LabelledImages
from conceptry.models.milan.exemplars.inputs import Feed
from conceptry.models.milan.exemplars.sources import ArraySource, ImageSource, open_source

SPURIOUS = "scenes-spurious"
_BATCH = 128


def load_parts(name: str, model: PixelModel, size: int | None = None, seed: int = 0) -> dict[str, LabelledImages]:
    """The parts of the data called `name` (see the table), read for `model`.

    size: pictures of each part at most. Raises InputError for unknown names, for data without classes, and for
    classes that are not those of the network.
    """
    if size is not None and size < 1:
        raise InputError(f"size must be at least 1 picture, got {size}")
    if name == f"zoo:{SPURIOUS}":
        from conceptry.models.zoo.emoji_world.scenes import N_HELDOUT

        return _spurious(name, model, min(size or N_HELDOUT // 2, N_HELDOUT // 2), 0)
    source = open_source(name, size, seed)
    return {"heldout" if name.startswith("zoo:") else "pictures": read_labelled(source, model)}


def unseen_parts(name: str, model: PixelModel, size: int, seed: int) -> dict[str, LabelledImages] | None:
    """The parts of freshly drawn pictures like those called `name`, or None where none can be drawn."""
    if name != f"zoo:{SPURIOUS}":
        return None
    return _spurious(name, model, size, seed + 1)  # held-out scenes are of seed 0


def _spurious(name: str, model: PixelModel, size: int, seed: int) -> dict[str, LabelledImages]:
    """The parts of scenes of that seed; of seed 0 they are the first ones of the held-out rows."""
    from conceptry.models.zoo.emoji_world.scenes import CLASSES, SpuriousScenes, labelled

    parts = {}
    for part in ("agreeing", "disagreeing"):
        images, facts = labelled(SpuriousScenes(part, size, seed))
        parts[part] = read_labelled(ArraySource(name, images, facts[:, 0], CLASSES), model)
    return parts


def split_parts(
    parts: Mapping[str, LabelledImages], seed: int
) -> tuple[dict[str, LabelledImages], dict[str, LabelledImages]]:
    """Two halves of every part, drawn by `seed`."""
    halves: tuple[dict[str, LabelledImages], dict[str, LabelledImages]] = {}, {}
    for part, data in parts.items():
        if len(data.labels) < 2:
            raise InputError(f"{part}: expected two pictures or more, to choose by one half and score the other")
        order = np.random.default_rng(seed).permutation(len(data.labels))
        for half, rows in zip(halves, np.array_split(order, 2), strict=True):
            half[part] = LabelledImages(data.pixels[torch.from_numpy(rows)], data.labels[rows])
    return halves


def read_labelled(source: ImageSource, model: PixelModel) -> LabelledImages:
    """All pictures of `source` as `model` reads them. Raises InputError where their classes are not the network's."""
    if source.labels is None:
        raise InputError(f"{source.name}: accuracy needs classes: a folder for each, or a data set of the zoo")
    place = {name: number for number, name in enumerate(model.classes)}
    if unknown := [name for name in source.classes if name not in place]:
        raise InputError(
            f"{source.name}: class {unknown[0]!r} is not one of {model.name}; "
            f"expected some of {format_names(model.classes)}"
        )
    labels = np.array([place[source.classes[label]] for label in source.labels], dtype=np.int64)
    feed = Feed(model, source, model.name, None, None, None)
    pixels = [batch[0] for _, batch in feed.batches(np.arange(len(source)), _BATCH)]
    return LabelledImages(torch.cat(pixels), labels)
