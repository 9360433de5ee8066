"""Network Dissection on exemplars: the concept whose pixels a unit's masks cover best.

Bau, Zhou, Khosla, Oliva, Torralba, "Network Dissection: Quantifying Interpretability of Deep Visual Representations",
CVPR 2017. A baseline: it needs the exact pixels of every concept, and says one concept at a time.

| symbol | meaning | shape |
|---|---|---|
| M_j | where the unit is active on exemplar j | (H, W), 0/1 |
| L_cj | where concept c is on exemplar j | (H, W), 0/1 |
| k | exemplars of the unit | - |

    IoU_c = sum_j |M_j and L_cj| / sum_j |M_j or L_cj|,    the union being |M_j| + |L_cj| - |M_j and L_cj|

The unit is named by the concept of the largest IoU_c where that exceeds .04, as in the paper.

Differences from the paper: the sums run over the unit's k exemplars alone, not over the whole data set, and the
unit's level is the one of its masks (quantile .99) instead of .995.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conceptry.models.errors import InputError

MIN_IOU = 0.04
RANKED = 5


Segmentation = Mapping[str, np.ndarray]
"""Concept -> bool (H, W), its pixels in one picture; a concept that is not in the picture is left out."""


@dataclass(frozen=True)
class Dissection:
    """What a unit is named by. concept: None below the least IoU; ranked: the best concepts, each with its IoU."""

    concept: str | None
    iou: float
    ranked: tuple[tuple[str, float], ...]


def dissect(masks: np.ndarray, segmentations: Sequence[Segmentation], least: float = MIN_IOU) -> Dissection:
    """The concept that covers `masks` (k, 1, H, W) of a unit best, given the segmentation of each exemplar.

    Equal IoU goes to the name that comes first in the alphabet. Raises InputError where their numbers or sizes differ.
    """
    active = np.asarray(masks)[:, 0] != 0
    if len(active) != len(segmentations):
        raise InputError(f"the unit has {len(active)} masks, but {len(segmentations)} exemplars are segmented")
    both: dict[str, int] = {}
    size: dict[str, int] = {}
    for number, (mask, concepts) in enumerate(zip(active, segmentations, strict=True)):
        for name, pixels in concepts.items():
            if pixels.shape != mask.shape:
                raise InputError(
                    f"exemplar {number}: concept {name!r} has {_size(pixels)} pixels, the unit's mask {_size(mask)}"
                )
            both[name] = both.get(name, 0) + int(np.count_nonzero(mask & (pixels != 0)))
            size[name] = size.get(name, 0) + int(np.count_nonzero(pixels))
    total = int(np.count_nonzero(active))
    unions = {name: total + size[name] - both[name] for name in both}
    ranked = sorted(((name, both[name] / max(unions[name], 1)) for name in both), key=lambda pair: (-pair[1], pair[0]))
    name, iou = ranked[0] if ranked else ("", 0.0)
    return Dissection(name if iou > least else None, iou, tuple(ranked[:RANKED]))


def _size(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape))
