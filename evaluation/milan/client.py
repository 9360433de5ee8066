"""Ask a milan version about units, some rows at a time.

One unit to describe, and what is known of it.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from conceptry.models.images import png_bytes

if TYPE_CHECKING:  # torch is slow to import
    from conceptry.models.milan.baselines.network_dissection import Segmentation
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException

from conceptry.evaluation.drawing.images import image_text
from conceptry.evaluation.isolation.client import Predict
from conceptry.models.errors import ConceptryError
from conceptry.models.images import decode_image, image_bytes

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


ROWS = 32  # of a request: a bounded number of pictures is in memory at once
_FIELDS = ("description", "score", "log_likelihood", "pmi")


@dataclass(frozen=True)
class Described:
    """What a version said of one unit; `answer` by output column, `seconds`: its share of the request's time."""

    case: UnitCase
    answer: Mapping[str, Any]
    seconds: float

    @property
    def text(self) -> str:
        """The description; empty where the unit is inactive."""
        return str(self.answer["description"])


def describe_cases(
    predict: Predict,
    cases: Sequence[UnitCase],
    params: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] = lambda share: None,
    rows: int = ROWS,
) -> list[Described]:
    """Descriptions of all cases, in their order. Raises ConceptryError naming the row that is refused."""
    described = []
    for start in range(0, len(cases), rows):
        batch = cases[start : start + rows]
        try:
            answer = predict(_table(batch), dict(params or {}))
        except (ConceptryError, MlflowException) as error:  # of a process of its own, and of one in this process
            raise ConceptryError(_renumbered(getattr(error, "message", str(error)), start)) from None
        for case, row in zip(batch, answer.rows.to_dict("records"), strict=True):
            described.append(Described(case, row, answer.seconds / len(batch)))
        progress(len(described) / len(cases))
    return described


def record_of(described: Described, source: str = "") -> dict[str, Any]:
    """One description for printing and drawing, JSON-ready; pictures are base64 of PNG files."""
    case, answer = described.case, described.answer
    images, masks = (case.image_files, case.mask_files) if case.images is not None else _delivered(answer)
    return {
        "file": source,
        "sample": case.key,
        "layer": case.layer,
        "unit": case.unit,
        **{name: answer[name] for name in _FIELDS},
        "active": bool(answer["active"]),
        "alternatives": [dict(entry) for entry in answer["alternatives"]],
        "images": [image_text(content) for content in images],
        "masks": [image_text(content) for content in masks],
    }


def exemplars_of(described: Described) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (k, 3, H, W) and masks uint8 (k, 1, H, W) that a version delivered with its answer."""
    images, masks = ([np.asarray(decode_image(image_bytes(c))) for c in cell] for cell in _delivered(described.answer))
    return np.stack(images).transpose(0, 3, 1, 2), (np.stack(masks)[..., :1] > 0).transpose(0, 3, 1, 2).astype(np.uint8)


def _delivered(answer: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    return list(answer["images"]), list(answer["masks"])


def _table(cases: Sequence[UnitCase]) -> pd.DataFrame:
    rows = [
        {"layer": case.layer, "unit": case.unit}
        if case.group == OWN
        else {"images": case.image_files, "masks": case.mask_files}
        for case in cases
    ]
    return pd.DataFrame(rows, dtype=object)


def _renumbered(sentence: str, start: int) -> str:
    """A row's number within a request becomes the one among all cases."""
    return re.sub(r"\brow (\d+)", lambda found: f"row {int(found[1]) + start}", sentence, count=1)
