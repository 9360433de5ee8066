r"""Descriptions one token at a time: the most probable, drawn at random, given, or the best of a beam search.

| symbol | meaning | shape |
|---|---|---|
| n | units | |
| S | hypotheses of each unit that are returned | |
| L | tokens at most | |
| V | tokens of the vocabulary, the special ones among them | |
| log p(s \| E) | sum of log-probabilities up to the first stop, the stop included | (n, S) |
| b, B | hypotheses of each unit before and after a step of the search, at most V | |
| J | what the search ranks by: log p(s \| E), or for mi log p(s \| E) - T log p_LM(s) | (n, B) |
| R | rows: the hypotheses that have not said stop, unit by unit, in their order | |

A step of the search takes, of a unit's finished hypotheses and of every token after every other one, the B of the
greatest J; ties go to the hypothesis that ranked higher, then to the token of the lower number. There is no
normalisation by length, and after L tokens what has not said stop is left as it is.

The search is equal, but for rounding, to a loop over units and hypotheses that takes every step of the decoder anew.
What makes it faster: the rows of all units are one batch; finished hypotheses take no steps; and a state's share of the
next step is computed once for all the tokens that follow it (see `decoder`), and only where one of them has survived.
The language model of mi, which knows no units, takes one step for each distinct beginning, whichever units share it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from conceptry.models.milan.describer.decoder import Decoder, DecoderState, Prepared, advance
from conceptry.models.milan.describer.language_model import LanguageModel, Prefixes
from conceptry.models.milan.describer.vocabulary import SpecialTokens
from conceptry.models.milan.settings import LENGTH


class Hypotheses(NamedTuple):
    """Descriptions of n units, the best of each first.

    tokens: int64 (n, S, L), pads after the first stop. scores: (n, S), what ranked them. log_likelihood: (n, S).
    """

    tokens: Tensor
    scores: Tensor
    log_likelihood: Tensor


@torch.no_grad()
def greedy(decoder: Decoder, features: Tensor, length: int = LENGTH) -> Hypotheses:
    """The most probable token after the most probable token: one hypothesis (S = 1) of each unit."""
    n, special = len(features), decoder.special
    exemplars, weights = decoder.exemplars(features), decoder.weights()
    state = decoder.initial_state(features)
    last = torch.full((n,), special.start, device=features.device)
    tokens = torch.full((n, length), special.pad, device=features.device)
    total = features.new_zeros(n)
    going = torch.ones(n, dtype=torch.bool, device=features.device)
    for t in range(length):
        state = advance(decoder.prepare(exemplars, state, weights), decoder.token_gates(last))
        best, last = decoder.log_probabilities(state.hidden, weights).max(dim=-1)
        tokens[going, t] = last[going]
        total += torch.where(going, best, 0)
        going &= last != special.stop
        if not going.any():
            break
    return Hypotheses(tokens[:, None], total[:, None], total[:, None])


@torch.no_grad()
def sample(decoder: Decoder, features: Tensor, seed: int, draws: int = 1, length: int = LENGTH) -> Hypotheses:
    """`draws` descriptions of each unit (S = draws), drawn from p(s | E) and left in the order in which they came.

    The random numbers of a draw are those of its seed and its number, whatever the unit, so that a unit's descriptions
    do not depend on the others. A token is the first whose cumulated probability exceeds its number.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand((draws, length), generator=generator, dtype=torch.float64).to(features.device)
    n, special = len(features), decoder.special
    exemplars, weights = decoder.exemplars(features), decoder.weights()
    units = torch.arange(n, device=features.device).repeat_interleave(draws)
    state = DecoderState(*(part[units] for part in decoder.initial_state(features)))
    last = torch.full_like(units, decoder.special.start)
    tokens = torch.full((n * draws, length), special.pad, device=features.device)
    total = features.new_zeros(n * draws)
    going = torch.ones_like(units, dtype=torch.bool)
    for t in range(length):
        state = advance(decoder.prepare(exemplars, state, weights, units), decoder.token_gates(last))
        log_p = decoder.log_probabilities(state.hidden, weights)
        cumulated = log_p.double().exp().cumsum(dim=-1)
        threshold = uniform[:, t].repeat(n)[:, None] * cumulated[:, -1:]
        last = (cumulated <= threshold).sum(dim=-1)
        tokens[going, t] = last[going]
        total += torch.where(going, log_p.gather(1, last[:, None]).squeeze(1), 0)
        going &= last != special.stop
        if not going.any():
            break
    return Hypotheses(tokens.view(n, draws, length), total.view(n, draws), total.view(n, draws))


