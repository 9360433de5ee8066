"""The duality gap: a bound, for any weights at all, on how far their objective is above the minimum.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

Objective:  P(w) = ||v - C^T w||^2 + l1_penalty ||w||_1  over w >= 0.
Dual:       D(theta) = ||v||^2 - ||v - theta||^2  over theta with 2 <c_i, theta> <= l1_penalty for all i.

| symbol | meaning | shape |
|---|---|---|
| v, r | embedding; its residual v - C^T w | (batch, d) |
| C | dictionary | (n_concepts, d) |
| tau | l1_penalty / 2 | scalar |
| s | min(1, tau / max_i <c_i, r>); theta = s r is feasible | (batch,) |

Every w >= 0 and feasible theta have P(w) >= D(theta). With theta = s r the term ||v||^2 cancels:

    P - D = ||r||^2 + l1_penalty ||w||_1 - (2 s <v, r> - s^2 ||r||^2)
          = (1 + s^2) ||r||^2 - 2 s <v, r> + l1_penalty ||w||_1

so four numbers a row suffice, and a larger number in place of the maximum gives a valid, larger gap.
It is 0 at the optimum only. Rounding matters: an error e in the maximum moves the gap by 2 ||w||_1 e, so the
residual and the scalars are float64 here; float32 would stop at about 1e-7.

`Solution` is what every solver returns: the weights above zero, row after row, before they are certified.
"""

from typing import NamedTuple

import torch

CHUNK_BYTES = 64 * 2**20


def rows_per_chunk(n_concepts: int, bytes_per_concept: int) -> int:
    """How many rows of n_concepts numbers fit into CHUNK_BYTES, at least one."""
    return max(1, CHUNK_BYTES // max(1, n_concepts * bytes_per_concept))


def gap_from_moments(
    v_dot_r: torch.Tensor, r_dot_r: torch.Tensor, l1_norm: torch.Tensor, largest: torch.Tensor, l1_penalty: float
) -> torch.Tensor:
    """The gap of each row from <v, r>, <r, r>, ||w||_1 and (a bound on) max_i <c_i, r>, all (batch,) float64."""
    tau = l1_penalty / 2
    s = tau / largest.clamp(min=tau)
    return (1 + s * s) * r_dot_r - 2 * s * v_dot_r + l1_penalty * l1_norm


def duality_gap(
    embeddings: torch.Tensor, dictionary: torch.Tensor, weights: torch.Tensor, l1_penalty: float
) -> torch.Tensor:
    """The gap of each row, (batch,) float64, of dense or sparse COO weights (batch, n_concepts).

    Computed in float64 on the CPU where the device has no float64. Besides a float64 copy of the dictionary,
    at most 64 MiB of correlations exist at a time.
    """
    device = torch.device("cpu") if embeddings.device.type == "mps" else embeddings.device
    C = dictionary.to(device).double()
    W = weights.to(device).double()
    V = embeddings.to(device).double()
    R = V - W @ C
    largest = V.new_zeros(len(V))
    step = rows_per_chunk(len(C), C.element_size())
    for start in range(0, len(V), step):
        largest[start : start + step] = (R[start : start + step] @ C.T).amax(dim=1)
    l1_norm = (W @ C.new_ones(len(C), 1)).squeeze(1)
    gap = gap_from_moments((V * R).sum(1), (R * R).sum(1), l1_norm, largest, l1_penalty)
    return gap.to(embeddings.device) if embeddings.device.type != "mps" else gap


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
        """Build it from dense (batch, n_concepts) weights, without a bound on the gap."""
        rows, columns = weights.nonzero().unbind(1)
        l0 = torch.bincount(rows, minlength=len(weights))
        gap = torch.full((len(weights),), torch.inf, dtype=torch.float64)
        return cls(l0, columns, weights[rows, columns], gap, iterations)

    @classmethod
    def concatenate(cls, parts: list["Solution"]) -> "Solution":
        """The rows of all parts, in order."""
        return cls(*(torch.cat(field) for field in zip(*parts, strict=True)))
