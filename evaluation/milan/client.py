"""Ask a milan version about units, some rows at a time: the one client of evaluations and of what is done to units."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.evaluation.drawing.images import image_of, image_text
from conceptry.evaluation.isolation.client import Predict, ask_in_batches
from conceptry.evaluation.units.records import SCORES, UnitDescription, number
from conceptry.models.images import png_bytes

if TYPE_CHECKING:  # torch is slow to import
    from conceptry.models.milan.baselines.network_dissection import Segmentation

ANNOTATED, PLANTED, COLOURS, OWN = "annotated", "planted", "colour arithmetic", "own"
SHOWN = "shown"  # of whatever kind, by exemplars that were changed


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
        """Layer of the unit in the registered network, or the group of units that it belongs to."""
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


ROWS = 32  # of a request: a bounded number of images is in memory at once
EXEMPLARS: Mapping[str, Any] = {"exemplars": True}  # parameters: registered units come with theirs
OWN_ROWS = 64  # the same for registered units, of which a request holds the names alone


@dataclass(frozen=True, eq=False)
class DeliveredExemplars:
    """Exemplars of a unit as a version delivers them, in files, which are decoded whenever they are looked at.

    image_files, mask_files: PNG, as bytes or base64 text; ids, activations: see `UnitExemplars`.
    """

    image_files: tuple[bytes | str, ...]
    mask_files: tuple[bytes | str, ...]
    ids: np.ndarray | None = None
    activations: np.ndarray | None = None

    @property
    def images(self) -> np.ndarray:
        """RGB, uint8 (k, 3, H, W)."""
        return np.stack([np.moveaxis(np.asarray(image_of(file)), -1, 0) for file in self.image_files])

    @property
    def masks(self) -> np.ndarray:
        """1 where the unit is active, uint8 (k, 1, H, W)."""
        levels = np.stack([np.asarray(image_of(file).convert("L")) for file in self.mask_files])
        return (levels > 127).astype(np.uint8)[:, None]


@dataclass(frozen=True, kw_only=True)
class CaseDescription(UnitDescription):
    """Description of a unit that a version was asked about: with the case, and its share of the request's time."""

    case: UnitCase = field(repr=False)
    seconds: float


def describe_cases(
    predict: Predict,
    cases: Sequence[UnitCase],
    params: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] = lambda share: None,
    rows: int = ROWS,
) -> list[CaseDescription]:
    """Descriptions of all cases, in their order. Raises ConceptryError naming the row that is refused."""
    descriptions = []
    for case, row, seconds in ask_in_batches(predict, cases, _table, params or {}, rows):
        descriptions.append(_read_answer(case, row, seconds))
        if len(descriptions) % rows == 0 or len(descriptions) == len(cases):
            progress(len(descriptions) / len(cases))
    return descriptions


def describe_own_units(
    predict: Predict, units: Sequence[tuple[str, int]], params: Mapping[str, Any], *, exemplars: bool
) -> Iterator[CaseDescription]:
    """Descriptions of units of the registered network, by layer and number; with their exemplars if `exemplars`.

    Units are asked for as they are taken. Raises ConceptryError naming the row that is refused.
    """
    cases = [own_case(layer, unit) for layer, unit in units]
    for answer in ask_in_batches(predict, cases, _table, {**params, "exemplars": exemplars}, OWN_ROWS):
        yield _read_answer(*answer)


def record_of(unit: CaseDescription, source: str = "") -> dict[str, Any]:
    """Record of one unit for printing and drawing, JSON-ready; images are base64 of PNG files."""
    case, exemplars = unit.case, unit.exemplars
    images, masks = case.image_files, case.mask_files
    if isinstance(exemplars, DeliveredExemplars):
        images, masks = exemplars.image_files, exemplars.mask_files
    return {
        "file": source,
        "sample": case.key,
        "layer": case.layer,
        "unit": case.unit,
        "description": unit.description,
        **unit.scores,
        "active": unit.active,
        "alternatives": [dict(entry) for entry in unit.alternatives],
        "images": [image_text(content) for content in images],
        "masks": [image_text(content) for content in masks],
    }


def _table(cases: Sequence[UnitCase]) -> pd.DataFrame:
    rows = [
        {"layer": case.layer, "unit": case.unit}
        if case.group == OWN
        else {"images": case.image_files, "masks": case.mask_files}
        for case in cases
    ]
    return pd.DataFrame(rows, dtype=object)


def _read_answer(case: UnitCase, row: Mapping[str, Any], seconds: float) -> CaseDescription:
    """Record of the unit `case` from a row of a version's answer; scores of an inactive unit mean nothing."""
    active, activations, ids = bool(row["active"]), row["activations"], row["ids"]
    exemplars = None
    if len(row["images"]):
        exemplars = DeliveredExemplars(
            tuple(row["images"]),
            tuple(row["masks"]),
            np.array(ids, np.int64) if len(ids) else None,
            np.array(activations, np.float32) if len(activations) else None,
        )
    scores: dict[str, Any] = {name: number(row[name]) if active else None for name in SCORES}
    return CaseDescription(
        case.layer,
        case.unit,
        str(row["description"]),
        **scores,
        activation=float(np.float32(activations[0])) if len(activations) else None,
        active=active,
        alternatives=tuple(dict(each) for each in row["alternatives"]),
        exemplars=exemplars,
        case=case,
        seconds=seconds,
    )
