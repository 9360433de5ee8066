"""`gradient_ascent`, the published call, and random restarts around it."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.perturbation.solvers.gradient import Solution, choose, is_better, solve

Result = TypeVar("Result", Solution, tuple[Tensor, Tensor])


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

    The arguments are those of `gradient.solve`, all of which it takes; the pixels have no limits unless `pixel_range`
    is given. Losses are the criterion's, whichever way it was driven.
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


def random_restart(solver: Callable[..., Result], repeats: int) -> Callable[..., Result]:
    """A solver that runs `solver` several times and keeps the best result of each image.

    Args:
        solver: solve or gradient_ascent, or a functools.partial of either.
        repeats: how many runs, at least 1. They differ by their `seed`, which counts on from the one given, so pass a
            `start` that draws; an optimiser's own generator, where one is passed, is drawn from on and on.

    Returns:
        A function of the solver's arguments that returns what the solver does. Of equally good results the first stays.
        Its progress counts the steps of all runs.
    """
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise InputError(f"repeats must be a whole number of at least 1, got {repeats!r}")

    def restarted(**arguments: Any) -> Result:
        given = getattr(solver, "keywords", {}) | arguments
        seed, targeted, progress = given.get("seed", 0), given.get("targeted", False), given.get("progress")
        best: Any = None
        for run in range(repeats):
            if progress is not None:
                arguments["progress"] = lambda done, steps, run=run: progress(run * steps + done, repeats * steps)
            result: Any = solver(**arguments | {"seed": seed + run})
            best = result if best is None else better_of(best, result, targeted)
        return best

    return restarted


def better_of(old: Any, new: Any, targeted: bool) -> Any:
    """Image by image the result with the better loss, of two Solutions or two of gradient_ascent's pairs."""
    if isinstance(old, Solution):
        take = is_better(old.losses, new.losses, targeted)
        changes = {}
        for field in fields(Solution):
            was, now = getattr(old, field.name), getattr(new, field.name)
            if field.name == "history":  # its columns are the images
                changes[field.name] = torch.where(take, now, was)
            elif isinstance(was, Tensor):
                changes[field.name] = choose(take, now, was)
        return replace(old, **changes)
    take = is_better(old[1], new[1], targeted)
    return choose(take, new[0], old[0]), choose(take, new[1], old[1])
