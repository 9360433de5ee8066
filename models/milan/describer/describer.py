"""The describer: the exemplars of a unit in, a description and its probabilities out; and the folder that holds one.

| file | content |
|---|---|
| describer.json | sizes, the name of the feature encoder, where words and weights come from |
| decoder.safetensors, language_model.safetensors | weights |
| words.txt | words, the most frequent first |
| projection.safetensors | what features are projected by, where they are |
| encoder/ | the feature encoder; left out where its name finds it in the zoo |
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from conceptry.models.devices import resolve_device
from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.errors import InputError, closest, truncated_repr
from conceptry.models.manifest import read_json, read_tensors, write_json
from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.decoding import score_captions
from conceptry.models.milan.describer.features import (
    PROJECTION,
    FeatureEncoder,
    load_feature_encoder,
    read_feature_encoder,
    read_projection,
)
from conceptry.models.milan.describer.inputs import exemplar_arrays
from conceptry.models.milan.describer.language_model import LanguageModel
from conceptry.models.milan.describer.ranking import (
    NOTHING,
    Alternative,
    Description,
    Models,
    describe_chunk,
    language_log_likelihood,
    units_at_once,
)
from conceptry.models.milan.describer.vocabulary import Vocabulary, read_vocabulary, tokenize
from conceptry.models.milan.settings import SEARCH, DecodingSettings

__all__ = ["Alternative", "Describer", "Description", "load_describer", "read_describer"]

CONFIG, WORDS, ENCODER = "describer.json", "words.txt", "encoder"
SCHEMES = ("zoo:emoji-milan", "describer:FOLDER")


class Captions(NamedTuple):
    """What a describer says of n units: captions in words, scores (n,) that they were chosen by, and all the rest."""

    captions: tuple[str, ...]
    scores: Tensor
    descriptions: tuple[Description, ...]


class Describer:
    """A feature encoder, a decoder and a language model over one vocabulary.

    settings: of `describe` where it is given none. clip: the dual encoder that `settings.clip` ranks by, needed only
    there. provenance: what the folder says of words and weights. The modules are frozen and put in evaluation mode.

    Raises InputError where parts do not fit one another.
    """

    def __init__(
        self,
        encoder: FeatureEncoder,
        decoder: Decoder,
        language_model: LanguageModel,
        vocabulary: Vocabulary,
        settings: DecodingSettings | None = None,
        *,
        name: str = "describer",
        clip: PackagedEncoder | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        for part, found in (("decoder", decoder.n_tokens), ("language model", language_model.n_tokens)):
            if found != len(vocabulary):
                raise InputError(f"{name}: the {part} has {found} tokens, the vocabulary {len(vocabulary)}")
        if decoder.n_features != (given := encoder.n_features):
            raise InputError(f"{name}: the decoder reads {decoder.n_features} features, {encoder.name} gives {given}")
        self.name, self.vocabulary, self.encoder, self.clip = name, vocabulary, encoder, clip
        self.device = encoder.device
        self.decoder = decoder.eval().requires_grad_(False).to(self.device)
        self.language_model = language_model.eval().requires_grad_(False).to(self.device)
        self.settings = settings or DecodingSettings()
        self.provenance = dict(provenance or {})

    def features(self, images: np.ndarray | Tensor, masks: np.ndarray | Tensor) -> Tensor:
        """float32 (n, k, F) of images uint8 (n, k, 3, H, W) and masks (n, k, 1, H, W)."""
        return self.encoder(images, masks)

    def __call__(
        self, images_or_features: np.ndarray | Tensor, masks: np.ndarray | Tensor | None = None, **settings: Any
    ) -> "Captions":
        """Describe units as the original's decoder does.

        Args:
            images_or_features: images (n, k, 3, H, W), uint8 or in [0, 1], of n units; without masks, features
                (n, k, F).
            masks: (n, k, 1, H, W), not 0 where the unit is active.
            **settings: fields of `DecodingSettings`, such as strategy, temperature and beam_size.

        Returns:
            Captions of the n units, with what each was chosen by.

        Raises:
            InputError: for unknown settings, values outside their range, and arrays that do not fit one another.

        Example:
            >>> import numpy as np
            >>> from conceptry.models.milan import load_describer
            >>> decoder = load_describer("zoo:emoji-milan")
            >>> images, masks = np.zeros((1, 2, 3, 64, 64)), np.ones((1, 2, 1, 64, 64))
            >>> len(decoder(images, masks, strategy="greedy").captions)
            1
        """
        if unknown := sorted(settings.keys() - set(SEARCH)):
            raise InputError(f"unknown setting {unknown[0]!r} of a describer; expected one of {', '.join(SEARCH)}")
        chosen = dataclasses.replace(self.settings, **{n: v for n, v in settings.items() if v is not None})
        if masks is None:
            found = self.describe_features(torch.as_tensor(images_or_features), chosen)
        else:
            found = self.describe(images_or_features, masks, chosen)
        scores = torch.tensor([description.score for description in found], dtype=torch.float64)
        return Captions(tuple(description.text for description in found), scores, tuple(found))

    def describe(
        self,
        images: np.ndarray | Tensor,
        masks: np.ndarray | Tensor,
        settings: DecodingSettings | None = None,
    ) -> list[Description]:
        """A description of each of n units, which does not depend on the others.

        images: (n, k, 3, H, W), uint8 or in [0, 1]. masks: (n, k, 1, H, W), not 0 where the unit is active; a unit
        without such a pixel gets an empty text.
        """
        settings = settings or self.settings
        images, masks = exemplar_arrays(images, masks)
        if settings.clip and self.clip is None:
            raise InputError(f"{self.name}: clip needs a dual encoder to rank by, and none was given")
        if len(images) != len(masks):
            raise InputError(f"{len(images)} units have images, {len(masks)} have masks")
        descriptions = [NOTHING] * len(images)
        active = [unit for unit, mask in enumerate(masks) if mask.any()]
        chunk = units_at_once(settings)
        for units in (active[i : i + chunk] for i in range(0, len(active), chunk)):
            exemplars = np.stack([images[unit] for unit in units]), np.stack([masks[unit] for unit in units])
            for unit, found in zip(
                units, describe_chunk(self._models, self.features(*exemplars), settings, exemplars), strict=True
            ):
                descriptions[unit] = found
        return descriptions

    def describe_features(self, features: Tensor, settings: DecodingSettings | None = None) -> list[Description]:
        """A description of each of n units by their features (n, k, F); clip, which needs pictures, is refused."""
        settings = settings or self.settings
        if settings.clip:
            raise InputError("clip ranks by pictures: describe images and masks, or leave clip out")
        features = self._checked(features)
        parts = features.split(units_at_once(settings)) if len(features) else ()
        return [found for part in parts for found in describe_chunk(self._models, part, settings)]

    def score(self, features: Tensor, captions: Sequence[Sequence[str]]) -> list[list[Alternative]]:
        """How probable given captions are, some of each of the n units whose features (n, k, F) are given.

        Their score is the log-likelihood. Words outside of the vocabulary are scored as unknown.
        """
        features = self._checked(features)
        if len(features) != len(captions):
            raise InputError(f"{len(features)} units have features, {len(captions)} have captions")
        scored: list[list[Alternative]] = []
        for unit, texts in zip(features, captions, strict=True):
            if not texts:
                scored.append([])
                continue
            length = 1 + max(len(tokenize(text)) for text in texts)
            tokens = self.vocabulary.encode(texts, length).to(self.device)[None]
            likely = score_captions(self.decoder, unit[None], tokens)[0]
            pmi = likely - language_log_likelihood(self.language_model, tokens)[0]
            rows = zip(texts, likely.tolist(), pmi.tolist(), strict=True)
            scored.append([Alternative(text, value, value, gain) for text, value, gain in rows])
        return scored

    def save(self, directory: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write the folder that `read_describer` reads; weights as `dtype`, float16 for half the size."""
        from safetensors.torch import save

        directory.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(directory / WORDS)
        modules = {"decoder": self.decoder, "language_model": self.language_model}
        for name, module in modules.items():
            state = {key: tensor.to(dtype).contiguous().cpu() for key, tensor in module.state_dict().items()}
            (directory / f"{name}.safetensors").write_bytes(save(state))
        config = {name: module.sizes() for name, module in modules.items()}
        if not self.encoder.in_zoo:
            self.encoder.save(directory / ENCODER)
        if self.encoder.projection is not None:
            self.encoder.projection.save(directory / PROJECTION)
        named = {"encoder": self.encoder.public_name, "provenance": self.provenance}
        write_json(directory / CONFIG, config | named)

    @property
    def _models(self) -> Models:
        return Models(self.decoder, self.language_model, self.vocabulary, self.clip)

    def _checked(self, features: Tensor) -> Tensor:
        if features.ndim != 3 or features.shape[2] != self.decoder.n_features:
            expected = f"(n, k, {self.decoder.n_features})"
            raise InputError(f"features must be of shape {expected}, got {tuple(features.shape)}")
        return features.to(self.device)


