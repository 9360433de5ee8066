"""Exemplars: the pictures that drive a unit most, and where in them it is active.

| symbol | meaning |
|---|---|
| U | units of a layer that exemplars were computed for |
| k | exemplars of a unit, the strongest first |
| H, W | height and width of the delivered pictures, in pixels |
"""

import difflib
from dataclasses import dataclass

import numpy as np

from conceptry.models.errors import InputError


@dataclass(frozen=True)
class UnitExemplars:
    """The exemplars of one unit.

    images: uint8 (k, 3, H, W), RGB. masks: uint8 (k, 1, H, W), 1 where the unit is active. ids: int64 (k,), positions
    in the data set; activations: float32 (k,), the unit's spatial maximum on each, descending; either may be None
    where it is not known.
    """

    layer: str
    unit: int
    images: np.ndarray
    masks: np.ndarray
    ids: np.ndarray | None = None
    activations: np.ndarray | None = None

    @property
    def is_inactive(self) -> bool:
        """Whether no mask has a pixel: the unit never rose above its level, so there is nothing to describe."""
        return not self.masks.any()


@dataclass(frozen=True)
class LayerExemplars:
    """The exemplars of the units of a layer. Arrays may be memory-mapped.

    units: int64 (U,), the number of each unit within its layer. images: uint8 (U, k, 3, H, W). masks: uint8
    (U, k, 1, H, W). ids: int64 (U, k). activations: float32 (U, k) or None. levels: float32 (U,), what an activation
    has to exceed to be in the mask, or None where that is not known.
    """

    layer: str
    units: np.ndarray
    images: np.ndarray
    masks: np.ndarray
    ids: np.ndarray
    activations: np.ndarray | None = None
    levels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.units)

    def row(self, unit: int) -> int:
        """The row of unit number `unit`; raises InputError where it is not among the units."""
        rows = np.flatnonzero(self.units == unit)
        if not len(rows):
            numbers = [str(number) for number in self.units]
            near = difflib.get_close_matches(str(unit), numbers, n=3, cutoff=0.3) or numbers[:3]
            raise InputError(
                f"layer {self.layer} has exemplars of {len(numbers)} units, but none of unit {unit}; "
                f"expected one such as {', '.join(near)}"
            )
        return int(rows[0])

    def unit(self, unit: int) -> UnitExemplars:
        """The exemplars of unit number `unit`; raises InputError where it is not among the units."""
        row = self.row(unit)
        activations = None if self.activations is None else np.asarray(self.activations[row])
        images, masks = np.asarray(self.images[row]), np.asarray(self.masks[row])
        return UnitExemplars(self.layer, unit, images, masks, np.asarray(self.ids[row]), activations)
