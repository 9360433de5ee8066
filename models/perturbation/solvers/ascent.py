"""`gradient_ascent`, the published call, and random restarts around it."""

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from conceptry.models.errors import InputError
from conceptry.models.perturbation.solvers.gradient import Solution, choose, is_better, solve
from conceptry.models.perturbation.solvers.problem import check_keywords

Result = TypeVar("Result", Solution, tuple[Tensor, Tensor])


def gradient_ascent(
    *,
    model: Callable[[Tensor], Any],
    data: Any,
    target: Any,
    optimizer: Optimizer | Callable[..., Optimizer],
    steps: int,
    perturbation_model: Any = None,
    targeted: bool = False,
    use_best: bool = False,
    criterion: Callable[[Any, Any], Tensor] | None = None,
    reduction_fn: Callable[[Tensor], Tensor] | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Perturb every picture of a batch, away from its target or, with `targeted`, toward it.

    The arguments are those of `solve`, which documents them and all of which it takes; those of the optimiser come
    beside them. Nothing is clipped unless `pixel_range` is given.

    Args:
        model: pictures (batch, ...) -> outputs, differentiable; a torch module is used in evaluation mode.
        data: (batch, ...) pictures, a tensor or lists of numbers.
        target: (batch,) classes, or whatever the criterion takes; lists and numbers become tensors.
        optimizer: a class, a functools.partial of one, or, beside a perturbation model made already, an optimiser.
        steps: gradient steps.
        perturbation_model: what is perturbed, where it is not a delta for each picture; see `AdditivePerturbation`.
        targeted: minimise the criterion instead of maximising it.
        use_best: return for each picture the best iterate instead of the last one.
        criterion: (outputs, target) -> (batch,) losses; None for the cross-entropy of logits.
        reduction_fn: (batch,) losses -> the number that is differentiated; None for their sum.
        **options: the others of `solve`, and those of the optimiser, such as epsilon, lr, q and dq.

    Returns:
        (perturbed, losses): as the pictures, and (batch,), the criterion's whichever way it was driven.

    Raises:
        InputError: naming the argument, what it must be and what it was.

    Example:
        >>> import torch
        >>> from conceptry.models.perturbation import gradient_ascent
        >>> perturbed, losses = gradient_ascent(
        ...     model=lambda data: data,
        ...     data=[-1.0, 2.0],
        ...     target=0.0,
        ...     criterion=lambda outputs, target: (outputs - target).abs(),
        ...     optimizer=torch.optim.SGD,
        ...     lr=0.1,
        ...     steps=5,
        ... )
        >>> perturbed
        tensor([-1.5000,  2.5000])
    """
    known = inspect.signature(gradient_ascent).parameters.keys() | inspect.signature(solve).parameters.keys()
    check_keywords("gradient_ascent", known - {"options"}, optimizer, options)
    data = _as_tensor(data, "data")
    solution = solve(
        model=model,
        data=data,
        target=_as_tensor(target, "target", data),
        optimizer=optimizer,
        steps=steps,
        perturbation_model=perturbation_model,
        targeted=targeted,
        use_best=use_best,
        criterion=criterion,
        reduction_fn=reduction_fn,
        **options,
    )
    return solution.perturbed, solution.losses


def _as_tensor(value: Any, name: str, like: Any = None) -> Any:
    """Lists, arrays and numbers as a tensor, on the device of `like`; anything else as it is."""
    if not isinstance(value, (list, tuple, int, float, np.ndarray)):
        return value
    try:
        return torch.as_tensor(value, device=like.device if isinstance(like, Tensor) else None)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise InputError(f"{name} must be a tensor, or numbers in lists of one length, got another {kind}") from None


def random_restart(solver: Callable[..., Result], repeats: int) -> Callable[..., Result]:
    """A solver that runs `solver` several times and keeps the best result of each image.

    Args:
        solver: solve or gradient_ascent, a functools.partial of either, or a function of your own that returns what
            they do.
        repeats: how many runs, at least 1. They differ by their `seed`, which counts on from the one given, so pass a
            `start` that draws; an optimiser's or a perturbation model's own generator is drawn from on and on. A
            function of your own that takes no `seed` is called with what it is given.

    Returns:
        A function of the solver's arguments that returns what the solver does. Of equally good results the first stays.
        Its progress counts the steps of all runs.
    """
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise InputError(f"repeats must be a whole number of at least 1, got {repeats!r}")

    takes_seed, takes_progress = (_takes(solver, name) for name in ("seed", "progress"))

    def restarted(*positional: Any, **arguments: Any) -> Result:
        given = getattr(solver, "keywords", {}) | arguments
        seed, targeted, progress = given.get("seed", 0), given.get("targeted", False), given.get("progress")
        best: Any = None
        for run in range(repeats):
            if progress is not None and takes_progress:
                arguments["progress"] = lambda done, steps, run=run: progress(run * steps + done, repeats * steps)
            result: Any = solver(*positional, **arguments | ({"seed": seed + run} if takes_seed else {}))
            best = result if best is None else better_of(best, result, targeted)
        return best

    return restarted


def _takes(solver: Callable[..., Any], name: str) -> bool:
    """Whether a keyword can be passed on to a solver."""
    try:
        parameters = inspect.signature(solver.func if isinstance(solver, partial) else solver).parameters
    except (TypeError, ValueError):  # of a compiled function
        return False
    return name in parameters or any(p.kind == p.VAR_KEYWORD for p in parameters.values())


def better_of(old: Any, new: Any, targeted: bool) -> Any:
    """Image by image the result with the better loss, of two Solutions or two of gradient_ascent's pairs."""
    if isinstance(old, Solution):
        take = is_better(old.losses, new.losses, targeted)
        changes = {}
        for field in fields(Solution):
            was, now = getattr(old, field.name), getattr(new, field.name)
            if field.name == "history":  # its columns are the images
                changes[field.name] = torch.where(take, now, was)
            elif field.name == "flat":  # of all runs
                changes[field.name] = was & now
            elif isinstance(was, Tensor):
                changes[field.name] = choose(take, now, was)
        return replace(old, **changes)
    take = is_better(old[1], new[1], targeted)
    return choose(take, new[0], old[0]), choose(take, new[1], old[1])
