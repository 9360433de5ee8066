"""Mean decompositions of images, classes and data sets, as the published functions give them."""

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.splice.model import Splice


@dataclass(frozen=True, eq=False)
class ConceptSummary:
    """Mean weights (words,), mean l0 and mean cosine over `count` images; unpacks as (weights, l0, cosine)."""

    weights: Tensor
    l0: float
    cosine: float
    count: int

    def __iter__(self) -> Iterator[Any]:
        return iter((self.weights, self.l0, self.cosine))

    def top(self, vocabulary: list[str], k: int) -> list[tuple[str, float]]:
        """The k heaviest words with their mean weights, descending; words of weight zero are left out."""
        values, indices = self.weights.flatten().topk(min(k, self.weights.numel()))
        words = [vocabulary[i] for i in indices.tolist()]
        return [(word, value) for word, value in zip(words, values.tolist(), strict=True) if value > 0]


@dataclass(frozen=True, eq=False)
class ClassSummaries:
    """Summaries by label, `classes`, with l0 and cosine over the images of all of them.

    `summaries[label]` is the `ConceptSummary` of a class. It unpacks as ({label: weights (words,)}, l0, cosine).
    """

    classes: Mapping[int, ConceptSummary]
    l0: float
    cosine: float

    def __iter__(self) -> Iterator[Any]:
        return iter(({label: summary.weights for label, summary in self.classes.items()}, self.l0, self.cosine))

    def __getitem__(self, label: int) -> ConceptSummary:
        return self.classes[label]

    def __len__(self) -> int:
        return len(self.classes)

    def items(self) -> ItemsView[int, ConceptSummary]:
        """Labels with their summaries, by ascending label."""
        return self.classes.items()


class _RunningMean:
    """Exact sums in float64, whatever the sizes of the batches."""

    def __init__(self, model: Splice) -> None:
        self.model = model
        self.weights = torch.zeros(len(model.vocabulary), dtype=torch.float64, device=model.device)
        self.l0 = self.cosine = 0.0
        self.count = 0

    def add(self, images: Tensor) -> None:
        found = self.model.explain(self.model.embed_image(images), "image")
        self.weights += found.decomposition.mean().double() * len(images)
        self.l0 += float(found.decomposition.l0.sum())
        self.cosine += float(found.cosine.double().sum())
        self.count += len(images)

    def summary(self) -> ConceptSummary:
        n = self.count
        return ConceptSummary((self.weights / n).float(), self.l0 / n, self.cosine / n, n)


def decompose_image(image: Tensor, splicemodel: Splice, device: str | torch.device | None = None) -> ConceptSummary:
    """Decompose one preprocessed image.

    Args:
        image: (3, height, width), or a batch of one image, whose weights keep that dimension: (1, words). Where the
            model has no encoder, its embedding, (d,) or (1, d).
        splicemodel: a `Splice` or `SPLICE`.
        device: where the image goes first; the model has to be there.

    Returns:
        A summary that unpacks as (weights, l0, cosine).

    Raises:
        InputError: for several images, and for a device that the model is not on.
    """
    if not isinstance(image, Tensor):
        raise InputError(
            f"decompose_image takes the preprocessed pixels of an image, got {type(image).__name__}; preprocess it by "
            "the encoder (get_preprocess), or give it to explain as it is"
        )
    single = 1 if splicemodel.encoder is None else 3
    batch = image[None] if image.ndim == single else image
    if batch.ndim != single + 1 or len(batch) != 1:
        raise InputError(f"decompose_image takes one image, got shape {tuple(image.shape)}; see decompose_dataset")
    summary = decompose_dataset([batch], splicemodel, device)
    return replace(summary, weights=summary.weights.reshape(*image.shape[:-single], -1))


def decompose_dataset(
    dataloader: Iterable[Any], splicemodel: Splice, device: str | torch.device | None = None
) -> ConceptSummary:
    """Mean decomposition of all images of a loader.

    Args:
        dataloader: yields preprocessed images (batch, 3, height, width), or tuples that begin with them; embeddings
            (batch, d) where the model has no encoder.
        splicemodel: a `Splice` or `SPLICE`.
        device: where the images go first; the model has to be there.

    Returns:
        A summary that unpacks as (weights, l0, cosine).

    Raises:
        InputError: for a loader without images, and for a device that the model is not on.
    """
    _check_device(splicemodel, device)
    mean = _RunningMean(splicemodel)
    for batch in dataloader:
        images, *_ = _parts_of(batch)
        mean.add(images if device is None else images.to(device))
    if not mean.count:
        raise InputError("the loader holds no images")
    return mean.summary()


def decompose_classes(
    dataloader: Iterable[Any],
    label: int | None = None,
    splicemodel: Splice | None = None,
    device: str | torch.device | None = None,
    *,
    target_label: int | None = None,
) -> ClassSummaries:
    """Mean decomposition of each class of a loader.

    Args:
        dataloader: yields tuples that begin with images, as `decompose_dataset` takes them, and labels (batch,).
        label: the only class to decompose; None: all.
        splicemodel: a `Splice` or `SPLICE`.
        device: where the images go first; the model has to be there.
        target_label: `label` by its published name.

    Returns:
        Summaries by label, which unpack as ({label: weights}, l0, cosine).

    Raises:
        InputError: where the loader holds no images, or none of `label`; for a device that the model is not on.
    """
    if isinstance(label, Splice):  # the order of earlier releases: loader, model, label
        label, splicemodel = splicemodel, label  # type: ignore[assignment]
    label = target_label if label is None else label
    if splicemodel is None:
        raise InputError("decompose_classes needs a model: decompose_classes(dataloader, label, splicemodel)")
    _check_device(splicemodel, device)
    means: dict[int, _RunningMean] = {}
    for batch in dataloader:
        images, labels, *_ = _parts_of(batch, "images, labels")
        labels = torch.as_tensor(labels, device=images.device)
        for each in labels.unique().tolist() if label is None else [label]:
            if len(chosen := images[labels == each]):
                mean = means.setdefault(each, _RunningMean(splicemodel))
                mean.add(chosen if device is None else chosen.to(device))
    if not means:
        raise InputError("the loader holds no images" + ("" if label is None else f" of class {label}"))
    count = sum(mean.count for mean in means.values())
    return ClassSummaries(
        {each: means[each].summary() for each in sorted(means)},
        sum(mean.l0 for mean in means.values()) / count,
        sum(mean.cosine for mean in means.values()) / count,
    )


def _parts_of(batch: Any, expected: str = "images") -> tuple[Any, ...]:
    """The parts of a batch, which begins with images. Raises InputError for any other."""
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    if len(parts) < len(expected.split()) or not isinstance(parts[0], Tensor):
        keys = f" with {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else ""
        raise InputError(
            f"a batch of the loader must be a tensor of preprocessed images, or a tuple ({expected}, ...), got "
            f"{type(batch).__name__}{keys}"
        )
    return parts


def _check_device(model: Splice, device: str | torch.device | None) -> None:
    """Raise InputError unless `device`, where one is given, is that of the model."""
    if device is None:
        return
    wanted, there = torch.device(device), model.device
    if wanted.type != there.type or (wanted.index or 0) != (there.index or 0):
        raise InputError(
            f"the model is on {there} and the images would go to {wanted}; move the model by .to({str(wanted)!r})"
        )
