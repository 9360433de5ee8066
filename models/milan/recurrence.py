"""What the decoder and the language model share: a step of an LSTM whose gates are known, and products of rows.

| symbol | meaning | shape |
|---|---|---|
| g | gates before their nonlinearity, in torch's order: entry, forget, candidate, out | (R, 4 H) |
| h, c | hidden and cell state | (R, H) |
"""

import torch
from torch import Tensor
from torch.nn import functional

LEAST_ROWS = 16


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The state after the step: c' = sigmoid(g_f) c + sigmoid(g_e) tanh(g_c), h' = sigmoid(g_o) tanh(c')."""
    entry, forget, candidate, out = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(candidate)
    return torch.sigmoid(out) * torch.tanh(cell), cell


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch's linear map of rows (..., in), each of which comes out the same whatever rows are beside it.

    Libraries sum the products of very few rows in another order than those of many; few rows are therefore filled up.
    """
    rows = values.shape[:-1].numel()
    if torch.is_grad_enabled() or rows >= LEAST_ROWS:
        return functional.linear(values, weight, bias)
    filled = functional.pad(values.reshape(rows, -1), (0, 0, 0, LEAST_ROWS - rows))
    return functional.linear(filled, weight, bias)[:rows].reshape(*values.shape[:-1], -1)
