"""Ask a milan version about units, some rows at a time."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from conceptry.evaluation.milan.cases import OWN, UnitCase
from conceptry.evaluation.process import Predict
from conceptry.models.errors import ConceptryError
from conceptry.models.images import decode_image, image_bytes

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
        "images": [_text(content) for content in images],
        "masks": [_text(content) for content in masks],
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


def _text(content: Any) -> str:
    return content if isinstance(content, str) else base64.b64encode(content).decode()


def _renumbered(sentence: str, start: int) -> str:
    """A row's number within a request becomes the one among all cases."""
    return re.sub(r"\brow (\d+)", lambda found: f"row {int(found[1]) + start}", sentence, count=1)
