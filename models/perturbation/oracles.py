"""Which vertex of a norm ball a gradient points away from: the linear step of every optimiser here.

Jaggi, "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization", ICML 2013; the L1-q ball is that of
Roberts, Tsiligkaridis, "Controllably Sparse Perturbations of Robust Classifiers for Explaining Predictions and Probing
Learned Concepts", MLVis 2021.

Over the ball of radius epsilon the linear function <g, s> is least at s = -epsilon u, image by image:

| ball | u | <g, u> |
|---|---|---|
| L2 | g / ||g||_2 | ||g||_2 |
| Linf | sign(g) | ||g||_1 |
| L1 | sign(g) at the largest entry of abs(g) | ||g||_inf |
| L1-q | sign(g) / m at the k largest entries of abs(g), m of them not 0 | their mean |

| symbol | meaning | shape |
|---|---|---|
| g | gradient, an image a row | (batch, entries) |
| k | how many entries are kept, round((1 - q) entries) | an integer, or (batch, 1) |
| u | what this file computes | as g |

A gradient of zeros has u = 0. Of entries that are equally large, the first ones are kept.
"""

import numpy as np
import torch
from torch import Tensor

Kept = int | Tensor  # one k for all images, or int64 (batch, 1), on the CPU


def kept_entries(q: float | Tensor, entries: int) -> Kept:
    """k = round((1 - q) entries), of float64 numbers, half to even; for a tensor (batch,) of q one k an image."""
    if isinstance(q, Tensor):
        return ((1.0 - q.double().cpu()) * entries).round().long()[:, None]
    return round((1.0 - q) * entries)


def l2_direction(gradient: Tensor) -> Tensor:
    """g / ||g||, and 0 where g is."""
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    return gradient / norm.clamp_(min=torch.finfo(gradient.dtype).tiny)


def linf_direction(gradient: Tensor) -> Tensor:
    """sign(g)."""
    return gradient.sign()


def l1q_direction(gradient: Tensor, kept: Kept) -> Tensor:
    """sign(g) / m at the `kept` largest entries of abs(g), of which m are not 0; elsewhere 0.

    Zeros among the kept entries have no sign, so a tie at 0 needs no decision. Other ties are rare: on the CPU they
    are looked for first; elsewhere this would make the host wait, and the decision itself is the cheaper part.
    """
    strength = gradient.abs()
    threshold = _kth_largest(strength, kept)
    signs = gradient.sign().mul_(strength >= threshold)
    count = torch.count_nonzero(signs, dim=1)[:, None]
    limit = kept.to(gradient.device) if isinstance(kept, Tensor) else kept
    if gradient.device.type != "cpu" or bool((count > limit).any()):
        above = strength > threshold
        tied = strength == threshold
        first = tied.cumsum(dim=1) <= limit - above.sum(dim=1, keepdim=True)
        signs.mul_(above | (tied & first))
        count = torch.count_nonzero(signs, dim=1)[:, None]
    return signs.div_(count.clamp_(min=1))


def _kth_largest(strength: Tensor, kept: Kept) -> Tensor:
    """(batch, 1), the k-th largest entry of each row; infinity where k is 0.

    On the CPU by NumPy's partition, which selects in vector registers: at (4, 150528) it takes 0.4 ms where
    torch.topk takes 10. The accelerators' topk is fast.
    """
    batch, entries = strength.shape
    if isinstance(kept, Tensor):
        ordered = _partition_rows(strength, kept) if strength.device.type == "cpu" else None
        if ordered is not None:
            return ordered
        largest = strength.topk(max(int(kept.max()), 1), dim=1).values
        position = (kept - 1).clamp_(min=0).to(strength.device)
        return largest.gather(1, position).masked_fill_(kept.to(strength.device) == 0, torch.inf)
    if kept == 0:
        return strength.new_full((batch, 1), torch.inf)
    if strength.device.type != "cpu":
        return strength.topk(kept, dim=1).values[:, -1:]
    ordered = np.partition(strength.numpy(), entries - kept, axis=1)
    return torch.from_numpy(ordered[:, entries - kept, None].copy())


def _partition_rows(strength: Tensor, kept: Tensor) -> Tensor:
    """_kth_largest on the CPU for a k of its own in every row."""
    entries = strength.shape[1]
    result = np.full((len(strength), 1), np.inf, strength.numpy().dtype)
    for i, (row, k) in enumerate(zip(strength.numpy(), kept[:, 0].tolist(), strict=True)):
        if k:
            result[i, 0] = np.partition(row, entries - k)[entries - k]
    return torch.from_numpy(result)
