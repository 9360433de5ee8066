r"""The language model: p_LM(s), how probable a description is of any unit.

| symbol | meaning | shape |
|---|---|---|
| R | rows: descriptions so far | |
| h, c | states of the two layers of the LSTM | (2, R, H) |

PMI subtracts log p_LM(s) from log p(s | E): what is said of a unit should be specific to it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.milan.recurrence import linear, lstm_cell
from conceptry.models.milan.vocabulary import SPECIALS

LAYERS = 2


class LanguageModelState(NamedTuple):
    """hidden, cell: (2, R, H), a layer each."""

    hidden: Tensor
    cell: Tensor


class LanguageModel(nn.Module):
    """n_tokens: words and the four specials, those of the decoder."""

    def __init__(self, n_tokens: int, hidden_size: int = 512, embedding_size: int = 128, dropout: float = 0.5) -> None:
        super().__init__()
        self.n_tokens, self.hidden_size, self.embedding_size = n_tokens, hidden_size, embedding_size
        self.dropout = dropout
        self.start = n_tokens - len(SPECIALS)
        self.embedding = nn.Embedding(n_tokens, embedding_size)
        self.lstm = nn.LSTM(embedding_size, hidden_size, LAYERS, batch_first=True, dropout=dropout)
        self.output = nn.Linear(hidden_size, n_tokens)

    def sizes(self) -> dict[str, int]:
        """The arguments that build this model again; dropout is one of training alone."""
        return {name: getattr(self, name) for name in ("n_tokens", "hidden_size", "embedding_size")}

    def forward(self, captions: Tensor) -> Tensor:
        """Log-probabilities (n, L, n_tokens) of every token at each place, from the tokens before it (n, L)."""
        inputs = functional.pad(captions[:, :-1], (1, 0), value=self.start)
        hidden, _ = self.lstm(self.embedding(inputs))
        return self.log_probabilities(hidden)

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """log p(. | prefix) (..., n_tokens) from the last layer's states after its last token (..., H)."""
        return torch.log_softmax(linear(hidden, self.output.weight, self.output.bias), dim=-1)

    def advance(self, state: LanguageModelState, parents: Tensor, tokens: Tensor) -> LanguageModelState:
        """The states (R) after `tokens` (R,) have followed rows `parents` (R,) of `state`.

        What only depends on a parent, the products of its hidden states, is computed once for all that follow it.
        """
        distinct, place = parents.unique(return_inverse=True)
        inputs, hidden, cell = self.embedding(tokens), [], []
        for layer in range(LAYERS):
            w_ih, w_hh, b_ih, b_hh = self.lstm.all_weights[layer]
            recurrent = linear(state.hidden[layer][distinct], w_hh, b_hh)
            gates = linear(inputs, w_ih, b_ih) + recurrent[place]
            inputs, new = lstm_cell(gates, state.cell[layer][parents])
            hidden.append(inputs)
            cell.append(new)
        return LanguageModelState(torch.stack(hidden), torch.stack(cell))


class Prefixes:
    """The distinct beginnings of R rows of tokens, and what the language model expects after each.

    Rows start with nothing said; `advance` appends a token to some of them and drops the others.
    """

    def __init__(self, model: LanguageModel, rows: int) -> None:
        self._model = model
        zeros = model.output.weight.new_zeros(LAYERS, 1, model.hidden_size)
        start = torch.tensor([model.start], device=zeros.device)
        self.of = torch.zeros(rows, dtype=torch.int64, device=zeros.device)  # the prefix of each row
        self._state = model.advance(LanguageModelState(zeros, zeros), torch.zeros_like(start), start)
        self.log_p = model.log_probabilities(self._state.hidden[-1])  # (prefixes, n_tokens)

    def advance(self, rows: Tensor, tokens: Tensor) -> None:
        """Go on with `rows` (R',), each followed by its one of `tokens` (R',)."""
        keys = self.of[rows] * self._model.n_tokens + tokens
        distinct, self.of = keys.unique(return_inverse=True)
        parents = distinct.div(self._model.n_tokens, rounding_mode="floor")
        self._state = self._model.advance(self._state, parents, distinct % self._model.n_tokens)
        self.log_p = self._model.log_probabilities(self._state.hidden[-1])
