"""The activation maps of the pictures that are best so far: with them, the second pass need not run the network.

They take 4 U k h w bytes of each layer. Either all layers keep theirs or none: the network has to run again for the
first one that does not. None do where they would take more than BUDGET, where maps differ in size, and where the
network makes the pictures that are delivered.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from conceptry.models.milan.chosen import Chosen

BUDGET = 2**28  # bytes, of all layers together


def start(chosen: Mapping[str, Chosen], layer: str, size: tuple[int, int]) -> None:
    """Make room for the maps (h, w) of a layer's best pictures, where all of `chosen` so far have it."""
    known = chosen[layer]
    others = [other.maps for name, other in chosen.items() if name != layer]
    shape = (*known.top.ids.shape, *size)
    used = sum(maps.nbytes for maps in others if maps is not None)
    if any(maps is None for maps in others) or used + 4 * int(np.prod(shape)) > BUDGET:
        forget(chosen)
    else:
        known.maps = np.zeros(shape, np.float32)


def keep(chosen: Mapping[str, Chosen], layer: str, maps: Tensor, first: int) -> None:
    """Of maps (n, U, h, w) of the pictures first, first + 1, ..., which are the last so far, those of the best."""
    known = chosen[layer]
    if known.maps is None:
        return
    if known.maps.shape[2:] != maps.shape[2:]:  # pictures of several sizes
        forget(chosen)
        return
    units, places = np.nonzero(known.top.ids >= first)
    if len(units):
        rows = known.top.ids[units, places] - first
        known.maps[units, known.top.slots[units, places]] = maps_at(maps, rows, units)


def kept(known: Chosen, places: np.ndarray) -> np.ndarray:
    """The maps of these places (m,), rows of (U k): float32 (m, h, w)."""
    assert known.maps is not None
    return known.maps[places // known.top.ids.shape[1], known.top.slots.ravel()[places]]


def forget(chosen: Mapping[str, Chosen]) -> None:
    """Keep no maps of any layer."""
    for known in chosen.values():
        known.maps = None


def maps_at(maps: Tensor, rows: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Of maps (n, U, h, w) those of a row (m,) and a unit (m,) each: float32 (m, h, w)."""
    at = [torch.from_numpy(index).to(maps.device) for index in (rows, units)]
    return maps[at[0], at[1]].float().cpu().numpy()
