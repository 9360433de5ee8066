"""Look in a norm ball around each image for the perturbation that changes a model's output as asked.

Roberts, Tsiligkaridis, "Controllably Sparse Perturbations of Robust Classifiers for Explaining Predictions and Probing
Learned Concepts", MLVis 2021.

Objective, image by image, with an optimiser that keeps delta in its ball:

    targeted:    min over delta of  loss(f(x + delta), target)
    untargeted:  max over delta of  loss(f(x + delta), target)

| symbol | meaning | shape |
|---|---|---|
| x | images | (batch, ...) |
| delta | perturbation | as x |
| f | model | as x -> (batch, ...) |
| loss | criterion, cross-entropy of logits by default | (batch,) |

Returned is, image by image, the last iterate, the best, or the first that was sure enough.

T steps take T backward and T + 1 forward passes: the loss of the last iterate is measured as well. The gradient is
that of the sum over the batch, so that the images do not know of each other, and it is taken with respect to delta
alone: the model's parameters are never differentiated.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from conceptry.models.errors import InputError
from conceptry.models.explained.hooks import evaluation_mode, tracked
from conceptry.models.perturbation.optimizers.base import PerImageOptimizer
from conceptry.models.perturbation.solvers.problem import Problem, Start, check_keywords, check_problem


def is_better(old: Tensor, new: Tensor, targeted: bool) -> Tensor:
    """(batch,) whether the new loss is the better one."""
    return new < old if targeted else new > old


def choose(take: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new rows (batch, ...) where `take` (batch,), else the old ones."""
    return torch.where(take.view(-1, *[1] * (new.ndim - 1)), new, old)


