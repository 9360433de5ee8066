"""Of all the ways in which hypotheses can go on, the best: one step's choice of a beam search.

| symbol | meaning | shape |
|---|---|---|
| n, b | units; hypotheses of each | |
| R | rows: the hypotheses that have not said stop, unit by unit, in their order | |
| V | tokens | |
| B | hypotheses to go on with | |
"""

import torch
from torch import Tensor


def row_numbers(finished: Tensor) -> Tensor:
    """int64 (n, b): the row of each hypothesis that goes on; of a finished one (True), another's or 0."""
    return ((~finished).flatten().cumsum(0) - 1).clamp(min=0).view(finished.shape)


def best_continuations(scores: Tensor, finished: Tensor, gains: Tensor, stop: int, size: int) -> tuple[Tensor, Tensor]:
    """The `size` = B continuations of the greatest score of each unit: its parent and its token, int64 (n, B) each.

    scores, finished: (n, b). gains: (R, V), what each token adds. A finished hypothesis has one continuation: itself,
    by another stop. The best comes first; ties go to the lower parent, then to the lower token.
    """
    n, b = scores.shape
    if scores.device.type == "cpu":
        from conceptry.models.milan.selection_kernel import select

        places = torch.empty((n, size), dtype=torch.int64)
        now, ended, gained = (part.contiguous().numpy() for part in (scores, finished, gains))
        select(now, ended, gained, stop, places.numpy(), scores.new_empty(n, size).numpy())
        return places.div(gains.shape[-1], rounding_mode="floor"), places % gains.shape[-1]
    candidates = scores.new_full((n * b, gains.shape[-1]), -torch.inf)
    going = ~finished.flatten()
    candidates[going] = scores.flatten()[going, None] + gains
    candidates[:, stop] = torch.where(going, candidates[:, stop], scores.flatten())
    chosen = largest(candidates.view(n, -1), size)
    return chosen.div(gains.shape[-1], rounding_mode="floor"), chosen % gains.shape[-1]


def largest(values: Tensor, size: int) -> Tensor:
    """int64 (n, size): the places of the greatest of values (n, m), the greatest first; ties go to the lower place."""
    # torch.topk says nothing of ties, so it gives the threshold alone.
    least = values.topk(size).values[:, -1:]
    above, equal = values > least, values == least
    open_places = size - above.sum(dim=1, keepdim=True)
    places = (above | (equal & (equal.cumsum(dim=1) <= open_places))).nonzero()[:, 1].view(-1, size)
    order = values.gather(1, places).argsort(dim=1, descending=True, stable=True)
    return places.gather(1, order)
