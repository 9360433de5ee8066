"""Keep a budget of pixels exactly: solve, keep the pixels that matter most, solve again on them alone.

| symbol | meaning | shape |
|---|---|---|
| m | `max_changed`, fraction of pixels that may change | scalar |
| K = floor(m H W) | pixels that may change; a pixel has changed where any of its channels has | scalar |
| s | strength of a pixel, sum of |delta| over the channels | (batch, H, W) |
| S | the K pixels of largest s, the first ones where they are equal | (batch, 1, H, W) |
"""

import math

import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.perturbation.optimizers.oracles import kept_entries


def pixel_budget(max_changed: float, height: int, width: int) -> int:
    """K; raises InputError, with the least fraction there is, where it is 0."""
    pixels = height * width
    # The product of a share such as 0.29 and 100 can lie a rounding below the whole number that is meant.
    k = math.floor(max_changed * pixels * (1 + 1e-12))
    if k < 1:
        least = math.ceil(1e6 / pixels) / 1e6
        raise InputError(
            f"max_changed {max_changed:g} of {height} x {width} pixels is not one pixel, a budget that cannot be met; "
            f"the least is {least:g}"
        )
    return min(k, pixels)


def check_kept(q: float, entries: int) -> None:
    """Raise InputError, with what q has to be, where a step of L1-q would move none of so many entries."""
    if kept_entries(q, entries) == 0:
        raise InputError(
            f"q {q:g} of {entries} entries leaves none to move, a budget that cannot be met; it must be below "
            f"{1 - 0.5 / entries:g}"
        )


def strongest_pixels(delta: Tensor, k: int | Tensor) -> Tensor:
    """S as bool (batch, 1, H, W); k: one number, or int64 (batch,) of one for each picture."""
    strength = delta.abs().sum(1).flatten(1)
    order = strength.sort(dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    bound = k[:, None] if isinstance(k, Tensor) else k
    return (rank < bound).unflatten(1, delta.shape[2:])[:, None]
