"""Exact batched solver for SpLiCE: pools of concepts, each proved sufficient by a bound.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

Objective, for each row: min_{w >= 0} ||v - C^T w||^2 + l1_penalty ||w||_1.

| symbol | meaning | shape |
|---|---|---|
| V, R | embeddings; residuals V - W C | (batch, d) |
| C | dictionary, rows of any norm | (n_concepts, d) |
| tau | l1_penalty / 2: at the optimum <c_i, r> <= tau, with equality where w_i > 0 | scalar |
| cutoff | no concept outside a row's pool has a correlation <c_i, r> above it | (batch,) |

A round:

1. correlate: one matrix product R C^T for the rows that are not finished, on the device of the tensors.
2. select:    per row, a pool: the support so far and the concepts that correlate most (`select`).
3. solve:     the problem restricted to the pool, to rounding, in compiled code on the CPU (_kernels.py).
4. certify:   the residual moved from r to r', and by Cauchy-Schwarz, for every concept i outside the pool,

                  <c_i, r'> = <c_i, r> + <c_i, r' - r> <= cutoff + ||c_i|| ||r' - r|| + rounding.

   Inside the pool <c_i, r'> is known. The larger of the two goes into the duality gap (duality.py) as bound
   on max_i <c_i, r'>. Once the gap is within the tolerance the row is finished, with a proof, and without
   the matrix product that a look at all concepts would take.

The first pool is small, because the residual will move far and nothing can be proved yet. Later the residual
hardly moves, and the pool is made so wide that the proof succeeds: typically two products per row and a
third for some rows. The pool doubles in every further round, so a dictionary with thousands of equal atoms,
or a penalty so small that hundreds of concepts are used, only takes more rounds.

Rounding of the product: |fl(<c, r>) - <c, r>| <= ((d + 1) u + 2 u_in + u_in^2) ||c|| ||r||, with u the unit
roundoff of the dtype, to which r is rounded as well, and u_in that of the inputs within the product, which
torch.set_float32_matmul_precision may coarsen.

Memory: 64 MiB of correlations at a time; larger batches go in chunks of rows. Rows do not influence one
another, but for rounding of the product. There is no randomness.
"""

import numpy as np
import torch

from conceptry.models.jit import over_rows
from conceptry.models.splice.solvers._kernels import ADMITTED_AT_ONCE, select_rows, solve_rows
from conceptry.models.splice.solvers.duality import Solution, gap_from_moments, rows_per_chunk

MAX_ROUNDS = 50
FIRST_POOL, FIRST_FLOOR = 192, 0.9  # concepts at most; and only those that correlate more than floor * tau
LATER_POOL, LATER_FLOOR = 256, 0.7
_INPUT_ROUNDOFF = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}  # none, TF32, bfloat16


def solve(
    embeddings: torch.Tensor,
    dictionary: torch.Tensor,
    l1_penalty: float,
    tolerance: float,
    max_iterations: int | None,
) -> Solution:
    """Decompose float32 or float64 embeddings (batch, d); checked by splice.decompose.

    `max_iterations` bounds the rounds. The tensors of the solution are on the CPU.
    """
    dictionary = dictionary.contiguous()
    chunks = embeddings.split(rows_per_chunk(len(dictionary), dictionary.element_size()))
    host = dictionary.cpu().numpy()
    largest_norm = float(torch.linalg.vector_norm(dictionary, dim=1).max())
    parts = [
        _solve_chunk(V, dictionary, host, largest_norm, l1_penalty, tolerance, max_iterations or MAX_ROUNDS)
        for V in chunks
    ]
    return Solution.concatenate(parts)


def _solve_chunk(embeddings, dictionary, C, largest_norm, l1_penalty, tolerance, max_rounds) -> Solution:
    """`solve` for one chunk of rows; C is the dictionary as a NumPy array. The state is NumPy, one row per row."""
    V = np.ascontiguousarray(embeddings.cpu().numpy())
    n_rows, d = V.shape
    tau = l1_penalty / 2
    R = V.astype(np.float64)
    capacity = min(len(C), 2 * d + 4 * ADMITTED_AT_ONCE)  # independent atoms are at most d; the rest is slack
    support = np.zeros((n_rows, capacity), np.int64)
    weights = np.zeros((n_rows, capacity))
    counts = np.zeros(n_rows, np.int64)
    gap = np.full(n_rows, np.inf)
    rounds = np.zeros(n_rows, np.int64)
    active = np.arange(n_rows)

    for done in range(max_rounds):
        limit, floor = (LATER_POOL << (done - 1), LATER_FLOOR) if done else (FIRST_POOL, FIRST_FLOOR)
        correlations = torch.from_numpy(R[active].astype(V.dtype)).to(dictionary.device) @ dictionary.T
        owners, places = np.nonzero(np.arange(capacity) < counts[active, None])
        owned = torch.from_numpy(np.stack([owners, support[active[owners], places]])).to(dictionary.device)
        correlations[owned[0], owned[1]] = -torch.inf
        atoms, n_atoms, outside = select(correlations, floor * tau, limit)
        del correlations

        moments = np.empty((len(active), 5))
        outside += largest_norm * _rounding(V.dtype, d) * np.linalg.norm(R[active], axis=1)
        state = (C, V, R, support, weights, counts)
        over_rows(
            lambda i, rows=active, pools=(atoms, n_atoms), out=moments, state=state: solve_rows(
                *state, rows[i], pools[0][i], pools[1][i], tau, out[i]
            ),
            len(active),
        )
        v_dot_r, r_dot_r, l1_norm, inside, moved = torch.from_numpy(moments).unbind(1)
        largest = torch.maximum(inside, torch.from_numpy(outside) + largest_norm * moved)
        gap[active] = gap_from_moments(v_dot_r, r_dot_r, l1_norm, largest, l1_penalty).numpy()
        rounds[active] = done + 1
        active = active[gap[active] > tolerance]
        if len(active) == 0:
            break

    owners, places = np.nonzero(np.arange(capacity) < counts[:, None])
    indices = support[owners, places]
    order = np.lexsort((indices, owners))
    fields = counts, indices[order], weights[owners, places][order], gap, rounds
    return Solution(*map(torch.from_numpy, fields))


def _rounding(dtype: np.dtype, d: int) -> float:
    """Bound on the error of a computed <c, r>, relative to ||c|| ||r||."""
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses to say after a mix of its older and newer settings: assume the coarsest
        precision = "medium"
    u_in = _INPUT_ROUNDOFF[precision] if dtype == np.float32 else 0.0
    return (d + 1) * float(np.finfo(dtype).eps) / 2 + 2 * u_in + u_in**2


def select(correlations: torch.Tensor, floor: float, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose the pool of each row of correlations (rows, n_concepts): (atoms, counts, cutoffs) of `_kernels`.

    They are NumPy arrays; on an accelerator only these leave the device.
    """
    n_rows, n_concepts = correlations.shape
    limit = min(limit, n_concepts)
    if correlations.device.type != "cpu":
        return _select_on_device(correlations, floor, limit)
    atoms = np.empty((n_rows, limit), np.int32)
    counts = np.empty(n_rows, np.int64)
    cutoffs = np.empty(n_rows)
    c = correlations.numpy()
    over_rows(lambda i: select_rows(c[i], floor, atoms[i], counts[i], cutoffs[i]), n_rows)
    return atoms, counts, cutoffs


def _select_on_device(
    correlations: torch.Tensor, floor: float, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`select` by torch.topk, which is fast where there are thousands of cores."""
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
