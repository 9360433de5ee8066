"""MILAN behind MLflow's pyfunc interface: one row is one unit.

| way to ask | columns |
|---|---|
| a unit of the registered network | `layer`: its name; `unit`: its number |
| any other unit | `images`: list of pictures, the strongest first; `masks`: of their masks, of the same size |

Pictures are bytes of a file, or base64; what a mask says is in `requests`. All columns are typed "any": with other
types MLflow itself would refuse a null, in sentences that name no row. The answer has for each row

| column | what |
|---|---|
| layer, unit | as asked; "" and -1 where pictures were given |
| active | false of a unit whose masks are all empty: it is not described, its text is "" and its scores are 0 |
| description | the text |
| score | what ranked it, by the strategy: see `settings` |
| log_likelihood | log p(description given exemplars) |
| pmi | log_likelihood less log p_LM(description) |
| alternatives | the next best ones, list of {text, score, log_likelihood, pmi} |
| ids, activations | of a unit of the network: positions of its exemplars in their data, and its maximum on each |
| images, masks | with `exemplars`, of a unit of the network: PNG files; else empty |

Pictures are bytes in this process; the server makes base64 of them, and so does this in a task of Spark, whose structs
MLflow gives no bytes. They can be handed in again as they come out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property

from conceptry.models.milan.answers import NO_FILES, answer
from conceptry.models.milan.descriptions import Description
from conceptry.models.milan.package import RegisteredUnits, read_package
from conceptry.models.milan.requests import COLUMNS, MAX_PIXELS, Row, read_exemplars, read_row
from conceptry.models.milan.settings import DecodingSettings
from conceptry.models.serving import Explainer, in_spark

MAX_ROWS = 32  # units that are described at once

_SCORES = {"score": DataType.double, "log_likelihood": DataType.double, "pmi": DataType.double}
_ALTERNATIVE = Object([Property("text", DataType.string), *(Property(name, kind) for name, kind in _SCORES.items())])
_ANSWER = {
    "layer": DataType.string,
    "unit": DataType.long,
    "active": DataType.boolean,
    "description": DataType.string,
    **_SCORES,
    "alternatives": Array(_ALTERNATIVE),
    "ids": Array(DataType.long),
    "activations": Array(DataType.double),
    "images": Array(DataType.string),
    "masks": Array(DataType.string),
}
_PARAMS = {
    "strategy": DataType.string,
    "temperature": DataType.double,
    "beam_size": DataType.long,
    "length": DataType.long,
    "alternatives": DataType.long,
    "clip": DataType.boolean,
    "clip_weight": DataType.double,
    "clip_temperature": DataType.double,
    "seed": DataType.long,
}


class MilanExplainer(Explainer):
    """Serves one registered version of MILAN."""

    signature = ModelSignature(
        inputs=Schema([ColSpec(AnyType(), name, required=False) for name in COLUMNS]),
        outputs=Schema([ColSpec(kind, name) for name, kind in _ANSWER.items()]),
        params=ParamSchema(
            [ParamSpec(name, kind, None) for name, kind in _PARAMS.items()]
            + [ParamSpec("exemplars", DataType.boolean, False)]
        ),
    )
    registered: RegisteredUnits

    def load(self, directory: Path, device: torch.device) -> None:
        self.registered = read_package(directory, device)

    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        units = self.registered.units
        settings = self.registered.override({name: params.get(name) for name in _PARAMS})
        asked = [read_row(units, number, cells) for number, cells in enumerate(rows.to_dict("records"))]
        pictures, text = bool(params.get("exemplars")), in_spark()
        answers: list[dict[str, Any]] = []
        for batch in self._batches(asked):
            for unit, description in zip(batch, self._describe(batch, settings), strict=True):
                row = unit.row
                files = units.files(row.layer, row.unit, pictures=pictures) if row.is_registered else NO_FILES
                answers.append(answer(row, description, files, text=text))
            if self.progress is not None:
                self.progress("describing", len(answers) / len(asked))
        return pd.DataFrame(answers)

    def _batches(self, rows: Sequence[Row]) -> Iterator[list["_Unit"]]:
        """Rows in their order, those next to each other with pictures of one shape together; decoded one batch at a
        time, so that what is held does not grow with the request.
        """
        batch: list[_Unit] = []
        shape, pixels = (), 0
        for row in rows:
            unit = self._unit(row)
            new = () if unit.images is None else unit.images.shape
            pixels += int(np.prod(new[:1] + new[2:])) if new else 0
            if len(batch) == MAX_ROWS or (batch and pixels > MAX_PIXELS) or (new and shape and new != shape):
                yield batch
                batch, shape, pixels = [], (), int(np.prod(new[:1] + new[2:])) if new else 0
            batch.append(unit)
            shape = new or shape
        yield batch

    def _unit(self, row: Row) -> "_Unit":
        units = self.registered.units
        if not row.is_registered:
            images, masks = read_exemplars(row)
        elif not units.is_active(row.layer, row.unit):
            return _Unit(row)
        else:
            exemplars = units.unit(row.layer, row.unit)
            images, masks = exemplars.images, exemplars.masks
        return _Unit(row, images, masks) if masks.any() else _Unit(row)

    def _describe(self, batch: Sequence["_Unit"], settings: DecodingSettings) -> list[Description | None]:
        """None for those that are never active."""
        active = [unit for unit in batch if unit.images is not None]
        if not active:
            return [None] * len(batch)
        images, masks = (np.stack([getattr(unit, name) for unit in active]) for name in ("images", "masks"))
        said = iter(self.registered.describer.describe(images, masks, settings))
        return [None if unit.images is None else next(said) for unit in batch]


@dataclass(frozen=True)
class _Unit:
    """A row and its exemplars: uint8 images (k, 3, H, W) and masks (k, 1, H, W); None where it is never active."""

    row: Row
    images: np.ndarray | None = None
    masks: np.ndarray | None = None
