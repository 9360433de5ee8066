"""What every solver returns: the weights above zero, row after row, before they are certified."""

from typing import NamedTuple

import torch


class Solution(NamedTuple):
    """The rows of a batch in order; within a row the concepts ascend.

    Attributes:
        l0: (batch,) int64, entries of each row.
        concept_indices: (total l0,) int64.
        concept_weights: (total l0,), all above 0; as precise as the solver has them.
        gap: (batch,) float64 upper bound on the duality gap; infinite where the solver has none.
        iterations: (batch,) int64.
    """

    l0: torch.Tensor
    concept_indices: torch.Tensor
    concept_weights: torch.Tensor
    gap: torch.Tensor
    iterations: torch.Tensor

    @classmethod
    def of_dense(cls, weights: torch.Tensor, iterations: torch.Tensor) -> "Solution":
        """From dense (batch, n_concepts) weights, without a bound on the gap."""
        rows, columns = weights.nonzero().unbind(1)
        l0 = torch.bincount(rows, minlength=len(weights))
        gap = torch.full((len(weights),), torch.inf, dtype=torch.float64)
        return cls(l0, columns, weights[rows, columns], gap, iterations)

    @classmethod
    def concatenate(cls, parts: list["Solution"]) -> "Solution":
        """The rows of all parts, in order."""
        return cls(*(torch.cat(field) for field in zip(*parts, strict=True)))
