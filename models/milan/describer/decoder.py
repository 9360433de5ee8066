"""The decoder: p(s | E), the probability of a description given the exemplars of a unit.

| symbol | meaning | shape |
|---|---|---|
| n, k | units; exemplars of each | |
| R | rows: hypotheses of any of the units | |
| f | features of the exemplars | (n, k, F) |
| h, c | hidden and cell state before a step | (R, H) |
| q = W_q h, p_j = W_k f_j | query of a row; key of an exemplar | (R, A), (n, k, A) |
| w | weights of the energy | (A,) |
| a | attention over the exemplars | (R, k) |
| e | embedding of the last token | (R, E) |
| g = W_x [e; z] + b_x + W_h h + b_h | gates of the LSTM | (R, 4 H) |

    a = softmax_j w . tanh(q + p_j)                z = sigmoid(W_g h + b_g) * sum_j a_j f_j
    (h', c') = LSTM(g, c)                          log p(. | prefix) = log softmax(W_o dropout(h') + b_o)

A step is taken in two halves, since only e depends on the last token: `prepare` computes all of g but W_x e from the
state, and `advance` adds the token. Hypotheses that differ in their last token alone share the first, expensive half:
W_q h, W_g h and W_h h are one matrix product, and W_x is cut into its columns for e and for z.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.milan.describer.language_model import Product, linear, lstm_cell
from conceptry.models.milan.describer.vocabulary import SpecialTokens

_ROWS = 16  # at a time: what they read and write stays in the cache


def attend(query: Tensor, keys: Tensor, weight: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Attention (R, k) and its average of the features (R, F), where row r reads keys[r] and features[r]."""
    # Not by a matrix product, whose rounding depends on the number of rows.
    energy = (torch.tanh(query[:, None] + keys) * weight).sum(dim=-1)
    attention = torch.softmax(energy, dim=-1)
    return attention, torch.bmm(attention[:, None], features).squeeze(1)


