r"""Beam search: the most probable descriptions of many units at once.

| symbol | meaning | shape |
|---|---|---|
| n | units | |
| B | hypotheses that each unit goes on with, at most the number of tokens | |
| V | tokens, the specials among them | |
| J | score: log p(s \| E), or for mi log p(s \| E) - T log p_LM(s) | (n, B) |
| R | rows: hypotheses of any unit that have not said stop | |

A step takes, of a unit's finished hypotheses and of every token after every other one, the B of the greatest J; ties go
to the hypothesis that ranked higher, then to the token of the lower number. There is no normalisation by length, and
after L tokens what has not said stop is left as it is.

Equal, but for rounding, to a loop over units and hypotheses that takes every step of the decoder anew. What makes it
faster: the rows of all units are one batch; finished hypotheses take no steps; and a state's share of the next step is
computed once for all the tokens that follow it (see decoder.py), and only where one of them has survived. The language
model of mi, which knows no units, takes one step for each distinct beginning, whichever units share it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from conceptry.models.milan.decoder import Decoder, DecoderState, Prepared, advance
from conceptry.models.milan.decoding import Hypotheses
from conceptry.models.milan.language_model import LanguageModel, Prefixes
from conceptry.models.milan.selection import best_continuations, row_numbers
from conceptry.models.milan.vocabulary import LENGTH

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
    n, start = len(features), decoder.start
    beam_size = min(beam_size, decoder.n_tokens)
    exemplars, weights = decoder.exemplars(features), decoder.weights()
    zeros = features.new_zeros(n, 1)
    beams = _Beams(zeros.new_empty((n, 1, 0), dtype=torch.int64), zeros, zeros, zeros.bool())
    prepared = decoder.prepare(exemplars, decoder.initial_state(features), weights)
    state = advance(prepared, decoder.token_gates(torch.full((n,), start, device=features.device)))
    prefixes = None if language_model is None else Prefixes(language_model, n)
    for t in range(length):
        log_p = decoder.log_probabilities(state.hidden, weights)
        gains = log_p if prefixes is None else log_p - temperature * prefixes.log_p[prefixes.of]
        parents, tokens = best_continuations(beams.scores, beams.finished, gains, start + 1, beam_size)
        rows = row_numbers(beams.finished).gather(1, parents)
        beams = _extended(beams, parents, tokens, gains[rows, tokens], log_p[rows, tokens], start)
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
        state = _followed(prepared, place, decoder.token_gates(spoken), said)
    missing = length - beams.tokens.shape[-1]
    return Hypotheses(functional.pad(beams.tokens, (0, missing), value=start + 2), beams.scores, beams.log_likelihood)


def _followed(prepared: Prepared, place: Tensor, token_gates: Tensor, said: Tensor) -> DecoderState:
    """The states of rows that follow states `place` by tokens `said`, some at a time, which stay in the cache."""
    parts = [
        advance(Prepared(prepared.gates[of], prepared.cell[of], prepared.attention[:0]), token_gates[token])
        for of, token in zip(place.split(_ROWS), said.split(_ROWS), strict=True)
    ]
    return DecoderState(torch.cat([part.hidden for part in parts]), torch.cat([part.cell for part in parts]))


def _extended(beams: _Beams, parents: Tensor, tokens: Tensor, gains: Tensor, log_p: Tensor, start: int) -> _Beams:
    """The hypotheses that follow `parents` by `tokens`, (n, B) each as all the rest; a finished one by a pad."""
    ended = beams.finished.gather(1, parents)
    history = beams.tokens.gather(1, parents[:, :, None].expand(-1, -1, beams.tokens.shape[-1]))
    said = torch.where(ended, start + 2, tokens)
    return _Beams(
        torch.cat([history, said[:, :, None]], dim=-1),
        beams.scores.gather(1, parents) + torch.where(ended, 0, gains),
        beams.log_likelihood.gather(1, parents) + torch.where(ended, 0, log_p),
        ended | (tokens == start + 1),
    )
