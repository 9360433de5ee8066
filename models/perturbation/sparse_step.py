"""The Frank-Wolfe step of the L1-q ball on the CPU: what the compiled kernel is given, and what it leaves."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from conceptry.models.perturbation.oracles import Kept, kth_largest


def sparse_step(delta: Tensor, gradient: Tensor, kept: Kept, a: float, epsilon: float | Tensor) -> Tensor:
    """Walk delta, (batch, entries) on the CPU, in place a step of size `a`; returns the gap before it, (batch,).

    epsilon is a number or a tensor (batch, 1). The result is that of oracles.l1q_direction to the last bit; the gap,
    of sums in another order, to rounding.
    """
    from conceptry.models.perturbation.l1q_kernel import l1q_step  # numba is slow to import

    gradient = gradient.contiguous()
    threshold = kth_largest(gradient.abs(), kept).numpy()[:, 0]
    walked = delta.numpy()
    batch, number = len(walked), walked.dtype.type
    if isinstance(epsilon, Tensor):
        radius, reach = epsilon.numpy()[:, 0], (a * epsilon).numpy()[:, 0]
    else:
        radius, reach = np.full(batch, number(epsilon)), np.full(batch, number(a * epsilon))
    k = kept.numpy()[:, 0] if isinstance(kept, Tensor) else np.full(batch, kept)
    gap = np.empty(batch, walked.dtype)
    share = _shares(int(k.max()), walked.dtype)
    l1q_step(walked, gradient.numpy(), k, np.ascontiguousarray(threshold), number(1.0 - a), reach, radius, share, gap)
    return torch.from_numpy(gap)


@lru_cache(maxsize=64)
def _shares(most: int, dtype: np.dtype) -> np.ndarray:
    """1 / m for m up to `most`; nothing reads that of 0."""
    return np.reciprocal(np.maximum(np.arange(most + 1), 1).astype(dtype))
