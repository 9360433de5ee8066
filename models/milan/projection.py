r"""A linear projection of features to evidence for words, fitted in closed form before the decoder is trained.

| symbol | meaning | shape |
|---|---|---|
| f | features of a training unit: the mean over its exemplars, which tells what they share from what one shows | (F,) |
| y | for each word, the share of the unit's captions that hold it | (D,) |
| W | weights | (F, D) |
| l | ridge penalty, after each feature is divided by its standard deviation | |

    W = argmin  mean |y - mean(y) - W^T (f - mean f)|^2 + l |W|^2
    z = W^T (f - mean f), each word's divided by its standard deviation over the units

The decoder reads z of each exemplar. Its LSTM then need not find out, a gradient step at a time, which of thousands of
correlated features speak for which word: with a few thousand annotated units it learns an order of magnitude faster,
and combinations that it has never seen come out right. Not in the paper, whose decoder reads f.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from conceptry.models.artifacts import read_tensors
from conceptry.models.errors import InputError

PROJECTION = "projection.safetensors"
RIDGE = 1e-2


@dataclass(frozen=True)
class Projection:
    """z = (f - mean) matrix; mean: float32 (F,), matrix: float32 (F, D)."""

    mean: Tensor
    matrix: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """z (..., D) of features (..., F)."""
        return (features - self.mean) @ self.matrix

    def to(self, device: torch.device) -> "Projection":
        """The same on another device."""
        return Projection(self.mean.to(device), self.matrix.to(device))

    def save(self, path: Path) -> None:
        """Write mean and matrix as float16: rounded once, here, so that what is trained on it should be trained after
        `rounded`."""
        from safetensors.torch import save

        path.write_bytes(save({"mean": self.mean.half().cpu(), "matrix": self.matrix.half().contiguous().cpu()}))

    def rounded(self) -> "Projection":
        """What reading the saved file gives."""
        return Projection(self.mean.half().float(), self.matrix.half().float())


def read_projection(path: Path) -> Projection:
    """The projection that `save` wrote; raises InputError for another file."""
    state = read_tensors(path)
    if state.keys() != {"mean", "matrix"} or state["matrix"].shape[:1] != state["mean"].shape:
        raise InputError(f"{path}: expected mean (F,) and matrix (F, D), got {', '.join(sorted(state)) or 'nothing'}")
    return Projection(state["mean"].float(), state["matrix"].float())


class ProjectionFit:
    """Sums over batches of rows, in float64; order and size of the batches change rounding alone."""

    def __init__(self) -> None:
        self._gram: Tensor | float = 0.0
        self._moments: Tensor | float = 0.0

    def add(self, features: Tensor, words: Tensor) -> None:
        """features: f of n units, (n, F); words: y of each, (n, D)."""
        rows = torch.cat([features, features.new_ones(len(features), 1)], dim=-1)
        self._gram = self._gram + (rows.T @ rows).double()
        self._moments = self._moments + (rows.T @ words).double()

    def solve(self, ridge: float = RIDGE) -> Projection:
        """The projection; features that never vary get no weight, words in every caption or none a column of zeros."""
        if not isinstance(self._gram, Tensor) or not isinstance(self._moments, Tensor):
            raise InputError("a projection needs features to be fitted on; add some first")
        count = self._gram[-1, -1]
        mean, frequency = self._gram[-1, :-1] / count, self._moments[-1] / count
        covariance = self._gram[:-1, :-1] / count - torch.outer(mean, mean)
        moments = self._moments[:-1] / count - torch.outer(mean, frequency)
        std = covariance.diagonal().clamp_min(0).sqrt()
        scale = torch.where(std > 1e-4, 1 / std.clamp_min(1e-4), 0)
        system = covariance * scale[:, None] * scale + ridge * torch.eye(len(scale), dtype=torch.float64)
        weights = scale[:, None] * torch.linalg.solve(system, moments * scale[:, None])
        spread = torch.einsum("fd,fg,gd->d", weights, covariance, weights).clamp_min(0).sqrt()
        factor = torch.where(spread > 1e-6, 1 / spread.clamp_min(1e-6), 0)
        return Projection(mean.float(), (weights * factor).float())