@torch.no_grad()
def score_captions(decoder: Decoder, features: Tensor, tokens: Tensor) -> Tensor:
    """log p(s | E) (n, S) of given descriptions (n, S, L), as `Vocabulary.encode` gives them: forced decoding."""
    n, s, length = tokens.shape
    exemplars, weights = decoder.exemplars(features), decoder.weights()
    units = torch.arange(n, device=features.device).repeat_interleave(s)
    state = DecoderState(*(part[units] for part in decoder.initial_state(features)))
    rows = tokens.reshape(n * s, length)
    last = torch.full_like(units, decoder.special.start)
    total = features.new_zeros(n * s)
    going = torch.ones_like(units, dtype=torch.bool)
    for t in range(length):
        state = advance(decoder.prepare(exemplars, state, weights, units), decoder.token_gates(last))
        last = rows[:, t]
        gained = decoder.log_probabilities(state.hidden, weights).gather(1, last[:, None]).squeeze(1)
        total += torch.where(going, gained, 0)
        going &= last != decoder.special.stop
        if not going.any():
            break
    return total.view(n, s)


def row_numbers(finished: Tensor) -> Tensor:
    """int64 (n, b): the row of each hypothesis that goes on; of a finished one (True), another's or 0."""
    return ((~finished).flatten().cumsum(0) - 1).clamp(min=0).view(finished.shape)


def best_continuations(scores: Tensor, finished: Tensor, gains: Tensor, stop: int, size: int) -> tuple[Tensor, Tensor]:
    """The `size` = B continuations of the greatest score of each unit: its parent and its token, int64 (n, B) each.

    scores, finished: (n, b). gains: (R, V), what each token adds. A finished hypothesis has one continuation: itself,
    by another stop. The best comes first; ties go to the lower parent, then to the lower token.
    """
    choose = _by_kernel if scores.device.type == "cpu" else _by_threshold
    places = choose(scores, finished, gains, stop, size)
    return places.div(gains.shape[-1], rounding_mode="floor"), places % gains.shape[-1]


def _by_kernel(scores: Tensor, finished: Tensor, gains: Tensor, stop: int, size: int) -> Tensor:
    """int64 (n, B): parent V + token."""
    from conceptry.models.milan.describer._kernels import select

    places = torch.empty((len(scores), size), dtype=torch.int64)
    now, ended, gained = (part.contiguous().numpy() for part in (scores, finished, gains))
    select(now, ended, gained, stop, places.numpy(), scores.new_empty(places.shape).numpy())
    return places


def _by_threshold(scores: Tensor, finished: Tensor, gains: Tensor, stop: int, size: int) -> Tensor:
    """int64 (n, B): parent V + token, on any device, from all candidates at once (n, b V)."""
    candidates = scores.new_full((scores.numel(), gains.shape[-1]), -torch.inf)
    going = ~finished.flatten()
    candidates[going] = scores.flatten()[going, None] + gains
    candidates[:, stop] = torch.where(going, candidates[:, stop], scores.flatten())
    return largest(candidates.view(len(scores), -1), size)


def largest(values: Tensor, size: int) -> Tensor:
    """int64 (n, size): the places of the greatest of values (n, m), the greatest first; ties go to the lower place."""
    # torch.topk says nothing of ties, so it gives the threshold alone.
    least = values.topk(size).values[:, -1:]
    above, equal = values > least, values == least
    open_places = size - above.sum(dim=1, keepdim=True)
    places = (above | (equal & (equal.cumsum(dim=1) <= open_places))).nonzero()[:, 1].view(-1, size)
    order = values.gather(1, places).argsort(dim=1, descending=True, stable=True)
    return places.gather(1, order)


