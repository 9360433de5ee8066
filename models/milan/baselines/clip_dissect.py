"""CLIP-Dissect on exemplars: the word that a dual encoder finds in a unit's exemplars more than in other pictures.

Oikarinen, Weng, "CLIP-Dissect: Automatic Description of Neuron Representations in Deep Vision Networks", ICLR 2023,
with its SoftWPMI. Nothing is trained, so it is a baseline, and a describer for domains without annotations.

| symbol | meaning | shape |
|---|---|---|
| x_j | exemplar j of the unit, the strongest first | - |
| w_t | word t of the dictionary | - |
| P_jt | softmax over t of a cos(x_j, w_t) | (k, N) |
| r_j | how sure exemplar j belongs to the unit: .998 falling to .97 | (k,) |
| R | reference pictures, n of them | - |

    log p(t|E) = mean_j log(1 + r_j (P_jt - 1)),    score_t = log p(t|E) - lambda log p(t|R)

Differences from the paper: the mean over j, not the sum, so that scores do not grow with k; what a word gets by itself
is its log p(t|R) on reference pictures, each as sure as the others (r = .984), instead of its mean probability for the
other units of the network, so that a unit's words do not depend on what is asked beside it. Exemplars are seen whole,
as there: masks only tell inactive units.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conceptry.models.encoders.load import read_encoder, save_encoder
from conceptry.models.encoders.protocol import PackagedEncoder, encode_images, encode_texts
from conceptry.models.errors import InputError
from conceptry.models.manifest import read_entries, read_json, write_json
from conceptry.models.milan.describer.ranking import NOTHING, Alternative, Description
from conceptry.models.milan.exemplars.sources import Source, open_source
from conceptry.models.milan.settings import CLIP_DISSECT, PHOTOS
from conceptry.models.shipped import weights_directory

RECORD, WORDS, ENCODER = "clip_dissect.json", "words.txt", "encoder"
FIRST, LAST = 0.998, 0.97
LEAST = 1e-7  # added under logarithms
MOST_WORDS = 100_000
REFERENCE_IMAGES = 500  # by which it is known how frequent words are


@dataclass(frozen=True)
class ClipDissectSettings:
    """sharpness: a, the factor of the cosines; weight: lambda, of the general frequency of a word."""

    sharpness: float = 10.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sharpness) and self.sharpness > 0):
            raise InputError(f"sharpness must be positive, got {self.sharpness}")
        if not (np.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"weight must be 0 or more, got {self.weight}")


class ClipDissect:
    """Names units by a word each. Create one by `build_clip_dissect`, which measures how frequent words are."""

    def __init__(
        self,
        encoder: PackagedEncoder,
        words: Sequence[str],
        log_frequency: np.ndarray,
        settings: ClipDissectSettings | None = None,
    ) -> None:
        """log_frequency: log p(t|R), float32 (N,)."""
        self.encoder, self.words, self.settings = encoder, tuple(words), settings or ClipDissectSettings()
        self.log_frequency = np.asarray(log_frequency, dtype=np.float32)
        if self.log_frequency.shape != (len(self.words),):
            raise InputError(f"expected one frequency for each of {len(self.words)} words")
        self._texts = _embedded_words(encoder, self.words)

    def describe(self, images: np.ndarray, masks: np.ndarray, alternatives: int = 5) -> list[Description]:
        """A word for each unit, given uint8 images (n, k, 3, H, W) and masks (n, k, 1, H, W) of their exemplars.

        alternatives: further words that are reported. A unit whose masks have no pixel gets an empty text. Raises
        InputError where the numbers differ.
        """
        if len(images) != len(masks):
            raise InputError(f"{len(images)} units have images, {len(masks)} have masks")
        return [self._describe(unit, mask, alternatives) for unit, mask in zip(images, masks, strict=True)]

    def save(self, directory: Path) -> None:
        """Write a self-contained folder: encoder, words, their frequency and the settings."""
        directory.mkdir(parents=True, exist_ok=True)
        save_encoder(self.encoder, directory / ENCODER, self.encoder.runtime)
        (directory / WORDS).write_text("".join(f"{word}\n" for word in self.words), encoding="utf-8")
        record = {"sharpness": self.settings.sharpness, "weight": self.settings.weight}
        write_json(directory / RECORD, record | {"log_frequency": [float(value) for value in self.log_frequency]})

    def _describe(self, images: np.ndarray, masks: np.ndarray, alternatives: int) -> Description:
        if not np.any(masks):
            return NOTHING
        likely = soft_likelihood(_log_shares(self._embedded(images), self._texts, self.settings.sharpness))
        scores = likely - self.settings.weight * self.log_frequency
        pmi = likely - self.log_frequency
        best, *others = np.argsort(-scores, kind="stable")[: alternatives + 1].tolist()
        return Description(
            self.words[best],
            (best,),
            float(scores[best]),
            float(likely[best]),
            float(self.log_frequency[best]),
            float(pmi[best]),
            tuple(Alternative(self.words[t], float(scores[t]), float(likely[t]), float(pmi[t])) for t in others),
        )

    def _embedded(self, images: np.ndarray) -> Tensor:
        shown = (Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images)
        return _unit_norm(encode_images(self.encoder, shown))


def build_clip_dissect(
    encoder: PackagedEncoder,
    words: Sequence[str],
    images: Iterable[Image.Image],
    settings: ClipDissectSettings | None = None,
) -> ClipDissect:
    """A describer over `words`, whose general frequency is measured on reference `images` (RGB).

    Raises InputError without words or pictures, for repeated words and for more than 100,000.
    """
    settings = settings or ClipDissectSettings()
    if not words or len(words) > MOST_WORDS:
        raise InputError(f"expected from 1 to {MOST_WORDS:,} words, got {len(words):,}")
    if repeated := [word for word, count in Counter(words).items() if count > 1]:
        raise InputError(f"the words must differ from one another, got {repeated[0]!r} more than once")
    shown = list(images)
    if not shown:
        raise InputError("the frequency of words is measured on pictures, got none")
    shares = _log_shares(_unit_norm(encode_images(encoder, shown)), _embedded_words(encoder, words), settings.sharpness)
    return ClipDissect(encoder, words, _soft(shares, np.array((FIRST + LAST) / 2)), settings)


def read_clip_dissect(directory: Path, device: torch.device) -> ClipDissect:
    """The describer that `save` wrote."""
    record = read_json(directory / RECORD)
    words = (directory / WORDS).read_text(encoding="utf-8").splitlines()
    settings = ClipDissectSettings(record["sharpness"], record["weight"])
    encoder = read_encoder(directory / ENCODER, device)
    return ClipDissect(encoder, words, np.array(record["log_frequency"]), settings)


def soft_likelihood(log_shares: np.ndarray) -> np.ndarray:
    """log p(t|E) (N,), float64, of the rows log P (k, N) of a unit's exemplars, the strongest first."""
    sure = FIRST - (FIRST - LAST) * np.arange(len(log_shares)) / len(log_shares)
    return _soft(log_shares, sure[:, None])


