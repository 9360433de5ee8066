"""The k pictures on which each unit is most active, kept while pictures stream by.

| symbol | meaning | shape |
|---|---|---|
| U, k | units, pictures kept of each | |
| values | activations, descending; -inf where fewer than k pictures have come | (U, k) |
| ids | numbers of the pictures, of equal activations the lower first; -1 where there is none | (U, k) |
"""

from dataclasses import dataclass

import numpy as np

from conceptry.models.milan.activation_kernel import keep_largest


@dataclass
class TopImages:
    """values: float32 (U, k). ids: int64 (U, k). The result does not depend on the order or size of batches."""

    values: np.ndarray
    ids: np.ndarray

    def add(self, best: np.ndarray, first: int) -> None:
        """Take in best (n, U), the largest activations on the pictures first, first + 1, ..."""
        keep_largest(np.ascontiguousarray(best, np.float32), first, self.values, self.ids)


def no_images(units: int, k: int) -> TopImages:
    """Nothing kept yet."""
    return TopImages(np.full((units, k), -np.inf, np.float32), np.full((units, k), -1, np.int64))