_ROWS = 64


class _Beams(NamedTuple):
    """The hypotheses so far. tokens: (n, b, t); scores, log_likelihood, finished: (n, b)."""

    tokens: Tensor
    scores: Tensor
    log_likelihood: Tensor
    finished: Tensor


@torch.no_grad()
def beam_search(
    decoder: Decoder,
    features: Tensor,
    beam_size: int = 50,
    length: int = LENGTH,
    language_model: LanguageModel | None = None,
    temperature: float = 0.0,
) -> Hypotheses:
    """The B best hypotheses of each unit, the best first. features: (n, k, F).

    language_model, temperature: of the score of mi; without them it is the log-likelihood.
    """
    n, special = len(features), decoder.special
    beam_size = min(beam_size, decoder.n_tokens)
    exemplars, weights = decoder.exemplars(features), decoder.weights()
    zeros = features.new_zeros(n, 1)
    beams = _Beams(zeros.new_empty((n, 1, 0), dtype=torch.int64), zeros, zeros, zeros.bool())
    prepared = decoder.prepare(exemplars, decoder.initial_state(features), weights)
    state = advance(prepared, decoder.token_gates(torch.full((n,), special.start, device=features.device)))
    prefixes = None if language_model is None else Prefixes(language_model, n)
    for t in range(length):
        log_p = decoder.log_probabilities(state.hidden, weights)
        gains = log_p if prefixes is None else log_p - temperature * prefixes.log_p[prefixes.of]
        parents, tokens = best_continuations(beams.scores, beams.finished, gains, special.stop, beam_size)
        rows = row_numbers(beams.finished).gather(1, parents)
        beams = _extend(beams, parents, tokens, gains[rows, tokens], log_p[rows, tokens], special)
        going = ~beams.finished
        if t + 1 == length or not going.any():
            break
        rows, tokens, units = rows[going], tokens[going], going.nonzero()[:, 0]
        if prefixes is not None:
            prefixes.advance(rows, tokens)
        # Of the states, those that somebody follows; each belongs to one unit.
        distinct, place = rows.unique(return_inverse=True)
        units = torch.empty_like(distinct).scatter_(0, place, units)
        state = DecoderState(*(part[distinct] for part in state))
        prepared = decoder.prepare(exemplars, state, weights, units)
        spoken, said = tokens.unique(return_inverse=True)
        state = _follow(prepared, place, decoder.token_gates(spoken), said)
    missing = length - beams.tokens.shape[-1]
    tokens = functional.pad(beams.tokens, (0, missing), value=special.pad)
    return Hypotheses(tokens, beams.scores, beams.log_likelihood)


def _follow(prepared: Prepared, place: Tensor, token_gates: Tensor, said: Tensor) -> DecoderState:
    """The states of rows that follow states `place` by tokens `said`, some at a time, which stay in the cache."""
    parts = [
        advance(Prepared(prepared.gates[of], prepared.cell[of], prepared.attention[:0]), token_gates[token])
        for of, token in zip(place.split(_ROWS), said.split(_ROWS), strict=True)
    ]
    return DecoderState(torch.cat([part.hidden for part in parts]), torch.cat([part.cell for part in parts]))


def _extend(
    beams: _Beams, parents: Tensor, tokens: Tensor, gains: Tensor, log_p: Tensor, special: SpecialTokens
) -> _Beams:
    """The hypotheses that follow `parents` by `tokens`, (n, B) each as all the rest; a finished one by a pad."""
    ended = beams.finished.gather(1, parents)
    history = beams.tokens.gather(1, parents[:, :, None].expand(-1, -1, beams.tokens.shape[-1]))
    said = torch.where(ended, special.pad, tokens)
    return _Beams(
        torch.cat([history, said[:, :, None]], dim=-1),
        beams.scores.gather(1, parents) + torch.where(ended, 0, gains),
        beams.log_likelihood.gather(1, parents) + torch.where(ended, 0, log_p),
        ended | (tokens == special.stop),
    )