def _soft(log_shares: np.ndarray, sure: np.ndarray) -> np.ndarray:
    shares = np.exp(log_shares.astype(np.float64))
    return np.log(1 + sure * (shares - 1) + LEAST).mean(axis=0)


def _log_shares(images: Tensor, texts: Tensor, sharpness: float) -> np.ndarray:
    """log P (k, N) of unit-norm embeddings (k, d) and (N, d)."""
    return (sharpness * images @ texts.T).log_softmax(dim=-1).cpu().numpy()


def _embedded_words(encoder: PackagedEncoder, words: Sequence[str]) -> Tensor:
    return _unit_norm(encode_texts(encoder, words))


def _unit_norm(z: Tensor) -> Tensor:
    return torch.nn.functional.normalize(z, dim=-1)


def load_clip_dissect(
    words: str | Path | Sequence[str] | None, data: str | Source, encoder: PackagedEncoder
) -> ClipDissect:
    """A describer over `words`, a text file of one entry a line or the entries.

    By default they are the vocabulary of an encoder that ships, else that of the emoji world.

    data: a source, or the name of one, on whose first 500 images it is measured how frequent words are. Raises
    InputError where words or data cannot be had.
    """
    try:
        source: Any = open_source(data, REFERENCE_IMAGES) if isinstance(data, str) else data
    except InputError as error:
        raise InputError(f"{CLIP_DISSECT} asks how frequent words are in the data of the exemplars: {error}") from None
    numbers = range(min(len(source), REFERENCE_IMAGES))
    images = (Image.fromarray(np.ascontiguousarray(_image(source, number))) for number in numbers)
    return build_clip_dissect(encoder, _entries(words, encoder.name), images)


def _image(source: Any, number: int) -> np.ndarray:
    """One image of a source of pictures or items, uint8 (H, W, 3)."""
    if hasattr(source, "read_images"):
        return source.read_images([number])[0]
    return source.to_images(source.items([number]))[0].permute(1, 2, 0).cpu().numpy()


def _entries(words: str | Path | Sequence[str] | None, encoder: str) -> tuple[str, ...]:
    if words is None and encoder == PHOTOS:
        return tuple(read_entries(weights_directory(PHOTOS.removeprefix("zoo:")) / "vocabulary.txt"))
    if words is None:
        from conceptry.models.zoo.emoji_world.emoji import VOCABULARY

        return VOCABULARY
    if not isinstance(words, str | Path):
        return tuple(words)
    return tuple(read_entries(Path(words)))
