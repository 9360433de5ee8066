"""Units to describe: those that names stand for, those that are handed in, and their exemplars a batch at a time."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.milan.describer.inputs import exemplar_arrays
from conceptry.models.milan.exemplars.records import UnitExemplars
from conceptry.models.milan.exemplars.unit_store import UnitStore

MAX_UNITS = 32  # described at once
MAX_PIXELS = 2**24  # of the images of one batch together: some 100 photographs of 400 x 400
_UNIT = re.compile(r"(?P<layer>.+):(?P<first>\d{1,9})(?:-(?P<last>\d{1,9}))?", re.DOTALL)


@dataclass(frozen=True)
class Unit:
    """A unit to describe: of the explained network, by layer and number, or by the images and masks that `read` gives.

    read: returns uint8 images (k, 3, H, W) and masks (k, 1, H, W) of 0 and 1, when it is the unit's turn.
    """

    layer: str = ""
    unit: int = -1
    read: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None


@dataclass(frozen=True)
class LoadedUnit:
    """A unit with its exemplars: uint8 images (k, 3, H, W) and masks (k, 1, H, W); None where it is never active."""

    unit: Unit
    source: UnitStore | UnitExemplars
    images: np.ndarray | None = None
    masks: np.ndarray | None = None


def is_pair(name: Any) -> bool:
    """Whether a name is (layer, unit)."""
    if not isinstance(name, tuple) or len(name) != 2 or not isinstance(name[0], str | int):
        return False
    return isinstance(name[1], int | np.integer) and not isinstance(name[1], bool)


def given_units(images: Any, masks: Any) -> list[Unit]:
    """The units whose exemplars a user hands in; see `Milan.explain`."""
    if masks is None:
        raise InputError("images are given without masks; a mask that is 1 everywhere takes the whole image")
    images, masks = exemplar_arrays(images, masks)
    if images.ndim == 4:
        images, masks = images[None], masks[None]
    if images.ndim != 5 or images.shape[2] != 3 or masks.shape != (*images.shape[:2], 1, *images.shape[3:]):
        raise InputError(
            f"images must be (k, 3, H, W) and masks (k, 1, H, W), or both of n units, got {images.shape} and "
            f"{masks.shape}"
        )
    inside = (masks != 0).astype(np.uint8)
    return [Unit(read=lambda row=row: (images[row], inside[row])) for row in range(len(images))]


def batches(units: Sequence[Unit], store: UnitStore | None) -> Iterator[list[LoadedUnit]]:
    """Units next to each other with images of one shape, at most MAX_UNITS and MAX_PIXELS at once, each loaded once."""
    batch: list[LoadedUnit] = []
    shape, pixels = (), 0
    for unit in (_load(unit, store) for unit in units):
        new = () if unit.images is None else unit.images.shape
        size = int(np.prod(new[:1] + new[2:])) if new else 0
        pixels += size
        if len(batch) == MAX_UNITS or (batch and pixels > MAX_PIXELS) or (new and shape and new != shape):
            yield batch
            batch, shape, pixels = [], (), size
        batch.append(unit)
        shape = new or shape
    if batch:
        yield batch


def _load(unit: Unit, store: UnitStore | None) -> LoadedUnit:
    if unit.read is not None:
        images, masks = unit.read()
        source = UnitExemplars(unit.layer, unit.unit, images, masks)
        return LoadedUnit(unit, source, images, masks) if masks.any() else LoadedUnit(unit, source)
    assert store is not None  # units by name have been checked
    if not store.is_active(unit.layer, unit.unit):
        return LoadedUnit(unit, store)
    exemplars = store.unit(unit.layer, unit.unit)
    return LoadedUnit(unit, store, exemplars.images, exemplars.masks)


def named_units(names: Any, store: UnitStore) -> list[Unit]:
    """The units that names stand for. Raises InputError for other names and for units that are not there."""
    given = [names] if isinstance(names, str) or is_pair(names) else list(names)
    found = [Unit(layer, unit) for name in given for layer, unit in _pairs(name, store)]
    for one in found:
        store.check(one.layer, one.unit)
    return found


def _pairs(name: Any, store: UnitStore) -> list[tuple[str, int]]:
    if is_pair(name):
        return [(str(name[0]), int(name[1]))]
    if not isinstance(name, str):
        raise InputError(f"a unit is named LAYER:UNIT or (layer, unit), got {truncated_repr(name)}")
    parts = _UNIT.fullmatch(name)
    if name in store.layers or parts is None:
        return [(name, unit) for unit in store.numbers(name)]
    first, last = int(parts["first"]), int(parts["last"] or parts["first"])
    if last < first:
        raise InputError(f"{truncated_repr(name)}: expected LAYER:FIRST-LAST in ascending order")
    store.check(parts["layer"], last)  # before many are counted up to one that is not there
    return [(parts["layer"], unit) for unit in range(first, last + 1)]
