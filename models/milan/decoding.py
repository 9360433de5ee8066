r"""Descriptions one token at a time: the most probable, drawn at random, or given.

| symbol | meaning | shape |
|---|---|---|
| n | units | |
| S | hypotheses of each unit | |
| L | tokens at most | |
| log p(s \| E) | sum of log-probabilities up to the first stop, the stop included | (n, S) |
"""

from typing import NamedTuple

import torch
from torch import Tensor

from conceptry.models.milan.decoder import Decoder, DecoderState, advance
from conceptry.models.milan.vocabulary import LENGTH


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
    n, stop, pad = len(features), decoder.start + 1, decoder.start + 2
    exemplars, weights = decoder.exemplars(features), decoder.weights()
    state = decoder.initial_state(features)
    last = torch.full((n,), decoder.start, device=features.device)
    tokens = torch.full((n, length), pad, device=features.device)
    total = features.new_zeros(n)
    going = torch.ones(n, dtype=torch.bool, device=features.device)
    for t in range(length):
        state = advance(decoder.prepare(exemplars, state, weights), decoder.token_gates(last))
        best, last = decoder.log_probabilities(state.hidden, weights).max(dim=-1)
        tokens[going, t] = last[going]
        total += torch.where(going, best, 0)
        going &= last != stop
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
    n, stop, pad = len(features), decoder.start + 1, decoder.start + 2
    exemplars, weights = decoder.exemplars(features), decoder.weights()
    units = torch.arange(n, device=features.device).repeat_interleave(draws)
    state = DecoderState(*(part[units] for part in decoder.initial_state(features)))
    last = torch.full_like(units, decoder.start)
    tokens = torch.full((n * draws, length), pad, device=features.device)
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
        going &= last != stop
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
    last = torch.full_like(units, decoder.start)
    total = features.new_zeros(n * s)
    going = torch.ones_like(units, dtype=torch.bool)
    for t in range(length):
        state = advance(decoder.prepare(exemplars, state, weights, units), decoder.token_gates(last))
        last = rows[:, t]
        gained = decoder.log_probabilities(state.hidden, weights).gather(1, last[:, None]).squeeze(1)
        total += torch.where(going, gained, 0)
        going &= last != decoder.start + 1
        if not going.any():
            break
    return total.view(n, s)
