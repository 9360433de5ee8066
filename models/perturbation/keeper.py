"""Which iterate of a search is returned, image by image: the last, the best, or the first that was sure enough."""

from typing import Any

import torch
from torch import Tensor

from conceptry.models.perturbation.search import Search


def is_better(old: Tensor, new: Tensor, targeted: bool) -> Tensor:
    """(batch,) whether the new loss is the better one."""
    return new < old if targeted else new > old


def choose(take: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new rows (batch, ...) where `take` (batch,), else the old ones."""
    return torch.where(take.view(-1, *[1] * (new.ndim - 1)), new, old)


class Keeper:
    """Sees every iterate, remembers the losses, and holds what is to be returned so far."""

    def __init__(self, search: Search, targeted: bool, use_best: bool) -> None:
        self.search, self.targeted, self.use_best = search, targeted, use_best
        self.rows: list[Tensor] = []
        self.done: Tensor | None = None
        self.best: tuple[Tensor, Tensor, Tensor] | None = None

    def saw(self, t: int, delta: Tensor, outputs: Any, losses: Tensor) -> bool:
        """Note iterate t; whether all images are done."""
        if not self.use_best and self.search.confidence is None:
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
                self.best[2].masked_fill(take, t),
            )
            self.done = self.done | reached
        return self.search.confidence is not None and bool(self.done.all())

    def _reached(self, outputs: Any) -> Tensor:
        """(batch,) whether the probability is high enough."""
        confidence, target = self.search.confidence, self.search.target
        if confidence is None:
            return torch.zeros(len(self.search.data), dtype=torch.bool, device=self.search.data.device)
        probabilities = outputs.detach().softmax(dim=1)
        probability = probabilities.gather(1, target[:, None])[:, 0]
        if self.targeted:
            return probability >= confidence
        # A class of many can be the most probable one with little: then it has not been left.
        return (1 - probability >= confidence) & (probabilities.argmax(1) != target)

    def kept(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """delta, losses and steps of the iterates to return."""
        if self.best is not None:
            return self.best
        steps = torch.full_like(self.rows[-1], len(self.rows) - 1, dtype=torch.int64)
        return delta.detach(), self.rows[-1].clone(), steps

    def history(self, steps: int) -> Tensor:
        """(steps + 1, batch); NaN in the rows of the steps that nothing needed."""
        seen = torch.stack(self.rows)
        return torch.cat([seen, seen.new_full((steps + 1 - len(seen), seen.shape[1]), torch.nan)])
