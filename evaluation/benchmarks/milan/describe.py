r"""Descriptions by beam 50 and PMI, ours beside two loops that take every formula as it stands.

| implementation | takes |
|---|---|
| ours | the hypotheses of many units at once, see `conceptry.models.milan.describer.decoding` |
| a unit at a time | the hypotheses of one unit at once, every step of the decoder in full for each of them |
| a hypothesis at a time | one hypothesis of one unit, as a search is written down |

A step in full, for state (h, c) and last token s, over the exemplars' features f (k, F) of the unit:

    a = softmax_j w . tanh(W_q h + W_k f_j)        z = sigmoid(W_g h) * sum_j a_j f_j
    (h', c') = LSTMCell([e_s; z], (h, c))          log p = log softmax(W_o h')

and log p_LM(s) by running the language model over every found description anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from conceptry.evaluation.benchmarks.measure import Record, Target, median_ratio, rounds_side_by_side
from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.describer import Describer
from conceptry.models.milan.describer.language_model import LanguageModel
from conceptry.models.milan.settings import DecodingSettings

OURS, BY_UNIT, BY_HYPOTHESIS = "conceptry", "a unit at a time", "a hypothesis at a time"
CASE, TIMES, PER_SECOND, SAME = "descriptions", f"x {OURS}", "units per second", "same descriptions"
SCORE_TOLERANCE = 1e-3  # of sums of up to 30 log-probabilities in float32, rounded in another order


@dataclass(frozen=True)
class Found:
    """The best description of a unit by the loops: its tokens up to the stop, and its score."""

    tokens: tuple[int, ...]
    score: float


def descriptions(
    describer: Describer, features: Tensor, rounds: int, n_units: int, n_literal: int, settings: DecodingSettings
) -> tuple[list[Record], list[Target]]:
    """All three over `features` (n, k, F): ours of the first n_units, the loops of as many of them as a round bears.

    n_literal: units a round of the loop over units; the loop over hypotheses takes a quarter of them, one at least.
    """
    features = features[:n_units]
    few, fewer = features[:n_literal], features[: max(1, n_literal // 4)]
    turns: dict[str, Callable[[], object]] = {
        OURS: partial(describer.describe_features, features, settings),
        BY_UNIT: lambda: [best_of_unit(describer, unit, settings) for unit in few],
        BY_HYPOTHESIS: lambda: [best_of_unit(describer, unit, settings, one_by_one=True) for unit in fewer],
    }
    taken = {OURS: len(features), BY_UNIT: len(few), BY_HYPOTHESIS: len(fewer)}
    seconds = rounds_side_by_side(turns, rounds)
    of_each = {name: [s / taken[name] for s in found] for name, found in seconds.items()}
    records, ratios = [], {name: median_ratio(of_each[name], of_each[OURS]) for name in turns}
    for name in turns:
        middle = sorted(of_each[name])[len(of_each[name]) // 2]
        extra = {"units": taken[name], PER_SECOND: 1 / middle, TIMES: ratios[name]}
        if name != OURS:
            extra[SAME] = agreement(describer, few if name == BY_UNIT else fewer, settings, name == BY_HYPOTHESIS)
        case = f"{CASE}, beam {settings.beam_size}, {settings.strategy}, one unit"
        records.append(Record(case, name, middle, extra=extra))
    alike = min(r.extra.get(SAME, 1.0) for r in records)
    targets = [
        Target("units per second, times the literal loop", ratios[BY_HYPOTHESIS], 10, "min"),
        Target("units per second, times a unit at a time", ratios[BY_UNIT], 3, "min"),
        Target("share of units that ours and the loops describe alike", alike, 1, "min"),
    ]
    return records, targets


def agreement(describer: Describer, features: Tensor, settings: DecodingSettings, one_by_one: bool) -> float:
    """Share of units (n, k, F) that ours describes with the loop's tokens and score."""
    ours = describer.describe_features(features, settings)
    theirs = [best_of_unit(describer, unit, settings, one_by_one) for unit in features]
    same = [
        describer.vocabulary.detokenize(loop.tokens) == found.text and abs(loop.score - found.score) < SCORE_TOLERANCE
        for found, loop in zip(ours, theirs, strict=True)
    ]
    return sum(same) / len(same)


