r"""From the features of some units to their descriptions, by the strategy that the settings name.

| settings | candidates | ranked by |
|---|---|---|
| greedy, sample, beam | of that search | log p(s \| E); drawn ones are left in their order |
| mi | of a beam search for the score | log p(s \| E) - T log p_LM(s) |
| rerank | of beam | log p(s \| E) - T log p_LM(s) |
| clip | of mi at clip_temperature | sum of cosines with the exemplars |

| symbol | meaning | shape |
|---|---|---|
| s | a description of the unit | |
| log p(s \| E), log p_LM(s) | its log-likelihood given the exemplars E, and for any unit | (n, S) |
| PMI | log p(s \| E) - log p_LM(s), their pointwise mutual information: how specific s is to the unit | (n, S) |
| T | temperature, the weight of the language model | scalar |
| x_j, m_j | an exemplar and its mask | (3, H, W), (1, H, W) |
| v(.), u(.) | a dual encoder's embedding of an image and of a text, of unit norm | (d,) |
| w | weight of the whole image, from 0 to 1 | scalar |

Log-likelihoods are in nats, of the words and the stop after them. The score of clip is

    score(s) = sum_j  (1 - w) v(m_j x_j) . u(s)  +  w v(x_j) . u(s)

where all is black outside of a mask. The original's factory left w at 1, so that masks were unused; here it is .5.

The tokeniser of an encoder of a closed vocabulary, such as zoo:emoji-clip, refuses words that it was never trained on,
and texts that are too long for it. Descriptions are in other words than captions, often in the plural: of "dogs on red
backgrounds" such an encoder is given "dog on red background" (`readable`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from conceptry.models.encoders.protocol import PackagedEncoder, encode_images, encode_texts
from conceptry.models.errors import InputError
from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.decoding import Hypotheses, beam_search, greedy, sample
from conceptry.models.milan.describer.language_model import LanguageModel, Prefixes
from conceptry.models.milan.describer.vocabulary import Vocabulary, tokenize
from conceptry.models.milan.settings import GREEDY, MI, RERANK, SAMPLE, DecodingSettings
from conceptry.models.milan.words import singulars


def readable(encoder: Any, texts: Sequence[str]) -> list[str]:
    """Each text that the encoder reads, as it is; of the others, the words that it knows as they are or in the
    singular, the first ones where all of them are too many. An encoder without a tokeniser of its own reads all.
    """
    if not hasattr(encoder, "tokenize"):
        return list(texts)
    known: dict[str, str] = {}  # of a word, what is read: "" for nothing

    def reads(text: str) -> bool:
        try:
            encoder.tokenize([text])
        except InputError:
            return False
        return True

    def reading(word: str) -> str:
        if word not in known:
            known[word] = next((form for form in (word, *singulars(word)) if reads(form)), "")
        return known[word]

    def shortened(text: str) -> str:
        words = list(filter(None, map(reading, tokenize(text))))
        while words and not reads(" ".join(words)):
            words.pop()
        return " ".join(words)

    return [text if reads(text) else shortened(text) for text in texts]


def clip_scores(
    encoder: PackagedEncoder, images: np.ndarray, masks: np.ndarray, texts: Sequence[Sequence[str]], weight: float
) -> list[Tensor]:
    """The score of each text of each unit, on the CPU.

    images: uint8 (n, k, 3, H, W). masks: (n, k, 1, H, W), not 0 where the unit is active. texts: of each of the n
    units. weight: w. A text that several units have is encoded once.
    """
    distinct = list(dict.fromkeys(text for unit in texts for text in unit))
    if not distinct:
        return [torch.zeros(0) for _ in texts]
    rows = {text: row for row, text in enumerate(distinct)}
    embedded = normalize(encode_texts(encoder, readable(encoder, distinct)), dim=-1)
    scores: list[Tensor] = []
    for of_unit, where, unit in zip(images, masks, texts, strict=True):
        summed = torch.zeros_like(embedded[0])
        for share, seen in ((1 - weight, of_unit * (where != 0)), (weight, of_unit)):
            if share:
                summed += share * normalize(encode_images(encoder, _as_images(seen)), dim=-1).sum(dim=0)
        scores.append((embedded[[rows[text] for text in unit]] * summed).sum(dim=-1).cpu())
    return scores


def _as_images(pixels: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1))) for image in pixels]


@dataclass(frozen=True)
class Alternative:
    """Another description. score: what it was ranked by; log_likelihood: log p(s | E)."""

    text: str
    score: float
    log_likelihood: float
    pmi: float


@dataclass(frozen=True)
class Description:
    """What a unit responds to.

    text: as people annotate, without a full stop; "" of a unit whose masks have no pixel. tokens: numbers of its words
    in the vocabulary. score: what chose it: log p(s | E) (greedy, sample, beam), log p(s | E) - T log p_LM(s) (mi,
    rerank), or the sum of cosines (clip). log_likelihood: log p(s | E); lm_log_likelihood: log p_LM(s); pmi: their
    difference. alternatives: other texts, the next best first.
    """

    text: str
    tokens: tuple[int, ...]
    score: float
    log_likelihood: float
    lm_log_likelihood: float
    pmi: float
    alternatives: tuple[Alternative, ...] = ()


NOTHING = Description("", (), 0.0, 0.0, 0.0, 0.0)


@torch.no_grad()
def language_log_likelihood(model: LanguageModel, tokens: Tensor) -> Tensor:
    """log p_LM (...) of rows of tokens (..., L).

    A beginning that several descriptions share, of one unit or of many, is computed once.
    """
    rows = tokens.reshape(-1, tokens.shape[-1])
    total = model.output.weight.new_zeros(len(rows))
    prefixes = Prefixes(model, len(rows))
    going = torch.arange(len(rows), device=rows.device)
    for t in range(rows.shape[-1]):
        said = rows[going, t]
        total[going] += prefixes.log_p[prefixes.of, said]
        kept = (said != model.special.stop).nonzero().squeeze(-1)
        if not len(kept) or t + 1 == rows.shape[-1]:
            break
        prefixes.advance(kept, said[kept])
        going = going[kept]
    return total.view(tokens.shape[:-1])


def rerank(hypotheses: Hypotheses, prior: Tensor, temperature: float) -> tuple[Hypotheses, Tensor]:
    """The hypotheses by log p(s | E) - T log p_LM(s), the greatest first, and log p_LM in that order.

    prior: log p_LM (n, S). Ties keep their order.
    """
    return rank(hypotheses, prior, hypotheses.log_likelihood - temperature * prior)


def rank(hypotheses: Hypotheses, prior: Tensor, scores: Tensor) -> tuple[Hypotheses, Tensor]:
    """The hypotheses by `scores` (n, S), the greatest first, and log p_LM in that order; ties keep their order."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    tokens = hypotheses.tokens.gather(1, order[:, :, None].expand_as(hypotheses.tokens))
    likelihood = hypotheses.log_likelihood.gather(1, order)
    return Hypotheses(tokens, scores.gather(1, order), likelihood), prior.gather(1, order)


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
        found, prior = rank(found, prior, torch.stack(scores).to(prior))
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
    return Description(first.text, vocabulary.word_tokens(tokens), score, likely, prior, likely - prior, tuple(others))
