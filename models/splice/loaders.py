"""Load a SpLiCE model by name, and decompose single images, classes and whole data sets from a loader."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from conceptry.models.encoders.load import ALIASES, load_encoder
from conceptry.models.errors import InputError
from conceptry.models.splice.dictionary import (
    PUBLISHED_MEANS,
    centred_dictionary,
    default_image_mean,
    embed_words,
    load_image_mean,
    load_text_mean,
)
from conceptry.models.splice.model import Splice
from conceptry.models.splice.vocabulary import load_vocabulary


def available_models() -> list[str]:
    """Encoders that `load` takes without an `image_mean`; any other open_clip name works with one."""
    return ["zoo:emoji-clip", *PUBLISHED_MEANS, *ALIASES]


def get_preprocess(name: str) -> Callable[[Image.Image], Tensor]:
    """The preprocessing of an encoder: RGB picture to pixels (3, height, width). Loads the encoder."""
    return load_encoder(name, "cpu").preprocess


def get_tokenizer(name: str) -> Callable[[Sequence[str]], Tensor]:
    """The tokeniser of an encoder: n strings to token ids (n, context). Loads the encoder."""
    return load_encoder(name, "cpu").tokenize  # type: ignore[attr-defined]  # all built-in encoders have it


def get_vocabulary(name: str, size: int | None = None) -> list[str]:
    """`load_vocabulary`, under the name of the published implementation."""
    return load_vocabulary(name, size)


def load(
    name: str = "zoo:emoji-clip",
    vocabulary: str = "emoji",
    vocabulary_size: int | None = None,
    device: str = "auto",
    *,
    image_mean: str | None = None,
    text_mean: str | None = None,
    l1_penalty: float = 0.25,
    solver: str = "active_set",
    tolerance: float = 1e-6,
    return_weights: bool = False,
    download_root: str | Path | None = None,
) -> Splice:
    """A SpLiCE model of an encoder (see `conceptry.models.encoders.load`) and a vocabulary, by name or by path.

    `image_mean` is "published", a file or a folder of pictures (default: what ships with the encoder, else
    "published"); `text_mean` a file, or a text file of captions (default: the mean of the vocabulary).
    `download_root` is the folder for published weights, vocabularies and means (default: the caches of open_clip and
    of conceptry).
    Raises InputError where a name, a path or a size is not acceptable.
    """
    encoder = load_encoder(name, device, download_root=download_root)
    words = load_vocabulary(vocabulary, vocabulary_size, download_root=download_root)
    dictionary, vocabulary_mean = centred_dictionary(embed_words(encoder, words), words)
    return Splice(
        encoder,
        words,
        dictionary,
        load_image_mean(image_mean or default_image_mean(encoder.name), encoder, download_root=download_root),
        load_text_mean(text_mean, encoder) if text_mean else vocabulary_mean,
        l1_penalty=l1_penalty,
        solver=solver,
        tolerance=tolerance,
        return_weights=return_weights,
    )


@dataclass(frozen=True)
class ConceptSummary:
    """Mean weights (words,), mean l0 and mean cosine over `count` images."""

    weights: Tensor
    l0: float
    cosine: float
    count: int

    def top(self, vocabulary: list[str], k: int) -> list[tuple[str, float]]:
        """The k heaviest words with their mean weights, descending; words of weight zero are left out."""
        values, indices = self.weights.topk(min(k, len(self.weights)))
        words = [vocabulary[i] for i in indices.tolist()]
        return [(word, value) for word, value in zip(words, values.tolist(), strict=True) if value > 0]


class _RunningMean:
    """Exact sums in float64, whatever the sizes of the batches."""

    def __init__(self, words: int, device: torch.device) -> None:
        self.weights = torch.zeros(words, dtype=torch.float64, device=device)
        self.l0 = self.cosine = 0.0
        self.count = 0

    def add(self, model: Splice, pixels: Tensor) -> None:
        assert model.encoder is not None
        explained = model.explain(model.encoder.encode_image(pixels), "image")
        self.weights += explained.decomposition.mean().double() * len(pixels)
        self.l0 += float(explained.decomposition.l0.sum())
        self.cosine += float(explained.cosine.double().sum())
        self.count += len(pixels)

    def summary(self, of: str) -> ConceptSummary:
        if not self.count:
            raise InputError(f"the loader holds no images {of}".rstrip())
        n = self.count
        return ConceptSummary((self.weights / n).float(), self.l0 / n, self.cosine / n, n)


def decompose_image(pixels: Tensor, model: Splice) -> ConceptSummary:
    """One preprocessed image, (3, height, width) or (1, 3, height, width)."""
    return decompose_dataset([pixels if pixels.ndim == 4 else pixels.unsqueeze(0)], model)


def decompose_dataset(loader: Iterable, model: Splice) -> ConceptSummary:
    """Mean decomposition of all images of a loader that yields pixels, or tuples whose first item is pixels."""
    mean = _RunningMean(len(model.vocabulary), model.dictionary.device)
    for batch in loader:
        mean.add(model, batch[0] if isinstance(batch, (tuple, list)) else batch)
    return mean.summary("")


def decompose_classes(
    loader: Iterable[tuple[Tensor, Tensor]], model: Splice, target_label: int | None = None
) -> dict[int, ConceptSummary]:
    """Mean decomposition by class of a loader of (pixels, labels); only of `target_label` where it is given.

    Raises InputError where `target_label` does not occur.
    """
    means: dict[int, _RunningMean] = {}
    for pixels, labels in loader:
        present = labels.unique().tolist() if target_label is None else [target_label]
        for label in present:
            if len(chosen := pixels[labels == label]):
                mean = means.setdefault(label, _RunningMean(len(model.vocabulary), model.dictionary.device))
                mean.add(model, chosen)
    if target_label is not None and target_label not in means:
        raise InputError(f"the loader holds no images of class {target_label}")
    return {label: means[label].summary("") for label in sorted(means)}