def load_describer(name: str, device: str | torch.device = "auto", *, clip: PackagedEncoder | None = None) -> Describer:
    """The describer called `name`: `zoo:NAME` or `describer:FOLDER`; raises InputError for another name."""
    return read_describer(describer_directory(name), device, name=name, clip=clip)


def describer_directory(name: str) -> Path:
    """The folder of the describer called `name`; raises InputError for a name of neither form."""
    scheme, _, rest = name.partition(":")
    if scheme == "zoo" and rest:
        from conceptry.models.shipped import weights_directory

        return weights_directory(rest, "describer")
    if scheme == "describer" and rest:
        return Path(rest)
    near = closest(name, SCHEMES, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; expected one of {', '.join(SCHEMES)}"
    raise InputError(f"unknown describer {truncated_repr(name)}{hint}")


def read_describer(
    directory: Path, device: str | torch.device = "auto", *, name: str = "", clip: PackagedEncoder | None = None
) -> Describer:
    """The describer in a folder that `save` wrote; raises InputError where a file is missing or does not fit."""
    place = resolve_device(str(device))
    if not (directory / CONFIG).is_file():
        raise InputError(f"{directory}: holds no {CONFIG}; expected the folder of a describer")
    try:
        config = read_json(directory / CONFIG)
        decoder, language_model = Decoder(**config["decoder"]), LanguageModel(**config["language_model"])
        named, provenance = str(config["encoder"]), config["provenance"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{directory / CONFIG}: does not describe a describer ({error})") from None
    vocabulary = read_vocabulary(directory / WORDS)
    for part, module in (("decoder", decoder), ("language_model", language_model)):
        _fill(module, directory / f"{part}.safetensors")
    folder = directory / ENCODER
    encoder = read_feature_encoder(folder, place) if folder.is_dir() else load_feature_encoder(named, place)
    if (directory / PROJECTION).is_file():
        encoder = encoder.projected(read_projection(directory / PROJECTION))
    name = name or f"describer:{directory.name}"
    return Describer(encoder, decoder, language_model, vocabulary, name=name, clip=clip, provenance=provenance)


def _fill(module: nn.Module, path: Path) -> None:
    from conceptry.models.explained.checkpoints import fill

    if not path.is_file():
        raise InputError(f"{path.parent}: holds no {path.name}; expected the folder of a describer")
    fill(module, {name: tensor.float() for name, tensor in read_tensors(path).items()}, str(path))