class IterateTracker:
    """Looks at every iterate, remembers the losses, and holds what is to be returned so far."""

    def __init__(self, problem: Problem, targeted: bool, use_best: bool) -> None:
        self.problem, self.targeted, self.use_best = problem, targeted, use_best
        self.rows: list[Tensor] = []
        self.done: Tensor | None = None
        self.best: tuple[Tensor, Tensor, Tensor] | None = None

    def update(self, step: int, delta: Tensor, outputs: Any, losses: Tensor) -> bool:
        """Take in the iterate after `step` steps; returns whether all images are done."""
        if not self.use_best and self.problem.confidence is None:
            self.rows.append(losses)
            return False
        delta = delta.detach()
        reached = self._reached(outputs)
        if self.best is None:
            self.rows.append(losses)
            self.best = (delta.clone(), losses.clone(), torch.zeros_like(losses, dtype=torch.int64))
            self.done = reached
        else:
            assert self.done is not None
            self.rows.append(losses.masked_fill(self.done, torch.nan))
            take = ~self.done
            if self.use_best:
                take &= is_better(self.best[1], losses, self.targeted) | reached
            self.best = (
                choose(take, delta, self.best[0]),
                choose(take, losses, self.best[1]),
                self.best[2].masked_fill(take, step),
            )
            self.done = self.done | reached
        return self.problem.confidence is not None and bool(self.done.all())

    def _reached(self, outputs: Any) -> Tensor:
        """(batch,) whether the probability is high enough."""
        confidence, target = self.problem.confidence, self.problem.target
        if confidence is None:
            return torch.zeros(len(self.problem.data), dtype=torch.bool, device=self.problem.data.device)
        probabilities = outputs.detach().softmax(dim=1)
        probability = probabilities.gather(1, target[:, None])[:, 0]
        if self.targeted:
            return probability >= confidence
        # A class of many can be the most probable one with little: then it has not been left.
        return (1 - probability >= confidence) & (probabilities.argmax(1) != target)

    def result(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """delta, losses and steps of the iterates to return."""
        if self.best is not None:
            return self.best
        steps = torch.full_like(self.rows[-1], len(self.rows) - 1, dtype=torch.int64)
        return delta.detach(), self.rows[-1].clone(), steps

    def history(self, steps: int) -> Tensor:
        """(steps + 1, batch); NaN in the rows of the steps that nothing needed."""
        seen = torch.stack(self.rows)
        return torch.cat([seen, seen.new_full((steps + 1 - len(seen), seen.shape[1]), torch.nan)])


_HALF_SCALE = 256.0  # of float16 gradients, so that small ones are not rounded to 0


@dataclass(frozen=True, eq=False)
class Solution:
    """What a search found.

    Attributes:
        perturbed: x + delta, as the pictures; inside `pixel_range` where that was given.
        delta: the perturbation, as the pictures.
        losses: (batch,) the criterion at `perturbed`.
        steps: (batch,) int64, gradient steps behind `perturbed`.
        gap: (batch,) Frank-Wolfe gap at the iterate from which the last of these steps was taken, NaN where there was
            none; None for an optimiser that has no gap.
        history: (T + 1, batch) the criterion at every iterate, NaN after an image was done.
        flat: (batch,) whether every step had a gradient of zeros, so that nothing could be tried.
        targeted: whether the criterion was minimised.
        pixel_range: the range that the pictures were kept in, or None.
        confidence: the probability at which an image was done, or None.
        precision: of the model's passes.
    """

    perturbed: Tensor
    delta: Tensor
    losses: Tensor
    steps: Tensor
    gap: Tensor | None
    history: Tensor
    flat: Tensor
    targeted: bool
    pixel_range: tuple[float, float] | None
    confidence: float | None
    precision: str


def solve(
    *,
    model: Callable[[Tensor], Any],
    data: Tensor,
    target: Any,
    optimizer: Optimizer | Callable[..., Optimizer],
    steps: int,
    targeted: bool = False,
    use_best: bool = False,
    criterion: Callable[[Any, Any], Tensor] | None = None,
    perturbation_model: Any = None,
    reduction_fn: Callable[[Tensor], Tensor] | None = None,
    pixel_range: tuple[float, float] | None = None,
    support: Tensor | None = None,
    start: Start | None = None,
    seed: int = 0,
    confidence: float | None = None,
    precision: str = "float32",
    compile: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Solution:
    """Perturb every picture of a batch.

    Args:
        model: pictures -> outputs, with the batch first; differentiable in the pictures. A torch module is used in
            evaluation mode and given back as it was.
        data: (batch, ...) pictures of a floating type.
        target: (batch,) class of each picture, a tensor or a list of integers; for a criterion of your own, whatever
            that takes.
        optimizer: a class of this package, or anything that makes a torch optimiser of ([delta], **options); or an
            optimiser of the parameters of a `perturbation_model` that is made already.
        steps: T, how many gradient steps.
        targeted: go towards the target (minimise the criterion), else away from it.
        use_best: return for each picture the best of all its iterates, the start included; else the last one.
        criterion: (outputs, target) -> (batch,) losses; None for the cross-entropy of logits (batch, classes).
        perturbation_model: what is perturbed, where it is not a delta for each picture: a torch module of pictures
            that returns perturbed ones, or a class or function that makes one of the pictures, such as
            functools.partial(AdditivePerturbation, delta_ndim=-1) for one delta that all share. The parameters of one
            that is made already are changed, and it keeps them. The optimisers of this package take the first
            dimension of a parameter as the batch, so pass them param_ndim=None for a universal perturbation.
        reduction_fn: (batch,) losses, negative ones where they are maximised -> the number whose gradient is taken;
            None for their sum. A universal perturbation wants torch.mean.
        pixel_range: (least, most) value of a pixel: after every step delta is cut so that x + delta is inside, which
            leaves it in the ball. None for no limit, as published.
        support: boolean, broadcastable to the pictures: where delta may be other than 0. L1q keeps the k of the whole
            picture, or all that is free where that is less.
        start: delta to start from, as the pictures, or a function that draws one by a torch.Generator; None for 0.
        seed: of that generator.
        confidence: a picture is done at its first iterate where the softmax probability of the target (untargeted: of
            all other classes together, one of which has to be the most probable) is at least this, and that iterate is
            returned for it; the loop ends when all are done. For models that return logits.
        precision: "float32", or "bfloat16" or "float16" for automatic mixed precision in the model's passes; delta
            and the criterion stay as they are. On the robust networks of digits (45 steps, every optimiser) the loss
            of an image came out within .45 (bfloat16) or .25 (float16) of that in float32, .03 on average, with the
            same predicted class for 95 of 100; single pixels differ by more, as a step moves those of largest gradient.
        compile: whether the model is compiled by torch.compile, which takes a while and pays for many pictures or
            steps. The same networks' losses came out within .005, as rounding rarely changes which pixels move.
        progress: called with (steps done, T) after each.
        options: the optimiser's.

    Returns:
        A Solution. `data` and `target` are not changed, and nothing is kept between calls.

    Raises:
        InputError: naming the argument, what it must be and what it was.
    """
    check_keywords("solve", inspect.signature(solve).parameters, optimizer, options)
    with torch.inference_mode(False), torch.enable_grad():
        data, target = tracked(data), tracked(target)
        problem = check_problem(
            model=model, data=data, target=target, optimizer=optimizer, steps=steps, criterion=criterion,
            pixel_range=pixel_range, support=support, start=start, seed=seed, confidence=confidence,
            precision=precision, compile=compile, perturbation_model=perturbation_model, reduction_fn=reduction_fn,
            options=options,
        )  # fmt: skip
        with evaluation_mode(model):
            best, history, gaps, flat = _descend(problem, optimizer, steps, targeted, use_best, progress, options)
    iterate, losses, taken = best
    gap = None if gaps is None else _last_gap(gaps, taken)
    _check_finite(iterate, gap, taken)
    if problem.perturbation is not None:
        perturbed, delta = iterate, iterate - problem.data
    else:
        perturbed, delta = problem.data + iterate, iterate
    if pixel_range is not None:
        perturbed.clamp_(*pixel_range)
    return Solution(perturbed, delta, losses, taken, gap, history, flat, targeted, pixel_range, confidence, precision)


def _descend(
    problem: Problem,
    optimizer: Optimizer | Callable[..., Optimizer],
    steps: int,
    targeted: bool,
    use_best: bool,
    progress: Callable[[int, int], None] | None,
    options: dict[str, Any],
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, list[Tensor] | None, Tensor]:
    """(Iterates, losses and steps of what is returned; history; gaps, one a step, or None where there are none; flat).

    The iterates are deltas, or the pictures that a perturbation model made.
    """
    parameters, delta = problem.parameters, problem.start
    mover = optimizer if isinstance(optimizer, Optimizer) else optimizer(parameters, **options)
    move = mover.move if isinstance(mover, PerImageOptimizer) else mover.step
    gap_of = getattr(mover, "gap", None) if problem.perturbation is None else None
    scale = _HALF_SCALE if problem.precision == "float16" else 1.0
    tracker = IterateTracker(problem, targeted, use_best)
    gaps: list[Tensor] | None = None if gap_of is None else []
    iterate, flat = delta, None
    for t in range(steps + 1):
        with torch.set_grad_enabled(t < steps):
            perturbed = problem.perturbed()
            if t == 0:
                problem.check_perturbed(perturbed)
            outputs = problem.outputs(perturbed)
            if t == 0:
                problem.check_outputs(outputs)
            losses = problem.losses(outputs)
            if t == 0:
                problem.check_losses(losses)
        iterate = delta if problem.perturbation is None else perturbed.detach()
        if tracker.update(t, iterate, outputs, losses.detach()) or t == steps:
            break
        gradients = problem.gradients(losses, parameters, 1.0 if targeted else -1.0, scale)
        del perturbed, outputs, losses  # the graph, before the next one is built
        zeros = _zeros(gradients, len(problem.data))
        flat = zeros if flat is None else flat & zeros
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        move()
        for parameter in parameters:
            parameter.grad = None
        gradients = gradient = None
        if gap_of is not None and gaps is not None:
            gaps.append(gap_of(delta))
            if gaps[-1].shape != (len(problem.data),):  # param_ndim takes other things than pictures for images
                gap_of = gaps = None
        if problem.bounds is not None:
            with torch.no_grad():
                torch.clamp(delta, *problem.bounds, out=delta)
        if progress is not None:
            progress(t + 1, steps)
    none = torch.zeros(len(problem.data), dtype=torch.bool, device=problem.data.device)
    return tracker.result(iterate), tracker.history(steps), gaps, none if flat is None else flat


def _zeros(gradients: Sequence[Tensor | None], rows: int) -> Tensor:
    """(rows,) whether all that moves an image has a gradient of zeros; parameters that images share are of each."""
    found = [gradient for gradient in gradients if gradient is not None]
    if len(found) == 1 and found[0].ndim and len(found[0]) == rows:
        return (found[0] == 0).reshape(rows, -1).all(1)
    return torch.stack([(gradient == 0).all() for gradient in found]).all().expand(rows)


def _last_gap(gaps: list[Tensor], steps: Tensor) -> Tensor:
    """(batch,) the gap of the last of each image's `steps`."""
    none = torch.full_like(steps, torch.nan, dtype=gaps[0].dtype if gaps else torch.float32)
    return torch.stack([none, *gaps]).gather(0, steps[None])[0]


def _check_finite(delta: Tensor, gap: Tensor | None, steps: Tensor) -> None:
    """Raise InputError where the gradient held NaN or infinity, which the optimisers look for on the CPU only."""
    wrong = ~delta.flatten(1).isfinite().all(dim=1) if delta.ndim > 1 else ~delta.isfinite()
    if gap is not None:
        wrong |= ~gap.isfinite() & (steps > 0)
    if bool(wrong.any()):
        image = int(wrong.nonzero()[0])
        raise InputError(f"the gradient must be finite, but that of image {image} held NaN or infinity")
