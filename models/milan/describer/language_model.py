"""The language model: p_LM(s), how probable a description is of any unit.

| symbol | meaning | shape |
|---|---|---|
| R | rows: descriptions so far | |
| g | gates of an LSTM before their nonlinearity, in torch's order: entry, forget, candidate, out | (R, 4 H) |
| h, c | hidden and cell state; of the language model, of its two layers | (R, H); (2, R, H) |

PMI subtracts log p_LM(s) from log p(s | E): what is said of a unit should be specific to it.

The decoder uses two parts of it as well: the step of an LSTM whose gates are known (`lstm_cell`), and products of rows
that do not depend on the rows beside them (`Product`, `linear`).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.milan.describer.vocabulary import SpecialTokens

_LEAST_ROWS = 16


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The state after the step: c' = sigmoid(g_f) c + sigmoid(g_e) tanh(g_c), h' = sigmoid(g_o) tanh(c')."""
    entry, forget, candidate, out = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * _tanh(candidate)
    return torch.sigmoid(out) * _tanh(cell), cell


def _tanh(values: Tensor) -> Tensor:
    """tanh x = 2 sigmoid(2 x) - 1, which torch computes in a fifth of the time; in training, torch's own."""
    return torch.tanh(values) if torch.is_grad_enabled() else torch.sigmoid(2 * values).mul_(2).sub_(1)


class Product:
    """A linear map of rows, x W' + b, that is applied many times.

    Searches on a CPU compute it by oneDNN, which takes half the time of what torch chooses for float32 on some
    processors; training and other devices by torch's own. weight: W (out, in); bias: b (out,) or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._bias = weight, bias
        self._packed: tuple[Tensor, Tensor | None] | None = None
        usable = weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
        if usable and not torch.is_grad_enabled():
            self._packed = weight.contiguous().to_mkldnn(), None if bias is None else bias.to_mkldnn()

    def __call__(self, values: Tensor) -> Tensor:
        """Rows (..., in) to rows (..., out); see `linear`."""
        if torch.is_grad_enabled():
            return functional.linear(values, self._weight, self._bias)
        # Libraries sum the products of very few rows in another order than those of many.
        rows = values.shape[:-1].numel()
        flat = functional.pad(values.reshape(rows, -1), (0, 0, 0, max(_LEAST_ROWS - rows, 0)))
        if self._packed is None:
            out = functional.linear(flat, self._weight, self._bias)
        else:
            out = torch.ops.aten.mkldnn_linear(flat.to_mkldnn(), *self._packed).to_dense()
        return out[:rows].view(*values.shape[:-1], -1)


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch's linear map of rows; in searches each row is the same to the last bit whatever rows are beside it.

    So are the elementwise steps where H is a multiple of 32; otherwise torch takes the last few numbers of an array by
    another path.
    """
    rows = values.shape[:-1].numel()
    if torch.is_grad_enabled() or rows >= _LEAST_ROWS:
        return functional.linear(values, weight, bias)
    filled = functional.pad(values.reshape(rows, -1), (0, 0, 0, _LEAST_ROWS - rows))
    return functional.linear(filled, weight, bias)[:rows].view(*values.shape[:-1], -1)


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
        self.special = SpecialTokens.of(n_tokens)
        self.embedding = nn.Embedding(n_tokens, embedding_size)
        self.lstm = nn.LSTM(embedding_size, hidden_size, LAYERS, batch_first=True, dropout=dropout)
        self.output = nn.Linear(hidden_size, n_tokens)

    def sizes(self) -> dict[str, int]:
        """The arguments that build this model again; dropout is one of training alone."""
        return {name: getattr(self, name) for name in ("n_tokens", "hidden_size", "embedding_size")}

    def forward(self, captions: Tensor) -> Tensor:
        """Log-probabilities (n, L, n_tokens) of every token at each place, from the tokens before it (n, L)."""
        inputs = functional.pad(captions[:, :-1], (1, 0), value=self.special.start)
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
        start = torch.tensor([model.special.start], device=zeros.device)
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
