r"""Descriptions one token at a time: the most probable, drawn at random, or given.

| symbol | meaning | shape |
|---|---|---|
| n | units | |
| s | hypotheses of each unit | |
| L | tokens at most | |
| log p(s \| E) | sum of log-probabilities up to the first stop, the stop included | (n, s) |
"""

from typing import NamedTuple

import torch
from torch import Tensor

from conceptry.models.milan.decoder import Decoder, advance
from conceptry.models.milan.vocabulary import LENGTH


class Hypotheses(NamedTuple):
    """Descriptions of n units, the best of each first.

    tokens: int64 (n, s, L), pads after the first stop. scores: (n, s), what ranked them. log_likelihood: (n, s).
    """

    tokens: Tensor
    scores: Tensor
    log_likelihood: Tensor


@torch.no_grad()
def greedy(decoder: Decoder, features: Tensor, length: int = LENGTH) -> Hypotheses:
    """The most probable token after the most probable token: one hypothesis (s = 1) of each unit."""
    n, stop, pad = len(features), decoder.start + 1, decoder.start + 2
    exemplars, weights = decoder.exemplars(features), decoder.weights()
    state = decoder.initial_state(features)
    last = torch.full((n,), decoder.start, device=features.device)
    tokens = torch.full((n, length), pad, device=features.device)
    total = features.new_zeros(n)
    going = torch.ones(n, dtype=torch.bool, device=features.device)
    for t in range(length):
        state = advance(decoder.prepare(exemplars, state, weights), decoder.token_gates(last))
        best, last = decoder.log_probabilities(state.hidden).max(dim=-1)
        tokens[going, t] = last[going]
        total += torch.where(going, best, 0)
        going &= last != stop
        if not going.any():
            break
    return Hypotheses(tokens[:, None], total[:, None], total[:, None])
