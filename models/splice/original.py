"""The published implementation's names: the class SPLICE, `load`, and the means over images, classes and data sets.

For scripts that were written for AI4LIFE-GROUP/SpLiCE: names, order of arguments, defaults and results are theirs.
`SPLICE` is a `Splice` as well, so it explains and registers. Where the two differ:

| method | `Splice` | `SPLICE` |
|---|---|---|
| `decompose` | of embeddings as the encoder gives them, a `Decomposition` | of centred ones, dense weights |
| `encode_text` | decomposes | gives the unit embedding, unless `decomp_text` |
| `encode_image` | gives weights or z_hat | the same, with `return_cosine` a pair with the summed cosine |
"""

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from conceptry.models.devices import resolve_device
from conceptry.models.encoders.load import ALIASES, load_encoder
from conceptry.models.errors import InputError
from conceptry.models.splice.dictionary import PUBLISHED_MEANS
from conceptry.models.splice.model import Splice
from conceptry.models.splice.vocabulary import load_vocabulary

_SOLVERS = {"skl": "sklearn"}  # the published names that differ


class SPLICE(Splice):
    """SpLiCE as its users know it.

    Args:
        image_mean: (d,), mean of unit-norm image embeddings.
        dictionary: (words, d), centred and of unit norm.
        clip: an object with `encode_image` and `encode_text`; None where embeddings are given instead of images.
        solver: "active_set" (exact, fast), "skl" or "admm"; one meaning of the penalty for all.
        l1_penalty: lambda, as published for the solver "skl".
        return_weights: whether weights (batch, words) are returned rather than dense embeddings (batch, d).
        return_cosine: whether `encode_image` returns a pair, whose second entry is the sum of the cosines of z and
            z_hat over the batch.
        decomp_text: whether `encode_text` decomposes; that needs a `text_mean`.
        text_mean: (d,), mean of unit-norm text embeddings.
        device: where everything goes: cpu, cuda or cuda:INDEX.
        vocabulary: the words of the dictionary; without them, words go by their position.
        tolerance: largest duality gap of a converged solve.

    Example:
        >>> import torch
        >>> from conceptry.models import splice
        >>> dictionary = torch.eye(4)[:3]
        >>> model = splice.SPLICE(torch.zeros(4), dictionary, l1_penalty=0.2, return_weights=True)
        >>> model.encode_image(torch.tensor([[3.0, 4.0, 0.0, 0.0]]))
        tensor([[0.5000, 0.7000, 0.0000]])
    """

    def __init__(
        self,
        image_mean: Tensor | None,
        dictionary: Tensor,
        clip: Any = None,
        solver: str = "active_set",
        l1_penalty: float = 0.01,
        return_weights: bool = False,
        return_cosine: bool = False,
        decomp_text: bool = False,
        text_mean: Tensor | None = None,
        device: str | torch.device = "cpu",
        *,
        vocabulary: Sequence[str] | None = None,
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(
            clip,
            [str(i) for i in range(len(dictionary))] if vocabulary is None else vocabulary,
            dictionary,
            image_mean,
            text_mean,
            l1_penalty=l1_penalty,
            solver=_SOLVERS.get(solver, solver),
            tolerance=tolerance,
            return_weights=return_weights,
        )
        self.return_cosine = return_cosine
        self.decomp_text = decomp_text
        self.to(resolve_device(str(device)))

    @property
    def clip(self) -> Any:
        """The network behind the encoder, or the encoder where it is none of conceptry's; None without one."""
        network = getattr(self.encoder, "model", None)
        return network if isinstance(network, nn.Module) else self.encoder

    def decompose(  # pyright: ignore[reportIncompatibleMethodOverride]  # as published; see the table above
        self, embedding: Tensor
    ) -> Tensor:
        """Decompose embeddings (batch, d), centred and of unit norm, into dense weights (batch, words).

        Raises InputError naming the first row that is not of unit norm, as the encoder's own output.
        """
        return super().decompose(embedding, centred=True).to_dense()

    def encode_image(self, image: Tensor) -> Any:
        """Encode preprocessed images as z_hat (batch, d) or weights (batch, words), with `return_cosine` in a pair."""
        found = self.explain(self.embed_image(image), "image")
        answer = found.decomposition.to_dense() if self.return_weights else found.recomposed
        return (answer, found.cosine.sum()) if self.return_cosine else answer

    def encode_text(self, text: str | Sequence[str] | Tensor) -> Tensor:
        """Encode tokens or texts: unit embeddings (batch, d), with `decomp_text` z_hat or weights (batch, words)."""
        return super().encode_text(text) if self.decomp_text else self._unit(self.embed_text(text))


def available_models() -> list[str]:
    """Encoders that `load` takes without an `image_mean`; any other open_clip name works with one."""
    return ["zoo:emoji-clip", *PUBLISHED_MEANS, *ALIASES]


def get_preprocess(name: str) -> Callable[[Image.Image], Tensor]:
    """The preprocessing of an encoder: RGB picture to pixels (3, height, width). Loads the encoder."""
    return load_encoder(name, "cpu").preprocess


def get_tokenizer(name: str) -> Callable[[str | Sequence[str]], Tensor]:
    """The tokeniser of an encoder: a string or n of them to token ids (n, context). Loads the encoder."""
    return load_encoder(name, "cpu").tokenize  # type: ignore[attr-defined]  # all built-in encoders have it


def get_vocabulary(name: str, vocabulary_size: int | None = None, download_root: str | Path | None = None) -> list[str]:
    """Load a vocabulary as `load_vocabulary` does, by its published name; -1 keeps all words."""
    return load_vocabulary(name, None if vocabulary_size == -1 else vocabulary_size, download_root=download_root)


def load(
    name: str = "zoo:emoji-clip",
    vocabulary: str | Path | Sequence[str] = "emoji",
    vocabulary_size: int | None = None,
    device: str | torch.device | None = "auto",
    download_root: str | Path | None = None,
    *,
    image_mean: Tensor | str | None = None,
    text_mean: Tensor | str | None = None,
    l1_penalty: float = 0.25,
    solver: str = "active_set",
    tolerance: float = 1e-6,
    return_weights: bool = False,
    return_cosine: bool = False,
    decomp_text: bool = False,
) -> SPLICE:
    """A SpLiCE model as its users know it, by the names of an encoder and a vocabulary.

    Args:
        name: an encoder, such as "open_clip:ViT-B-32", "clip:ViT-B/16" or "zoo:emoji-clip".
        vocabulary: a name, a text file with one entry a line, or the words.
        vocabulary_size: keep the last (most important) words only; None or -1 keeps all.
        device: auto, cpu, cuda or cuda:INDEX; None is auto.
        download_root: the folder for published weights, vocabularies and means, instead of the caches of open_clip and
            of conceptry.
        image_mean: a tensor (d,), "published", a file or a folder of images; by default what ships with the encoder,
            else "published".
        text_mean: a tensor (d,), a file, or a text file of captions; by default the mean of the vocabulary.
        l1_penalty, solver, tolerance, return_weights, return_cosine, decomp_text: as `SPLICE` takes them.

    Returns:
        A `SPLICE`.

    Raises:
        InputError: where a name, a path or a size is not acceptable.

    Example:
        >>> from conceptry.models import splice
        >>> model = splice.load("zoo:emoji-clip", "emoji", -1, "cpu", l1_penalty=0.25, decomp_text=True)
        >>> model.return_weights = True
        >>> weights = model.encode_text("a dog")
        >>> model.vocabulary[int(weights.argmax())]
        'dog'
    """
    parts = Splice(
        name,
        vocabulary,
        image_mean=image_mean,
        text_mean=text_mean,
        vocabulary_size=None if vocabulary_size == -1 else vocabulary_size,
        device="auto" if device is None else device,
        download_root=download_root,
    )
    model = SPLICE(
        parts.image_mean,
        parts.dictionary,
        parts.encoder,
        solver,
        l1_penalty,
        return_weights,
        return_cosine,
        decomp_text,
        parts.text_mean,
        parts.device,
        vocabulary=parts.vocabulary,
        tolerance=tolerance,
    )
    model.sources = parts.sources
    return model


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
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
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
    for images, labels, *_ in dataloader:
        labels = torch.as_tensor(labels)
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


def _check_device(model: Splice, device: str | torch.device | None) -> None:
    """Raise InputError unless `device`, where one is given, is that of the model."""
    if device is None:
        return
    wanted, there = torch.device(device), model.device
    if wanted.type != there.type or (wanted.index or 0) != (there.index or 0):
        raise InputError(
            f"the model is on {there} and the images would go to {wanted}; move the model by .to({str(wanted)!r})"
        )
