"""Reference solver for SpLiCE: scikit-learn's coordinate descent, one embedding at a time.

Bhalla et al., "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", 2024, arXiv:2402.10376.

Objective: min_{w >= 0} ||v - C^T w||^2 + l1_penalty ||w||_1. This is how the published implementation solves it.

| symbol | meaning | shape |
|---|---|---|
| v | embedding; scikit-learn's y | (d,) |
| C^T | transposed dictionary; scikit-learn's X, with d samples and one feature per concept | (d, n_concepts) |
| alpha | l1_penalty / (2 d), scikit-learn's penalty | scalar |

scikit-learn minimises 1/(2d) ||y - X w||^2 + alpha ||w||_1, our objective divided by 2d. It stops when the
gap of 1/2 ||y - X w||^2 + d alpha ||w||_1, half of ours, is below tol ||y||^2: so tol = tolerance / 2 for
unit-norm rows. It computes that gap in the dtype of its input and float32 would stall just above 1e-7,
hence float64 here.
"""

import threading
import warnings

import numpy as np
import torch

from conceptry.models.splice.solvers.duality import Solution

MAX_SWEEPS = 10_000
_filters = threading.Lock()  # the warning filters belong to the process


def solve(
    embeddings: torch.Tensor,
    dictionary: torch.Tensor,
    l1_penalty: float,
    tolerance: float,
    max_iterations: int | None,
) -> Solution:
    """Decompose embeddings (batch, d); checked by splice.decompose. `max_iterations` bounds the sweeps."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    X = dictionary.cpu().double().numpy().T
    d = dictionary.shape[1]
    lasso = Lasso(
        alpha=l1_penalty / (2 * d),
        fit_intercept=False,
        positive=True,
        max_iter=max_iterations or MAX_SWEEPS,
        tol=tolerance / 2,
    )
    indices, weights, sweeps = [], [], []
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the certified gap speaks for all solvers
        for v in embeddings.cpu().double().numpy():
            lasso.fit(X, v)
            indices.append(np.flatnonzero(lasso.coef_))
            weights.append(lasso.coef_[indices[-1]])
            sweeps.append(lasso.n_iter_)
    return Solution(
        torch.tensor([len(i) for i in indices], dtype=torch.int64),
        torch.from_numpy(np.concatenate([np.empty(0, np.int64), *indices])),
        torch.from_numpy(np.concatenate([np.empty(0), *weights])),
        torch.full((len(embeddings),), torch.inf, dtype=torch.float64),
        torch.tensor(sweeps, dtype=torch.int64),
    )
