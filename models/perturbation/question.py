"""One batch of questions to a network: where to start from, the solver's answer, what is delivered, and its judgement.

| symbol | meaning | shape |
|---|---|---|
| x | start; `noise` and `grey` lie on the grid v / 255 of 8 bits that images are delivered in | (batch, C, H, W) |
| f | what the criterion looks at: logits of the classes, or the representation of a layer | (batch, m) |
| L | criterion: cross-entropy to a class, or the distance to a representation | (batch,) |

With `max_changed` it is solved twice: over all pixels, and again over those that mattered most.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from conceptry.models.perturbation.class_scores import ClassScores
from conceptry.models.perturbation.explanation import Explanation
from conceptry.models.perturbation.optimizers.frank_wolfe import (
    L1FrankWolfe,
    L1qFrankWolfe,
    L2FrankWolfe,
    LinfFrankWolfe,
)
from conceptry.models.perturbation.optimizers.projected import L2Projected, LinfProjected, usual_lr
from conceptry.models.perturbation.settings import L1Q, Settings
from conceptry.models.perturbation.solvers.ascent import better_of
from conceptry.models.perturbation.solvers.budget import check_kept, pixel_budget, strongest_pixels
from conceptry.models.perturbation.solvers.gradient import Solution, solve

LEVELS = 255


def noise(rows: Iterable[int], shape: tuple[int, ...], seed: int) -> Tensor:
    """Uniform noise, float32 (rows, *shape): a row's is a function of `seed` and its number alone.

    So a probe is the same in any batch and whatever is asked beside it.
    """
    drawn = [np.random.default_rng([seed, row]).integers(LEVELS + 1, size=shape, dtype=np.uint8) for row in rows]
    return torch.from_numpy(np.stack(drawn)).float() / LEVELS


def grey(rows: int, shape: tuple[int, ...]) -> Tensor:
    """The middle grey, 128 / 255, float32 (rows, *shape)."""
    return torch.full((rows, *shape), 128 / LEVELS)


def to_eight_bits(pixels: Tensor) -> Tensor:
    """Pixels as a file of 8 bits gives them back: clipped to [0, 1] and rounded to v / 255."""
    return (pixels.clamp(0, 1) * LEVELS).round() / LEVELS


def in_ball(like: Tensor, optimizer: str, radius: float, generator: torch.Generator) -> Tensor:
    """A perturbation to restart from, as `like`: of random direction on the l2 sphere, or uniform in the linf cube.

    It is the same for all pictures, so that an answer does not depend on what else is asked.
    """
    shape = like.shape[1:]
    if optimizer.startswith("linf"):
        return ((2 * torch.rand(shape, generator=generator) - 1) * radius).to(like).expand_as(like)
    drawn = torch.randn(shape, generator=generator)
    return (drawn / torch.linalg.vector_norm(drawn) * radius).to(like).expand_as(like)


OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    L1Q: L1qFrankWolfe,
    "l1_frank_wolfe": L1FrankWolfe,
    "l2_frank_wolfe": L2FrankWolfe,
    "linf_frank_wolfe": LinfFrankWolfe,
    "l2_projected": L2Projected,
    "linf_projected": LinfProjected,
}
ShareProgress = Callable[[float], None]


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each row: logits (batch, classes), target (batch,) -> (batch,)."""
    return functional.cross_entropy(logits, target, reduction="none")


@dataclass(frozen=True, eq=False)
class Question:
    """Images to change and what they are to become; all tensors on the network's device.

    start: pixels (batch, C, H, W). source: the classes that they are, int64 (batch,). target: the classes wanted,
    int64 (batch,); None: any other than the source. outputs, goal: f and what the criterion compares it with, None for
    the logits and the class.
    """

    scores: ClassScores
    start: Tensor
    source: Tensor
    target: Tensor | None
    criterion: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    outputs: Callable[[Tensor], Tensor] | None = None
    goal: Tensor | None = None

    def take(self, rows: Tensor) -> "Question":
        """Select some of the images, any of them any number of times."""
        values = {name: getattr(self, name) for name in ("start", "source", "target", "goal")}
        return dataclasses.replace(self, **{name: None if v is None else v[rows] for name, v in values.items()})

    @property
    def function(self) -> Callable[[Tensor], Tensor]:
        return self.outputs or self.scores

    @property
    def criterion_target(self) -> Tensor:
        """The second argument of the criterion."""
        if self.goal is not None:
            return self.goal
        return self.source if self.target is None else self.target

    @property
    def entries(self) -> int:
        """N = C H W."""
        return self.start[0].numel()


