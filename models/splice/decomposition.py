"""The result of a SpLiCE decomposition: sparse concept weights with the certificate of their optimality.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

Objective that the weights solve, for each embedding: min_{w >= 0} ||v - C^T w||^2 + l1_penalty ||w||_1.

| symbol | meaning | shape |
|---|---|---|
| w | concept weights, w >= 0; only those above 0 are stored | (batch, n_concepts) |
| l0 | number of weights above 0 | (batch,) |
| gap | duality gap: the objective is at most this far above its minimum | (batch,) |

Decompose embeddings into sparse non-negative concept weights, by one of three solvers of one problem.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

Objective, for each row: min_{w >= 0} ||v - C^T w||^2 + l1_penalty ||w||_1.

| symbol | meaning | shape |
|---|---|---|
| v | centred, unit-norm embedding | (batch, d) |
| C | dictionary: centred, unit-norm embedding of each concept | (n_concepts, d) |
| w | concept weights | (batch, n_concepts) |

Differences from the paper's code: `l1_penalty` has one meaning for every solver; every result carries the
duality gap of its weights; ADMM starts from zero and says when it did not converge.
"""

import importlib
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real

import torch
from torch import Tensor
from torch.nn.functional import normalize

from conceptry.models.errors import ConvergenceWarning, InputError
from conceptry.models.splice.solvers import MODULES, SOLVERS
from conceptry.models.splice.solvers.duality import duality_gap

_UNIT_NORM = 0.01  # how far from 1 the norm of an embedding in half precision may be


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


def decompose(
    embeddings: torch.Tensor,
    dictionary: torch.Tensor,
    l1_penalty: float = 0.25,
    solver: str = "active_set",
    *,
    tolerance: float = 1e-6,
    max_iterations: int | None = None,
) -> Decomposition:
    """Minimise ||v - C^T w||^2 + l1_penalty ||w||_1 over w >= 0 for each embedding v.

    Args:
        embeddings: (batch, d), centred, of unit norm; any real floating dtype. A zero row gives w = 0.
        dictionary: (n_concepts, d), centred, on the same device. Rows of any norm are solved correctly; the
            penalty has its published meaning for unit norm.
        l1_penalty: finite, above 0. From 2 max_i <c_i, v> on, w = 0.
        solver: "active_set" (exact, fastest), "admm" (plain torch) or "sklearn" (the reference; slow).
        tolerance: on the duality gap of each row, absolute: the objective of a unit-norm row is at most 1.
        max_iterations: None for the solver's own; rounds, iterations or sweeps respectively.

    Returns:
        A Decomposition on the device of the embeddings, float64 where one of the inputs is, else float32.
        The gap is certified in float64; for float32 it is that of the weights before they are rounded.
        torch.autocast has no influence.

    Raises:
        InputError: naming the argument, what it must be and what it was.

    Warns:
        ConvergenceWarning: once, if rows did not reach the tolerance; `converged` says which.
    """
    _check_options(l1_penalty, solver, tolerance, max_iterations)
    _check_matrix("embeddings", embeddings, "(batch, d)")
    _check_matrix("dictionary", dictionary, "(n_concepts, d)")
    d, (n_concepts, dictionary_d) = embeddings.shape[1], dictionary.shape
    if n_concepts == 0 or dictionary_d == 0:
        raise InputError(f"dictionary must hold at least one concept, got shape {tuple(dictionary.shape)}")
    if d != dictionary_d:
        raise InputError(f"embeddings have {d} dimensions, but the dictionary has {dictionary_d}")
    if embeddings.device != dictionary.device:
        raise InputError(f"embeddings are on {embeddings.device}, but the dictionary is on {dictionary.device}")
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, dictionary.dtype), torch.float32)
    V, C = embeddings.detach().to(dtype), dictionary.detach().to(dtype)
    _check_rows("embeddings", V)
    _check_rows("dictionary", C)

    solver_module = importlib.import_module(f"{__package__}.solvers.{MODULES[solver]}")
    l1_penalty, tolerance = float(l1_penalty), float(tolerance)  # as Python's own where they are NumPy's
    with torch.autocast(V.device.type, enabled=False):  # its bfloat16 products would void the certificate
        solution = solver_module.solve(V, C, l1_penalty, tolerance, max_iterations)
    l0, indices, weights, gap, iterations = (field.to(V.device) for field in solution)
    result = Decomposition(
        row_starts=torch.cat([l0.new_zeros(1), l0.cumsum(0)]),
        concept_indices=indices,
        concept_weights=weights,
        n_concepts=n_concepts,
        gap=gap,
        converged=gap <= tolerance,
        iterations=iterations,
        solver=solver,
        l1_penalty=l1_penalty,
    )
    if not bool(result.converged.all()):
        with torch.autocast(V.device.type, enabled=False):
            result = _certified(result, V, C, tolerance)
    return replace(result, concept_weights=result.concept_weights.to(dtype))


