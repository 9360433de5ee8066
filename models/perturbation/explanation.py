"""The answer to a batch of requests: what was delivered, and every figure of it taken from exactly that.

| symbol | meaning | shape |
|---|---|---|
| x | start | (batch, C, H, W) |
| y | delivered: with `clip` of 8 bits, else as the solver left it | (batch, C, H, W) |
| delta = y - x | perturbation | (batch, C, H, W) |
| p(x), p(y) | probabilities before and after | (batch, k) |

The solver's own iterate is not what a user gets: a picture has 8 bits. So probabilities, norms, the loss and success
are those of y, not of the iterate; only `history` and `gap` are the solver's.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from conceptry.models.perturbation.settings import Settings


@dataclass(frozen=True)
class PathPoint:
    """One attempt of the search for the sparsest counterfactual; pixels: those it was allowed, None for all.

    confidence: probability of the target (away from a class: 1 - that of the source).
    """

    round: int
    q: float
    epsilon: float
    pixels: int | None
    changed: float
    confidence: float
    success: bool


@dataclass(frozen=True)
class Explanation:
    """One entry, or row, for each picture; all tensors are on the CPU.

    targets: the class that was wanted; away from a class, the one that was reached. sources: the class it went away
    from or, where none was named, the prediction for the start. targeted: whether a class was wanted.
    changed: fraction of pixels of which any channel differs from the start. l1, l2: norms of delta. loss: the
    criterion (cross-entropy to the target, or of inversion the relative distance of the representations), of the
    source where nothing was targeted. success: the prediction is the target, or is the source no longer.
    no_gradient: whether the gradient was 0 in every pixel at every step: then nothing could be tried, and that
    the prediction did not change says nothing of the network's robustness.
    steps: gradient steps behind the result; gap: Frank-Wolfe gap of the last step, NaN of projected steps.
    epsilon, q: those used; q is 0 where the steps have none. history: losses of the iterates, NaN after the end.
    path: the attempts of a search for the sparsest, for each picture.
    """

    start: Tensor
    perturbed: Tensor
    targets: Tensor
    sources: Tensor
    targeted: Tensor
    before: Tensor
    after: Tensor
    loss: Tensor
    success: Tensor
    no_gradient: Tensor
    steps: Tensor
    gap: Tensor
    epsilon: Tensor
    q: Tensor
    history: Tensor
    settings: Settings
    path: tuple[tuple[PathPoint, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def delta(self) -> Tensor:
        return self.perturbed - self.start

    @cached_property
    def changed(self) -> Tensor:
        return changed_pixels(self.delta).double() / self.delta[0, 0].numel()

    @cached_property
    def l1(self) -> Tensor:
        return self.delta.double().abs().flatten(1).sum(1)

    @cached_property
    def l2(self) -> Tensor:
        return self.delta.double().square().flatten(1).sum(1).sqrt()

    @property
    def clipped(self) -> bool:
        """Whether the pixels are within [0, 1] and of 8 bits, so that a picture file holds all of them."""
        return self.settings.clip


def changed_pixels(delta: Tensor) -> Tensor:
    """Pixels with a change in any channel, int64 (batch,)."""
    return (delta != 0).any(1).flatten(1).sum(1)


def join(parts: Sequence[Explanation], order: Sequence[Sequence[int]]) -> Explanation:
    """Parts of one batch put together: row i of `parts[k]` becomes row `order[k][i]`."""
    if len(parts) == 1:
        return parts[0]
    places = torch.tensor([row for rows in order for row in rows])
    length = max(part.history.shape[1] for part in parts)
    values = {}
    for field in dataclasses.fields(Explanation):
        columns = [getattr(part, field.name) for part in parts]
        if field.name == "history":
            columns = [functional.pad(h, (0, length - h.shape[1]), value=float("nan")) for h in columns]
        if isinstance(columns[0], Tensor):
            values[field.name] = torch.empty_like(torch.cat(columns)).index_copy_(0, places, torch.cat(columns))
        elif field.name == "path":
            rows = dict(zip(places.tolist(), (row for column in columns for row in column), strict=False))
            values["path"] = tuple(rows[i] for i in sorted(rows))
    return Explanation(**values, settings=parts[0].settings)


def take(explanation: Explanation, rows: Tensor) -> Explanation:
    """Some of the rows."""
    values = {field.name: getattr(explanation, field.name) for field in dataclasses.fields(Explanation)}
    return dataclasses.replace(explanation, **{name: v[rows] for name, v in values.items() if isinstance(v, Tensor)})
