"""Attacks to train against: projected gradient ascent on the loss, within an L2 ball around each picture.

Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018.

    delta <- P(delta + a g / ||g||),    P(delta) = delta min(1, epsilon / ||delta||),    a = 2.5 epsilon / steps

| symbol | meaning | shape |
|---|---|---|
| x | pictures, pixels in [0, 1] | (batch, C, H, W) |
| g | gradient of a picture's cross-entropy at x + delta | as x |
| epsilon | radius of the ball | scalar |

The steps could reach 2.5 times as far as the border, so the whole ball is within reach. delta starts at 0, so that no
generator is needed, and x + delta may leave [0, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-12  # norms below it are as good as 0


def l2_attack(network: Callable[[Tensor], Tensor], x: Tensor, targets: Tensor, epsilon: float, steps: int) -> Tensor:
    """x + delta (batch, C, H, W), attacked away from `targets` (batch,), int64. The network is called as it stands."""
    delta = torch.zeros_like(x)
    for _ in range(steps):
        delta.requires_grad_()
        loss = functional.cross_entropy(network(x + delta), targets, reduction="sum")
        (g,) = torch.autograd.grad(loss, delta)
        delta = delta.detach() + 2.5 * epsilon / steps * g / _norms(g)
        delta *= (epsilon / _norms(delta)).clamp(max=1)
    return x + delta


def _norms(values: Tensor) -> Tensor:
    """L2 norm of each picture, (batch, 1, 1, 1)."""
    return values.flatten(1).norm(dim=1).clamp(min=_TINY).view(-1, 1, 1, 1)
