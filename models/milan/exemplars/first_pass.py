"""What the first pass knows of each layer: the best pictures and the distribution of every unit; saved and restored.

The k pictures on which each unit is most active, kept while pictures stream by.

| symbol | meaning | shape |
|---|---|---|
| U, k | units, pictures kept of each | |
| values | activations, descending; -inf where fewer than k pictures have come | (U, k) |
| ids | numbers of the pictures, of equal activations the lower first; -1 where there is none | (U, k) |
| slots | where what belongs to a picture is kept, among k; a place's slot stays while others move | (U, k) |

The activation maps of the pictures that are best so far: with them, the second pass need not run the network.

They take 4 U k h w bytes of each layer. Either all layers keep theirs or none: the network has to run again for the
first one that does not. None do where they would take more than BUDGET, where maps differ in size, and where the
network makes the pictures that are delivered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.jit import compiled
from conceptry.models.milan.exemplars.checkpoint import Unfinished
from conceptry.models.milan.exemplars.quantiles import Sketch, sketch_from_state


@dataclass
class TopImages:
    """values: float32 (U, k). ids: int64 (U, k). slots: int64 (U, k), in each row 0 to k - 1.

    values and ids do not depend on the order or size of batches.
    """

    values: np.ndarray
    ids: np.ndarray
    slots: np.ndarray

    def add(self, best: np.ndarray, first: int) -> None:
        """Take in best (n, U), the largest activations on the pictures first, first + 1, ..., each for once."""
        _keep_largest(np.ascontiguousarray(best, np.float32), first, self.values, self.ids, self.slots)


def no_images(units: int, k: int) -> TopImages:
    """Nothing kept yet."""
    slots = np.tile(np.arange(k), (units, 1))
    return TopImages(np.full((units, k), -np.inf, np.float32), np.full((units, k), -1, np.int64), slots)


@compiled
def _keep_largest(best, first, values, ids, slots):
    """Insert best (n, U) into values, ids and slots (U, k), in place: a place in a row is found from its end."""
    pictures, units = best.shape
    k = values.shape[1]
    for n in range(pictures):
        number = first + n
        for u in range(units):
            value = best[n, u]
            at = k
            while at > 0 and (
                value > values[u, at - 1]
                or (value == values[u, at - 1] and (number < ids[u, at - 1] or ids[u, at - 1] < 0))
            ):
                at -= 1
            if at == k:
                continue
            freed = slots[u, k - 1]
            for i in range(k - 1, at, -1):
                values[u, i] = values[u, i - 1]
                ids[u, i] = ids[u, i - 1]
                slots[u, i] = slots[u, i - 1]
            values[u, at] = value
            ids[u, at] = number
            slots[u, at] = freed


@dataclass
class Chosen:
    """What the first pass finds of a layer.

    units: int64 (U,), all of the layer's where `all_units`. sketch: of their activations, None when the pass is over
    and their levels, float32 (U,), are known. maps: see `kept_maps`.
    """

    units: np.ndarray
    all_units: bool
    top: TopImages
    sketch: Sketch | None
    levels: np.ndarray | None = None
    maps: np.ndarray | None = None

    def of(self, hidden: Tensor) -> Tensor:
        """The maps of the chosen units, (n, U, h, w)."""
        return hidden if self.all_units else hidden[:, torch.from_numpy(self.units).to(hidden.device)]


def nothing_chosen(name: str, layer: str, count: int, asked: Sequence[int] | None, k: int) -> Chosen:
    """Of a layer of `count` units, before the first picture. Raises InputError where `asked` names others."""
    units = np.arange(count) if asked is None else np.asarray(asked, np.int64)
    if asked is not None and (outside := [unit for unit in units.tolist() if not 0 <= unit < count]):
        raise InputError(f"{name}: layer {layer!r} has units 0 to {count - 1}, none of {outside[0]}")
    return Chosen(units, asked is None, no_images(len(units), k), Sketch(len(units)))


def arrays_of(done: int, chosen: Mapping[str, Chosen], layers: Sequence[str]) -> dict[str, np.ndarray]:
    """All that the first pass has found so far."""
    arrays = {"done": np.array(done)}
    for i, layer in enumerate(layers):
        known = chosen[layer]
        parts = {"units": known.units, "all": np.array(known.all_units)}
        parts |= {"values": known.top.values, "ids": known.top.ids, "slots": known.top.slots}
        parts |= {"levels": known.levels} if known.levels is not None else {}
        parts |= {"maps": known.maps} if known.maps is not None else {}
        parts |= known.sketch.state() if known.sketch else {}
        arrays |= {f"{i}.{name}": part for name, part in parts.items()}
    return arrays


def restored(state: Unfinished | None, layers: Sequence[str]) -> tuple[int, dict[str, Chosen]]:
    """How many pictures the saved first pass has seen, and what it found: nothing where none was saved."""
    arrays = state.load_first() if state else {}
    chosen = {}
    for i, layer in enumerate(layers if arrays else ()):
        known = {name.partition(".")[2]: part for name, part in arrays.items() if name.startswith(f"{i}.")}
        sketch = sketch_from_state(known) if "counts" in known else None
        top = TopImages(known["values"], known["ids"], known["slots"])
        chosen[layer] = Chosen(known["units"], bool(known["all"]), top, sketch, known.get("levels"), known.get("maps"))
    return int(arrays.get("done", 0)), chosen


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