def perturb(question: Question, settings: Settings, *, progress: ShareProgress | None = None) -> Explanation:
    """Solve and judge. Raises InputError for a budget of pixels or entries that cannot be met."""
    height, width = question.start.shape[2:]
    k = height * width if settings.max_changed is None else pixel_budget(settings.max_changed, height, width)
    if k == height * width:
        return judge(question, settings, run(question, settings, progress=progress))
    first = run(question, settings, progress=part_of(progress, 0, 1, 2))
    support = strongest_pixels(first.delta, k)
    return judge(question, settings, run(question, settings, support=support, progress=part_of(progress, 1, 1, 2)))


def run(
    question: Question,
    settings: Settings,
    *,
    epsilon: Tensor | None = None,
    q: Tensor | None = None,
    support: Tensor | None = None,
    progress: ShareProgress | None = None,
) -> Solution:
    """The solver's answer, the best of the restarts; epsilon, q: (batch,) in place of those of the settings."""
    radius = settings.radius(question.entries)
    options: dict[str, Any] = {"epsilon": radius if epsilon is None else epsilon}
    if settings.is_projected:
        options["lr"] = settings.lr or usual_lr(radius, settings.steps)
    elif settings.lr is not None:
        options["lr"] = settings.lr
    if settings.optimizer == L1Q:
        if q is None:
            check_kept(settings.q, question.entries)
        options |= {"q": settings.q if q is None else q, "dq": settings.dq}
    best: Solution | None = None
    for k in range(settings.restarts):
        share = part_of(progress, k, 1, settings.restarts)
        # One for each restart: how many draws an earlier one took depends on all the pictures.
        draws = torch.Generator().manual_seed(settings.seed + k)
        if settings.optimizer == L1Q:
            options["generator"] = draws
        solution = solve(
            model=question.function,
            data=question.start,
            target=question.criterion_target,
            targeted=question.goal is not None or question.target is not None,
            # The solver's own criterion also checks the classes.
            criterion=None if question.criterion is cross_entropy else question.criterion,
            optimizer=OPTIMIZERS[settings.optimizer],
            steps=settings.steps,
            use_best=settings.use_best,
            pixel_range=(0.0, 1.0) if settings.clip else None,
            support=support,
            start=in_ball(question.start, settings.optimizer, radius, draws) if k and settings.is_projected else None,
            confidence=settings.confidence,
            precision=settings.precision,
            progress=None if share is None else lambda t, steps, share=share: share(t / steps),
            **options,
        )
        best = solution if best is None else better_of(best, solution, solution.targeted)
    assert best is not None  # there is at least one run
    return best


def judge(
    question: Question, settings: Settings, solution: Solution, epsilon: Tensor | None = None, q: Tensor | None = None
) -> Explanation:
    """The delivered pictures and their figures."""
    delivered = to_eight_bits(solution.perturbed) if settings.clip else solution.perturbed
    scores = question.scores
    with torch.no_grad():
        logits = scores(delivered)
        outputs = logits if question.outputs is None else question.outputs(delivered)
        loss = question.criterion(outputs, question.criterion_target)
    before, after = scores.probabilities(question.start), scores.probabilities_of(logits)
    reached, rows = after.argmax(1), len(delivered)

    def used(value: Tensor | None, default: float) -> Tensor:
        return torch.full((rows,), default, dtype=torch.float64) if value is None else value.double().cpu()

    return Explanation(
        start=question.start.cpu(),
        perturbed=delivered.cpu(),
        targets=(reached if question.target is None else question.target).cpu(),
        sources=question.source.cpu(),
        targeted=torch.full((rows,), question.target is not None),
        before=before.cpu(),
        after=after.cpu(),
        loss=loss.double().cpu(),
        success=(reached != question.source if question.target is None else reached == question.target).cpu(),
        no_gradient=solution.flat.cpu(),
        steps=solution.steps.cpu(),
        gap=used(solution.gap, float("nan")),
        epsilon=used(epsilon, settings.radius(question.entries)),
        q=used(q, settings.q if settings.optimizer == L1Q else 0.0),
        history=solution.history.double().cpu().T.contiguous(),
        settings=settings,
    )


def part_of(progress: ShareProgress | None, done: float, part: float, whole: float) -> ShareProgress | None:
    """What a part of the work reports, as the share of the whole."""
    if progress is None:
        return None
    return lambda share: progress((done + share * part) / whole)
