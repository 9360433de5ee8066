r"""The language model: p_LM(s), how probable a description is of any unit.

| symbol | meaning | shape |
|---|---|---|
| R | rows: distinct beginnings of descriptions | |
| h1, c1, h2, c2 | states of the two layers of the LSTM | (R, H) |

PMI subtracts log p_LM(s) from log p(s | E): what is said of a unit should be specific to it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

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

    def initial_state(self, rows: int) -> LanguageModelState:
        """The state before the first token: zeros."""
        zeros = self.output.weight.new_zeros(LAYERS, rows, self.hidden_size)
        return LanguageModelState(zeros, zeros)

    def advance(self, state: LanguageModelState, tokens: Tensor) -> LanguageModelState:
        """The state after tokens (R,)."""
        _, (hidden, cell) = self.lstm(self.embedding(tokens)[:, None], (state.hidden, state.cell))
        return LanguageModelState(hidden, cell)

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """log p(. | prefix) (..., n_tokens) from the last layer's states after its last token (..., H)."""
        return torch.log_softmax(self.output(hidden), dim=-1)
