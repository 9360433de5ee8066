"""Choosing the pool: the atoms of the dictionary that correlate most with each residual.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

Objective: for each row, the largest correlations above a floor, at most `limit` of them, and a cutoff that
no other entry exceeds. The cutoff is what the solver's proof of optimality rests on.

| symbol | meaning | shape |
|---|---|---|
| correlations | <c_i, r> of every concept with the row's residual | (rows, n_concepts) |
| atoms, counts | the chosen columns, and how many | (rows, limit), (rows,) |
| cutoffs | upper bound on the entries that were not chosen | (rows,) |

Sorting, even in part (torch.topk), costs half of the matrix product that made the correlations. On the CPU
one pass collects what lies above the floor, and a histogram of that picks the bins that fit.
"""

import numpy as np
import torch

from conceptry.models.jit import compiled, over_rows

BINS = 256


@compiled
def _select_rows(correlations, floor, atoms, counts, cutoffs):
    n_rows, n_concepts = correlations.shape
    limit = atoms.shape[1]
    above = np.empty(n_concepts, np.int32)
    bins = np.empty(BINS, np.int64)
    for row in range(n_rows):
        n_above = 0
        top = floor
        for i in range(n_concepts):
            if correlations[row, i] > floor:
                above[n_above] = i
                n_above += 1
                top = max(top, np.float64(correlations[row, i]))
        cutoffs[row] = floor
        if n_above > limit:
            scale = (BINS - 0.001) / (top - floor)
            bins[:] = 0
            for k in range(n_above):
                bins[int((correlations[row, above[k]] - floor) * scale)] += 1
            lowest = BINS - 1  # always taken, as far as there is room
            kept = bins[lowest]
            while kept + bins[lowest - 1] <= limit:
                lowest -= 1
                kept += bins[lowest]
            n_kept = 0
            for k in range(n_above):
                c = np.float64(correlations[row, above[k]])
                if n_kept < limit and int((c - floor) * scale) >= lowest:
                    above[n_kept] = above[k]
                    n_kept += 1
                else:
                    cutoffs[row] = max(cutoffs[row], c)
            n_above = n_kept
        for k in range(n_above):
            atoms[row, k] = above[k]
        counts[row] = n_above


def select(correlations: torch.Tensor, floor: float, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(atoms, counts, cutoffs) as NumPy arrays; on an accelerator only these leave the device."""
    n_rows, n_concepts = correlations.shape
    limit = min(limit, n_concepts)
    if correlations.device.type != "cpu":
        return _select_on_device(correlations, floor, limit)
    atoms = np.empty((n_rows, limit), np.int32)
    counts = np.empty(n_rows, np.int64)
    cutoffs = np.empty(n_rows)
    c = correlations.numpy()
    over_rows(lambda i: _select_rows(c[i], floor, atoms[i], counts[i], cutoffs[i]), n_rows)
    return atoms, counts, cutoffs


def _select_on_device(correlations, floor, limit):
    """The same by torch.topk, which is fast where there are thousands of cores."""
    n_taken = min(limit + 1, correlations.shape[1])  # one more: the largest that is left out
    values, columns = torch.topk(correlations, n_taken, dim=1)
    kept = values[:, :limit]
    counts = (kept > floor).sum(dim=1)
    cutoffs = torch.full((len(values),), floor, device=values.device, dtype=values.dtype)
    if n_taken > limit:
        cutoffs = torch.maximum(cutoffs, values[:, limit])
    return (
        columns[:, :limit].to("cpu", torch.int32).numpy(),
        counts.cpu().numpy(),
        cutoffs.to("cpu", torch.float64).numpy(),
    )
