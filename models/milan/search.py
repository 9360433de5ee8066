"""From the features of some units to their descriptions, by the strategy that the settings name.

| settings | candidates | ranked by |
|---|---|---|
| greedy, sample, beam | of that search | log p(s given E); drawn ones are left in their order |
| mi | of a beam search for the score | log p(s given E) - T log p_LM(s) |
| rerank | of beam | log p(s given E) - T log p_LM(s) |
| clip | of mi at clip_temperature | sum of cosines with the exemplars |
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conceptry.models.encoders.protocol import PackagedEncoder
from conceptry.models.milan.beam import beam_search
from conceptry.models.milan.clip_reranking import clip_scores
from conceptry.models.milan.decoder import Decoder
from conceptry.models.milan.decoding import Hypotheses, greedy, sample
from conceptry.models.milan.descriptions import Alternative, Description
from conceptry.models.milan.language_model import LanguageModel
from conceptry.models.milan.reranking import language_log_likelihood, ranked, rerank
from conceptry.models.milan.settings import GREEDY, MI, RERANK, SAMPLE, DecodingSettings
from conceptry.models.milan.vocabulary import Vocabulary

_HYPOTHESES = 4096  # of all the units that are searched at once


@dataclass(frozen=True)
class Models:
    """What a search asks: clip only where the settings say so."""

    decoder: Decoder
    language_model: LanguageModel
    vocabulary: Vocabulary
    clip: PackagedEncoder | None = None


def units_at_once(settings: DecodingSettings) -> int:
    """How many units a search takes: its memory is that of so many hypotheses."""
    of_each = {GREEDY: 1, SAMPLE: 1 + settings.alternatives}.get(settings.strategy, settings.beam_size)
    return min(max(_HYPOTHESES // of_each, 1), 256)


def describe_chunk(
    models: Models,
    features: Tensor,
    settings: DecodingSettings,
    exemplars: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Description]:
    """A description of each unit. features: (n, k, F). exemplars: images and masks, which only clip needs."""
    found = _candidates(models, features, settings)
    prior = language_log_likelihood(models.language_model, found.tokens)
    if settings.clip:
        assert exemplars is not None
        assert models.clip is not None
        texts = [[models.vocabulary.detokenize(row) for row in unit] for unit in found.tokens.tolist()]
        scores = clip_scores(models.clip, *exemplars, texts, settings.clip_weight)
        found, prior = ranked(found, prior, torch.stack(scores).to(prior))
    elif settings.strategy == RERANK:
        found, prior = rerank(found, prior, settings.temperature)
    return [_description(models.vocabulary, unit, settings.alternatives) for unit in _by_unit(found, prior)]


def _candidates(models: Models, features: Tensor, settings: DecodingSettings) -> Hypotheses:
    decoder, length = models.decoder, settings.length
    if settings.strategy == GREEDY:
        return greedy(decoder, features, length)
    if settings.strategy == SAMPLE:
        return sample(decoder, features, settings.seed, 1 + settings.alternatives, length)
    if settings.clip or settings.strategy == MI:
        temperature = settings.clip_temperature if settings.clip else settings.temperature
        return beam_search(decoder, features, settings.beam_size, length, models.language_model, temperature)
    return beam_search(decoder, features, settings.beam_size, length)


_Row = tuple[list[int], float, float, float]  # tokens, score, log p(s | E), log p_LM(s)


def _by_unit(found: Hypotheses, prior: Tensor) -> list[list[_Row]]:
    columns = zip(
        found.tokens.tolist(), found.scores.tolist(), found.log_likelihood.tolist(), prior.tolist(), strict=True
    )
    return [list(zip(*unit, strict=True)) for unit in columns]


def _description(vocabulary: Vocabulary, hypotheses: list[_Row], alternatives: int) -> Description:
    """The first hypothesis of one unit, and the next ones whose texts differ."""
    kept: dict[str, Alternative] = {}
    for tokens, score, likely, prior in hypotheses:
        text = vocabulary.detokenize(tokens)
        if text not in kept:
            kept[text] = Alternative(text, score, likely, likely - prior)
            if len(kept) > alternatives:
                break
    first, *others = kept.values()
    tokens, score, likely, prior = hypotheses[0]
    return Description(first.text, vocabulary.said(tokens), score, likely, prior, likely - prior, tuple(others))
