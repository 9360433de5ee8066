"""What the decoder and the language model share: a step of an LSTM whose gates are known, and products of rows.

| symbol | meaning | shape |
|---|---|---|
| g | gates before their nonlinearity, in torch's order: entry, forget, candidate, out | (R, 4 H) |
| h, c | hidden and cell state | (R, H) |
"""

import torch
from torch import Tensor
from torch.nn import functional

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
