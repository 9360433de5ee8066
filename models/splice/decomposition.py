"""The result of a SpLiCE decomposition: sparse concept weights with the certificate of their optimality.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

Objective that the weights solve, for each embedding: min_{w >= 0} ||v - C^T w||^2 + l1_penalty ||w||_1.

| symbol | meaning | shape |
|---|---|---|
| w | concept weights, w >= 0; only those above 0 are stored | (batch, n_concepts) |
| l0 | number of weights above 0 | (batch,) |
| gap | duality gap: the objective is at most this far above its minimum | (batch,) |
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from conceptry.models.errors import InputError


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Concept weights of a batch, stored row after row, and what the solver can prove about them.

    Attributes:
        row_starts: (batch + 1,) int64; row i owns the entries row_starts[i] to row_starts[i + 1].
        concept_indices: (total l0,) int64, ascending within each row.
        concept_weights: (total l0,), all above 0; float64 where embeddings or dictionary are, else float32.
        n_concepts: size of the dictionary.
        gap: (batch,) float64 duality gap, or a bound on it below the tolerance, of the weights before they
            were rounded to their dtype; NaN once weights were suppressed.
        converged: (batch,) bool, whether the gap reached the tolerance.
        iterations: (batch,) int64, in the unit of the solver: rounds over the dictionary (active_set),
            iterations (admm) or sweeps (sklearn).
        solver: name of the solver.
        l1_penalty: the penalty, on the scale of the objective above for every solver.
    """

    row_starts: torch.Tensor
    concept_indices: torch.Tensor
    concept_weights: torch.Tensor
    n_concepts: int
    gap: torch.Tensor
    converged: torch.Tensor
    iterations: torch.Tensor
    solver: str
    l1_penalty: float

    def __len__(self) -> int:
        return len(self.row_starts) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, n_concepts)."""
        return len(self), self.n_concepts

    @property
    def l0(self) -> torch.Tensor:
        """Number of weights above 0 in each row, (batch,) int64."""
        return self.row_starts.diff()

    @cached_property
    def _rows(self) -> torch.Tensor:
        """The row of each stored entry."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.row_starts.device), self.l0)

    @cached_property
    def weights(self) -> torch.Tensor:
        """Sparse (batch, n_concepts) weights in torch's coalesced COO layout."""
        return torch.sparse_coo_tensor(
            torch.stack([self._rows, self.concept_indices]),
            self.concept_weights,
            self.shape,
            is_coalesced=True,
            check_invariants=False,
        )

    def to_dense(self) -> torch.Tensor:
        """Dense (batch, n_concepts) weights."""
        dense = self.concept_weights.new_zeros(self.shape)
        dense[self._rows, self.concept_indices] = self.concept_weights
        return dense

    def mean(self) -> torch.Tensor:
        """Mean weight of each concept over the batch, dense (n_concepts,); zeros for an empty batch.

        Summed in float64 and rounded once, so that the order of the rows does not matter.
        """
        total = torch.zeros(self.n_concepts, dtype=torch.float64, device=self.concept_weights.device)
        total.index_add_(0, self.concept_indices, self.concept_weights.double())
        return (total / max(len(self), 1)).to(self.concept_weights.dtype)

    def row(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(concept indices, weights) of one row by descending weight, equal weights by concept index."""
        if not -len(self) <= index < len(self):
            raise InputError(f"row is {index}, but the decomposition has {len(self)} rows")
        index %= len(self)
        start, stop = int(self.row_starts[index]), int(self.row_starts[index + 1])
        weights = self.concept_weights[start:stop]
        order = torch.argsort(weights, descending=True, stable=True)
        return self.concept_indices[start:stop][order], weights[order]

    def suppress(self, concept_indices: Iterable[int] | torch.Tensor) -> "Decomposition":
        """A copy with the weights of these concepts set to 0.

        The copy is no solution any more, by intent, so the gaps of the rows that lost a weight are NaN and
        they count as not converged; the other rows keep theirs.
        """
        device = self.concept_indices.device
        unwanted = torch.as_tensor(_as_list(concept_indices), dtype=torch.int64, device=device)
        outside = unwanted[(unwanted < 0) | (unwanted >= self.n_concepts)]
        if len(outside):
            raise InputError(f"concept index {int(outside[0])} is not in 0..{self.n_concepts - 1}")
        lost = torch.isin(self.concept_indices, unwanted)
        changed = torch.zeros(len(self), dtype=torch.bool, device=device)
        changed[self._rows[lost]] = True
        kept = torch.bincount(self._rows[~lost], minlength=len(self))
        return replace(
            self,
            row_starts=torch.cat([kept.new_zeros(1), kept.cumsum(0)]),
            concept_indices=self.concept_indices[~lost],
            concept_weights=self.concept_weights[~lost],
            gap=self.gap.masked_fill(changed, torch.nan),
            converged=self.converged & ~changed,
        )


def _as_list(values: Iterable[int] | torch.Tensor) -> list[int]:
    return [int(v) for v in (values.tolist() if isinstance(values, torch.Tensor) else values)]
