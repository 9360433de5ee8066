"""Projected gradient: a step of a set length against the gradient, then back into the norm ball.

Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
arXiv:1706.06083.

Objective: min over ||delta|| <= epsilon of the loss, image by image. Each step:

    L2:    delta <- delta - lr g / ||g||,  then delta <- delta epsilon / (||delta|| + 1e-7) where ||delta|| > epsilon
    Linf:  delta <- delta - lr sign(g),    then every entry is clamped to [-epsilon, epsilon]

| symbol | meaning | shape |
|---|---|---|
| delta | perturbation | (batch, ...) |
| g | gradient of the loss at delta | as delta |
| lr | length of a step, in the units of delta | scalar |
| epsilon | radius of the ball | scalar or (batch,) |
"""

from typing import Any

import torch
from torch import Tensor

from conceptry.models.perturbation.optimizers.base import PerImageOptimizer, check_above_0, radius_of
from conceptry.models.perturbation.optimizers.oracles import l2_direction, linf_direction

_OFFSET = 1e-7  # the published guard of the denominator


def usual_lr(epsilon: float, steps: int) -> float:
    """The usual length of a step: `steps` of them could cross the radius of the ball two and a half times."""
    return 2.5 * epsilon / steps


class Projected(PerImageOptimizer):
    """What the two projected optimisers share.

    Args:
        params: perturbations, each with the batch as its first dimension, or groups of them with options of their own.
        epsilon: radius of the ball, above 0; a tensor (batch,) gives every image its own.
        lr: length of a step, above 0.
        param_ndim: how many of the last dimensions make up one image, see base.py; None: all of them.
        div_by_zero_eps: least norm that a gradient is divided by (L2), None for the least normal number.

    Raises:
        InputError: naming the option, what it must be and what it was.
    """

    def __init__(
        self,
        params: Any,
        *,
        epsilon: float | Tensor,
        lr: float,
        param_ndim: int | None = -1,
        div_by_zero_eps: float | None = None,
    ) -> None:
        options = {"epsilon": epsilon, "lr": lr, "param_ndim": param_ndim, "div_by_zero_eps": div_by_zero_eps}
        super().__init__(params, options)

    def check_options(self, group: dict[str, Any]) -> None:
        check_above_0(group)


class L2Projected(Projected):
    """||delta||_2 <= epsilon, by steps of L2 length lr."""

    def update(self, delta: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> Tensor:
        epsilon = radius_of(group, delta)
        delta.add_(l2_direction(gradient, group["div_by_zero_eps"])[0], alpha=-group["lr"])
        norm = torch.linalg.vector_norm(delta, dim=1, keepdim=True)
        delta.mul_(torch.where(norm > epsilon, epsilon / (norm + _OFFSET), 1.0))
        return norm


class LinfProjected(Projected):
    """No entry beyond epsilon, by steps that move every entry by lr."""

    def update(self, delta: Tensor, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> Tensor:
        epsilon = radius_of(group, delta)
        delta.add_(linf_direction(gradient)[0], alpha=-group["lr"])
        torch.clamp(delta, -epsilon, epsilon, out=delta)
        return torch.linalg.vector_norm(gradient, dim=1)
