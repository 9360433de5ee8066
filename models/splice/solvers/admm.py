"""ADMM for SpLiCE: two matrix products per iteration and nothing else, on any torch device.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

Objective, split in two:  min ||v - C^T x||^2 + l1_penalty sum_i z_i  over x = z, z >= 0.

| symbol | meaning | shape |
|---|---|---|
| V | embeddings | (batch, d) |
| C | dictionary | (n_concepts, d) |
| X, Z | the two copies of the weights; Z >= 0 is returned | (batch, n_concepts) |
| U | scaled dual variable | (batch, n_concepts) |
| rho | weight of the constraint X = Z | scalar |
| K | (rho I + 2 C^T C)^-1 | (d, d) |

One iteration, each row of X written as a column x:

    x <- (2 C C^T + rho I)^-1 y    with  y = 2 C v + rho (z - u)
    z <- max(0, x + u - l1_penalty / rho)
    u <- u + x - z

The matrix to invert is (n_concepts, n_concepts) but of rank d above rho I. By the identity of Woodbury

    (rho I + 2 C C^T)^-1 = (I - 2 C (rho I + 2 C^T C)^-1 C^T) / rho = (I - 2 C K C^T) / rho

so x = (y - 2 C (K (C^T y))) / rho takes two products with C and one with the small K, computed once.

Start: Z = U = 0, so equal input gives equal output. Every CHECK_EVERY iterations the duality gap of Z is
computed for the rows still running; rows within the tolerance leave. Convergence is sublinear in practice:
the solver serves where a compiled one cannot, and as an independent check. The start of a row does not
depend on the others. Memory: four arrays of at most 64 MiB together; larger batches go in chunks.
"""

import torch

from conceptry.models.splice.solvers.duality import Solution, duality_gap, rows_per_chunk

RHO = 5.0
MAX_ITERATIONS = 2000
CHECK_EVERY = 25


def solve(
    embeddings: torch.Tensor,
    dictionary: torch.Tensor,
    l1_penalty: float,
    tolerance: float,
    max_iterations: int | None,
) -> Solution:
    """Decompose embeddings (batch, d); checked by splice.decompose."""
    d = dictionary.shape[1]
    identity = torch.eye(d, dtype=dictionary.dtype, device=dictionary.device)
    K = torch.linalg.inv(RHO * identity + 2 * dictionary.T @ dictionary)
    chunks = embeddings.split(rows_per_chunk(len(dictionary), 4 * dictionary.element_size()))
    limit = max_iterations or MAX_ITERATIONS
    return Solution.concatenate([_solve_chunk(V, dictionary, K, l1_penalty, tolerance, limit) for V in chunks])


def _solve_chunk(V, C, K, l1_penalty, tolerance, limit) -> Solution:
    done = torch.zeros(len(V), len(C), dtype=V.dtype, device=V.device)
    iterations = torch.full((len(V),), limit, dtype=torch.int64)
    running = torch.arange(len(V), device=V.device)
    Z, U = done.clone(), done.clone()
    for iteration in range(1, limit + 1):
        Y = torch.addmm(Z.sub_(U).mul_(RHO), V[running], C.T, alpha=2)
        X = torch.addmm(Y, Y @ C @ K, C.T, alpha=-2).div_(RHO)
        del Y
        U.add_(X)
        Z = (U - l1_penalty / RHO).clamp_(min=0)
        U.sub_(Z)
        if iteration % CHECK_EVERY == 0 or iteration == limit:
            finished = duality_gap(V[running], C, Z, l1_penalty).to(V.device) <= tolerance
            if iteration == limit:
                finished[:] = True
            done[running[finished]] = Z[finished]
            iterations[running[finished].cpu()] = iteration
            running, Z, U = running[~finished], Z[~finished], U[~finished]
            if len(running) == 0:
                break
    return Solution.of_dense(done, iterations)
