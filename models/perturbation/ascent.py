"""The published call, and restarts around it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from conceptry.models.perturbation.solver import solve


def gradient_ascent(
    *,
    model: Callable[[Tensor], Any],
    data: Tensor,
    target: Any,
    optimizer: Callable[..., torch.optim.Optimizer],
    steps: int,
    targeted: bool = False,
    use_best: bool = False,
    criterion: Callable[[Any, Any], Tensor] | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Perturb every picture of a batch: (perturbed, losses), of the pictures' shape and (batch,).

    The arguments are those of solver.solve, all of which it takes; the pixels have no limits unless `pixel_range` is
    given. Losses are the criterion's, whichever way it was driven.
    """
    solution = solve(
        model=model,
        data=data,
        target=target,
        optimizer=optimizer,
        steps=steps,
        targeted=targeted,
        use_best=use_best,
        criterion=criterion,
        **options,
    )
    return solution.perturbed, solution.losses
