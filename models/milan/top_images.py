"""The k pictures on which each unit is most active, kept while pictures stream by.

| symbol | meaning | shape |
|---|---|---|
| U, k | units, pictures kept of each | |
| values | activations, descending; -inf where fewer than k pictures have come | (U, k) |
| ids | numbers of the pictures, of equal activations the lower first; -1 where there is none | (U, k) |
| slots | where what belongs to a picture is kept, among k; a place's slot stays while others move | (U, k) |
"""

from dataclasses import dataclass

import numpy as np

from conceptry.models.jit import compiled


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