def _certified(result: Decomposition, V: torch.Tensor, C: torch.Tensor, tolerance: float) -> Decomposition:
    """With the exact gap where the solver's bound does not suffice, and a warning if that does not either."""
    uncertain = (~result.converged).nonzero().squeeze(1)
    gap = result.gap.clone()
    gap[uncertain] = duality_gap(V[uncertain], C, result.weights.index_select(0, uncertain), result.l1_penalty)
    result = replace(result, gap=gap, converged=gap <= tolerance)
    failed = int((~result.converged).sum())
    if failed:
        warnings.warn(
            f"{failed} of {len(result)} rows did not converge: solver {result.solver} reached a duality gap of "
            f"{float(gap.max()):.1e} at worst, tolerance {tolerance:.1e}; raise max_iterations or tolerance",
            ConvergenceWarning,
            stacklevel=3,
        )
    return result


def _check_options(l1_penalty: float, solver: str, tolerance: float, max_iterations: int | None) -> None:
    if solver not in SOLVERS:
        raise InputError(f"solver is {solver!r}; expected one of {', '.join(SOLVERS)}")
    for name, value in (("l1_penalty", l1_penalty), ("tolerance", tolerance)):
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise InputError(f"{name} must be a finite number above 0, got {value!r}")
    if max_iterations is not None and (isinstance(max_iterations, bool) or max_iterations < 1):
        raise InputError(f"max_iterations must be None or at least 1, got {max_iterations!r}")


def _check_matrix(name: str, matrix: torch.Tensor, shape: str) -> None:
    if not isinstance(matrix, torch.Tensor):
        raise InputError(f"{name} must be a torch tensor {shape}, got {type(matrix).__name__}")
    if matrix.ndim != 2:
        raise InputError(f"{name} must have shape {shape}, got {tuple(matrix.shape)}")
    if not matrix.is_floating_point():
        raise InputError(f"{name} must have a real floating dtype, got {matrix.dtype}")


def _check_rows(name: str, matrix: torch.Tensor) -> None:
    norms = torch.linalg.vector_norm(matrix, dim=1)  # one fast pass; not finite if an entry is not
    bad = (~norms.isfinite()).nonzero()
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{name} row {row} must hold finite numbers, but its norm is {float(norms[row])}")


def unit_embeddings(embeddings: Tensor, dictionary: Tensor) -> Tensor:
    """Embeddings (batch, d) of unit norm. Raises InputError for other shapes, zero vectors and what is not finite."""
    z = _shaped(embeddings, dictionary)
    largest = z.abs().amax(dim=1, keepdim=True)  # NaN where the row holds one
    bad = ~largest.isfinite() | (largest == 0)
    if bad.any():
        row = int(bad.nonzero()[0, 0])
        problem = "is the zero vector" if largest[row] == 0 else "holds NaN or infinite values"
        raise InputError(f"row {row}: the embedding {problem}; expected {z.shape[1]} finite numbers, not all zero")
    # The squares of very large or very small entries would overflow or vanish.
    return normalize((z / largest).to(dictionary), dim=1)


def centred_embeddings(embeddings: Tensor, dictionary: Tensor) -> Tensor:
    """Embeddings (batch, d) that are centred already. Raises InputError where their norm is neither 1 nor 0."""
    v = _shaped(embeddings, dictionary).to(dictionary)
    norms = torch.linalg.vector_norm(v, dim=1)
    bad = ~((norms - 1).abs() <= _UNIT_NORM) & (norms != 0)  # what equals the mean is zero once centred
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(
            f"row {row}: a centred embedding has norm 1, this one {float(norms[row]):.4g}; take the mean off and "
            "normalise first, or give embeddings as the encoder gives them to explain, which centres them itself"
        )
    return v


def _shaped(embeddings: Tensor, dictionary: Tensor) -> Tensor:
    d = dictionary.shape[1]
    if embeddings.ndim != 2 or embeddings.shape[1] != d:
        raise InputError(f"embeddings must have shape (batch, {d}), got {tuple(embeddings.shape)}")
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