@torch.no_grad()
def best_of_unit(describer: Describer, features: Tensor, settings: DecodingSettings, one_by_one: bool = False) -> Found:
    """Beam search, then argmax of log p(s | E) - T log p_LM(s). features: (k, F) of one unit."""
    decoder, start = describer.decoder, describer.vocabulary.special.start
    stop, beam = describer.vocabulary.special.stop, min(settings.beam_size, len(describer.vocabulary))
    mean = features.mean(dim=0, keepdim=True)
    hidden, cell = torch.tanh(decoder.initial_hidden(mean)), torch.tanh(decoder.initial_cell(mean))
    # A hypothesis: its score, its tokens, and the row of the last step that its state is in.
    hypotheses: list[tuple[float, tuple[int, ...], int]] = [(0.0, (), 0)]
    for _ in range(settings.length):
        going = [h for h in hypotheses if not h[1] or h[1][-1] != stop]
        if not going:
            break
        last = torch.tensor([tokens[-1] if tokens else start for _, tokens, _ in going])
        rows = torch.tensor([row for *_, row in going])
        states = _steps(decoder, features, last, hidden[rows], cell[rows], one_by_one)
        log_p, hidden, cell = states
        # Of each hypothesis no more than `beam` continuations can survive.
        best, tokens = log_p.topk(beam, dim=1)
        found = [h for h in hypotheses if h[1] and h[1][-1] == stop]
        for row, ((score, said, _), gains, words) in enumerate(zip(going, best.tolist(), tokens.tolist(), strict=True)):
            found += [(score + gain, (*said, word), row) for gain, word in zip(gains, words, strict=True)]
        hypotheses = sorted(found, key=lambda h: -h[0])[:beam]
    prior = _log_p_lm(describer.language_model, [tokens for _, tokens, _ in hypotheses], start, stop, one_by_one)
    scores = [score - settings.temperature * lm for (score, *_), lm in zip(hypotheses, prior, strict=True)]
    chosen = max(range(len(scores)), key=lambda i: scores[i])
    return Found(hypotheses[chosen][1], scores[chosen])


def _steps(
    decoder: Decoder, features: Tensor, tokens: Tensor, hidden: Tensor, cell: Tensor, one_by_one: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """log p (R, V), h' and c' (R, H) of R hypotheses, together or one by one."""
    if not one_by_one:
        return _step(decoder, features, tokens, hidden, cell)
    states = zip(tokens.split(1), hidden.split(1), cell.split(1), strict=True)
    parts = [_step(decoder, features, *state) for state in states]
    log_p, hidden, cell = (torch.cat(column) for column in zip(*parts, strict=True))
    return log_p, hidden, cell


def _step(
    decoder: Decoder, features: Tensor, tokens: Tensor, hidden: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    f = features.expand(len(tokens), *features.shape)
    energy = decoder.attention(torch.tanh(decoder.query(hidden)[:, None] + decoder.key(f)))
    attention = torch.softmax(energy, dim=1)
    context = torch.sigmoid(decoder.feature_gate(hidden)) * (attention * f).sum(dim=1)
    hidden, cell = decoder.lstm(torch.cat([decoder.embedding(tokens), context], dim=1), (hidden, cell))
    return torch.log_softmax(decoder.output(hidden), dim=1), hidden, cell


def _log_p_lm(
    model: LanguageModel, said: list[tuple[int, ...]], start: int, stop: int, one_by_one: bool
) -> list[float]:
    found: list[float] = []
    for tokens in [[one] for one in said] if one_by_one else [said]:
        lengths = torch.tensor([len(one) for one in tokens])
        length = int(lengths.max())
        rows = torch.tensor([[start, *one, *([stop] * (length - len(one)))] for one in tokens])
        hidden, _ = model.lstm(model.embedding(rows[:, :-1]))
        log_p = torch.log_softmax(model.output(hidden), dim=-1).gather(2, rows[:, 1:, None])[..., 0]
        found += (log_p * (torch.arange(length) < lengths[:, None])).sum(dim=1).tolist()
    return found
