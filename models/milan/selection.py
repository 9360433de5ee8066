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
    choose = _by_kernel if scores.device.type == "cpu" else _by_threshold
    places = choose(scores, finished, gains, stop, size)
    return places.div(gains.shape[-1], rounding_mode="floor"), places % gains.shape[-1]


def _by_kernel(scores: Tensor, finished: Tensor, gains: Tensor, stop: int, size: int) -> Tensor:
    """int64 (n, B): parent V + token."""
    from conceptry.models.milan.selection_kernel import select

    places = torch.empty((len(scores), size), dtype=torch.int64)
    now, ended, gained = (part.contiguous().numpy() for part in (scores, finished, gains))
    select(now, ended, gained, stop, places.numpy(), scores.new_empty(places.shape).numpy())
    return places


def _by_threshold(scores: Tensor, finished: Tensor, gains: Tensor, stop: int, size: int) -> Tensor:
    """The same for any device, from all candidates at once (n, b V)."""
    candidates = scores.new_full((scores.numel(), gains.shape[-1]), -torch.inf)
    going = ~finished.flatten()
    candidates[going] = scores.flatten()[going, None] + gains
    candidates[:, stop] = torch.where(going, candidates[:, stop], scores.flatten())
    return largest(candidates.view(len(scores), -1), size)


def largest(values: Tensor, size: int) -> Tensor:
    """int64 (n, size): the places of the greatest of values (n, m), the greatest first; ties go to the lower place."""
    # torch.topk says nothing of ties, so it gives the threshold alone.
    least = values.topk(size).values[:, -1:]
    above, equal = values > least, values == least
    open_places = size - above.sum(dim=1, keepdim=True)
    places = (above | (equal & (equal.cumsum(dim=1) <= open_places))).nonzero()[:, 1].view(-1, size)
    order = values.gather(1, places).argsort(dim=1, descending=True, stable=True)
    return places.gather(1, order)