def attend_rows(query: Tensor, keys: Tensor, weight: Tensor, features: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """`attend` where row r reads keys[units[r]] and features[units[r]]; units: int64 (R,)."""
    if query.device.type == "cpu" and not torch.is_grad_enabled():
        return _on_cpu(query, keys, weight, features, units)
    parts = [
        attend(part, keys[of], weight, features[of])
        for of, part in zip(units.split(_ROWS), query.split(_ROWS), strict=True)
    ]
    return torch.cat([attention for attention, _ in parts]), torch.cat([context for _, context in parts])


def _on_cpu(query: Tensor, keys: Tensor, weight: Tensor, features: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    from conceptry.models.milan.describer import _kernels as kernel

    attention = query.new_empty(len(units), keys.shape[1])
    context = query.new_empty(len(units), features.shape[2])
    limit = kernel.LIMIT
    values = [
        part
        for entries in (query, keys)
        for part in (
            entries,
            entries.clamp(-limit, limit).mul_(2).exp_(),
            entries.abs().amax(dim=tuple(range(1, entries.ndim))) > limit,
        )
    ]
    arrays = (part.detach().contiguous().numpy() for part in (*values, weight, features, units, attention, context))
    kernel.attend(*arrays)
    return attention, context


class Exemplars(NamedTuple):
    """What is known of the units before the first word: f, and keys = W_k f + b (n, k, A)."""

    features: Tensor
    keys: Tensor


class DecoderState(NamedTuple):
    """hidden, cell: (R, H)."""

    hidden: Tensor
    cell: Tensor


class Prepared(NamedTuple):
    """A step but for its token. gates: g without W_x e (R, 4 H); cell: c (R, H); attention: a (R, k)."""

    gates: Tensor
    cell: Tensor
    attention: Tensor


class DecoderWeights(NamedTuple):
    """The parameters as steps use them.

    hidden: W_q, W_g, W_h, one below the other. context: the columns of W_x for z. output: W_o.
    """

    hidden: Product
    context: Product
    output: Product


class Decoder(nn.Module):
    """n_tokens: words and the four specials. n_features: F. attention_size: A (default: the less of H and F)."""

    def __init__(
        self,
        n_tokens: int,
        n_features: int,
        hidden_size: int = 512,
        embedding_size: int = 128,
        attention_size: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.n_tokens, self.n_features = n_tokens, n_features
        self.hidden_size, self.embedding_size, self.dropout = hidden_size, embedding_size, dropout
        self.attention_size = min(hidden_size, n_features) if attention_size is None else attention_size
        self.special = SpecialTokens.of(n_tokens)
        self.initial_hidden = nn.Linear(n_features, hidden_size)
        self.initial_cell = nn.Linear(n_features, hidden_size)
        self.embedding = nn.Embedding(n_tokens, embedding_size)
        self.query = nn.Linear(hidden_size, self.attention_size)
        self.key = nn.Linear(n_features, self.attention_size)
        self.attention = nn.Linear(self.attention_size, 1)
        self.feature_gate = nn.Linear(hidden_size, n_features)
        self.lstm = nn.LSTMCell(embedding_size + n_features, hidden_size)
        self.output = nn.Linear(hidden_size, n_tokens)

    def sizes(self) -> dict[str, int]:
        """The arguments that build this decoder again; dropout is one of training alone."""
        names = ("n_tokens", "n_features", "hidden_size", "embedding_size", "attention_size")
        return {name: getattr(self, name) for name in names}

    def forward(self, features: Tensor, captions: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing: log-probabilities (n, L, n_tokens) of every token at each place, attention (n, L, k).

        features: (n, k, F). captions: int64 (n, L) as `Vocabulary.encode` gives them; the token at place t is predicted
        from those before it.
        """
        exemplars, weights = self.exemplars(features), self.weights()
        state = self.initial_state(features)
        tokens = self.token_gates(functional.pad(captions[:, :-1], (1, 0), value=self.special.start))
        hidden, attention = [], []
        for t in range(captions.shape[1]):
            prepared = self.prepare(exemplars, state, weights)
            state = advance(prepared, tokens[:, t])
            hidden.append(state.hidden)
            attention.append(prepared.attention)
        return self.log_probabilities(torch.stack(hidden, dim=1), weights), torch.stack(attention, dim=1)

    def exemplars(self, features: Tensor) -> Exemplars:
        """What every step reads of the exemplars; features: (n, k, F)."""
        return Exemplars(features, linear(features, self.key.weight, self.key.bias))

    def initial_state(self, features: Tensor) -> DecoderState:
        """The state of n units before the first token."""
        mean = features.mean(dim=1)
        parts = [torch.tanh(linear(mean, part.weight, part.bias)) for part in (self.initial_hidden, self.initial_cell)]
        return DecoderState(*parts)

    def weights(self) -> DecoderWeights:
        """The parameters in the order in which `prepare` uses them; one call serves all the steps of a search."""
        parts = (self.query.weight, self.feature_gate.weight, self.lstm.weight_hh)
        biases = (self.query.bias, self.feature_gate.bias, self.lstm.bias_hh)
        return DecoderWeights(
            Product(torch.cat(parts), torch.cat(biases)),
            Product(self.lstm.weight_ih[:, self.embedding_size :]),
            Product(self.output.weight, self.output.bias),
        )

    def token_gates(self, tokens: Tensor) -> Tensor:
        """W_x e + b_x (..., 4 H) of tokens (...)."""
        return linear(self.embedding(tokens), self.lstm.weight_ih[:, : self.embedding_size], self.lstm.bias_ih)

    def prepare(
        self, exemplars: Exemplars, state: DecoderState, weights: DecoderWeights, units: Tensor | None = None
    ) -> Prepared:
        """The first half of a step. units: int64 (R,), whose exemplars each row reads (default: one row of each)."""
        products = weights.hidden(state.hidden)
        query, gate, gates = products.split((self.attention_size, self.n_features, 4 * self.hidden_size), dim=-1)
        energy = self.attention.weight[0]  # its bias cancels in the softmax
        if units is None:
            attention, context = attend(query, exemplars.keys, energy, exemplars.features)
        else:
            attention, context = attend_rows(query, exemplars.keys, energy, exemplars.features, units)
        gates = gates + weights.context(torch.sigmoid(gate) * context)
        return Prepared(gates, state.cell, attention)

    def log_probabilities(self, hidden: Tensor, weights: DecoderWeights) -> Tensor:
        """log p(. | prefix) (..., n_tokens) from the states after its last token (..., H)."""
        hidden = functional.dropout(hidden, self.dropout, self.training)
        return torch.log_softmax(weights.output(hidden), dim=-1)


def advance(prepared: Prepared, token_gates: Tensor) -> DecoderState:
    """The second half of a step: the state after the tokens whose gates W_x e + b_x (R, 4 H) are given."""
    return DecoderState(*lstm_cell(prepared.gates + token_gates, prepared.cell))
