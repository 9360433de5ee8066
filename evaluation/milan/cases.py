"""One unit to describe, and what is known of it."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from conceptry.models.images import png_bytes

if TYPE_CHECKING:  # torch is slow to import
    from conceptry.models.milan.dissect import Segmentation

ANNOTATED, PLANTED, COLOURS, OWN = "annotated", "planted", "colour arithmetic", "own"


@dataclass(frozen=True, eq=False)
class UnitCase:
    """A unit to describe, and what is known of it.

    group: what kind of unit it is; key: what identifies it in tables; layer, unit: of the registered network, where
    it is one of its own; otherwise images uint8 (k, 3, H, W) and masks uint8 (k, 1, H, W). references: what people
    wrote; truth: the properties that a right description names, None where that is not known; segmentations: the
    pixels of every concept in each exemplar, or () where they are not known.
    """

    group: str
    key: str
    layer: str = ""
    unit: int = -1
    images: np.ndarray | None = field(default=None, repr=False)
    masks: np.ndarray | None = field(default=None, repr=False)
    references: tuple[str, ...] = ()
    truth: frozenset[str] | None = None
    segmentations: "tuple[Segmentation, ...]" = field(default=(), repr=False)

    @property
    def label(self) -> str | None:
        """Its layer in the registered network, or the group of units that it belongs to."""
        return self.layer if self.group == OWN else self.group

    @cached_property
    def image_files(self) -> list[bytes]:
        """PNG files of the exemplars."""
        return [] if self.images is None else [_png(pixels.transpose(1, 2, 0)) for pixels in self.images]

    @cached_property
    def mask_files(self) -> list[bytes]:
        """PNG files of the masks, white where the unit is active."""
        return [] if self.masks is None else [_png((mask[0] != 0) * np.uint8(255)) for mask in self.masks]


def own_case(layer: str, unit: int) -> UnitCase:
    """A unit of the registered network of a version."""
    return UnitCase(OWN, f"{layer}:{unit}", layer, unit)


def _png(pixels: np.ndarray) -> bytes:
    return png_bytes(Image.fromarray(np.ascontiguousarray(pixels)))
