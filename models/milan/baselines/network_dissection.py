"""Network Dissection from exemplars: the concept whose pixels a unit's active region covers best.

Bau, Zhou, Khosla, Oliva, Torralba, "Network Dissection: Quantifying Interpretability of Deep Visual Representations",
CVPR 2017. A baseline: it needs the exact pixels of every concept, and says one concept at a time.

| symbol | meaning | shape |
|---|---|---|
| M_j | where the unit is active on exemplar j | (H, W), 0/1 |
| L_cj | where concept c is on exemplar j | (H, W), 0/1 |
| q | share of all pixels where the unit is active: .01, as exemplars have it | - |
| f_c | share of all pixels that concept c covers | - |
| p_c | sum_j |M_j and L_cj| / sum_j |M_j|: how much of the active region is of the concept | - |

    IoU_c = |M and L_c| / |M or L_c| over all pictures  ~  i / (q + f_c - i)    with    i = min(p_c q, f_c)

A unit is named by the concept of the largest IoU_c where that exceeds .04, as in the paper.

Differences from the paper: exemplars hold masks of the k strongest pictures alone, so that the overlap on the others is
estimated by theirs; where f_c is not known, IoU_c is that of the exemplars themselves, in which what they all share by
chance, such as a common background, counts in full. The unit's level is that of its masks (quantile .99), not .995.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conceptry.models.errors import InputError

MIN_IOU = 0.04
ACTIVE = 0.01
RANKED = 5

Segmentation = Mapping[str, np.ndarray]
"""Concept -> bool (H, W), its pixels in one picture; a concept that is not in the picture is left out."""


@dataclass(frozen=True)
class Dissection:
    """What a unit is named by. concept: None below the least IoU; ranked: the best concepts, each with its IoU."""

    concept: str | None
    iou: float
    ranked: tuple[tuple[str, float], ...]


def dissect(
    masks: np.ndarray,
    segmentations: Sequence[Segmentation],
    shares: Mapping[str, float] | None = None,
    *,
    active: float = ACTIVE,
    least: float = MIN_IOU,
) -> Dissection:
    """The concept that covers a unit's masks (k, 1, H, W) best, given the segmentation of each exemplar.

    shares: f_c of every concept; active: q. Equal IoU goes to the name that comes first in the alphabet. Raises
    InputError where numbers or sizes differ, and for a concept without a share.
    """
    inside = np.asarray(masks)[:, 0] != 0
    if len(inside) != len(segmentations):
        raise InputError(f"the unit has {len(inside)} masks, but {len(segmentations)} exemplars are segmented")
    both: dict[str, int] = {}
    size: dict[str, int] = {}
    for number, (mask, concepts) in enumerate(zip(inside, segmentations, strict=True)):
        for name, pixels in concepts.items():
            if pixels.shape != mask.shape:
                raise InputError(
                    f"exemplar {number}: concept {name!r} has {_size(pixels)} pixels, the unit's mask {_size(mask)}"
                )
            both[name] = both.get(name, 0) + int(np.count_nonzero(mask & (pixels != 0)))
            size[name] = size.get(name, 0) + int(np.count_nonzero(pixels))
    total = int(np.count_nonzero(inside))
    if shares is None:
        ious = {name: both[name] / max(total + size[name] - both[name], 1) for name in both}
    else:
        if missing := sorted(both.keys() - shares.keys()):
            raise InputError(f"shares lack the concept {missing[0]!r}; expected one of each concept in exemplars")
        ious = {name: _estimated(both[name] / max(total, 1), shares[name], active) for name in both}
    ranked = sorted(ious.items(), key=lambda pair: (-pair[1], pair[0]))
    name, iou = ranked[0] if ranked else ("", 0.0)
    return Dissection(name if iou > least else None, iou, tuple(ranked[:RANKED]))


def _estimated(precision: float, share: float, active: float) -> float:
    """The IoU over all pictures of a concept that is p_c of the active region and f_c of all pixels."""
    overlap = min(precision * active, share)
    return overlap / (active + share - overlap)


def concept_shares(images: Sequence[Segmentation]) -> dict[str, float]:
    """f_c of every concept in segmented pictures of one size, drawn from the same data as exemplars."""
    shares: dict[str, float] = {}
    for concepts in images:
        for name, pixels in concepts.items():
            shares[name] = shares.get(name, 0.0) + float(np.mean(pixels != 0)) / len(images)
    return shares


def _size(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape))
