"""MILAN behind MLflow's pyfunc interface: one row is one unit.

| way to ask | columns |
|---|---|
| a unit of the registered network | `layer`: its name; `unit`: its number |
| any other unit | `images`: list of images, the strongest first; `masks`: of their masks, of the same size |

Images are bytes of a file, or base64. A mask is an image as large as its exemplar: grey levels above 127 are in; of a
mask of the levels 0 and 1 only, as arrays of truth values are often saved, the ones. Levels of which none is above 127
say neither, and are refused. A row is checked cell by cell, and an error names the row and the column. All columns are
typed "any": with other types MLflow itself would refuse a null, in sentences that name no row. The answer has for each
row

| column | what |
|---|---|
| layer, unit | as asked; "" and -1 where images were given |
| active | false of a unit whose masks are all empty: it is not described, its text is "" and its scores are 0 |
| description | the text |
| score | what ranked it, by the strategy: see `settings` |
| log_likelihood | log p(description given exemplars) |
| pmi | log_likelihood less log p_LM(description) |
| alternatives | the next best ones, list of {text, score, log_likelihood, pmi} |
| ids, activations | of a unit of the network: positions of its exemplars in their data, and its maximum on each |
| images, masks | with `exemplars`, of a unit of the network: PNG files; else empty |

Images are bytes in this process; the server makes base64 of them, and so does this in a task of Spark, whose structs
MLflow gives no bytes. They can be handed in again as they come out.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Object, Property

from conceptry.models.errors import InputError, truncated_repr
from conceptry.models.explainer import Explainer, cell_error, in_spark, is_given
from conceptry.models.images import decode_image, decode_mask, image_bytes
from conceptry.models.milan.exemplars.unit_store import UnitStore
from conceptry.models.milan.model import Milan, read_package
from conceptry.models.milan.settings import WORK
from conceptry.models.milan.units import MAX_PIXELS, Unit

MAX_IMAGES = 100  # of one row
_REGISTERED, _UNKNOWN = ("layer", "unit"), ("images", "masks")
COLUMNS = (*_REGISTERED, *_UNKNOWN)
_NEEDED = {
    "layer": "the layer of the unit",
    "unit": "the number of a unit of that layer",
    "images": "the pictures that the masks belong to",
    "masks": "a mask for each picture; one that is white all over takes the whole picture",
}


@dataclass(frozen=True)
class Row:
    """A row whose cells are there. number: its place in the request, from 0.

    layer, unit: of the registered network; where the row holds pictures instead, "" and -1, and images and masks are
    cells of equally many files, which are decoded by `read_exemplars`.
    """

    number: int
    layer: str = ""
    unit: int = -1
    images: tuple[Any, ...] = ()
    masks: tuple[Any, ...] = ()

    @property
    def is_registered(self) -> bool:
        """Whether the row names a unit of the registered network."""
        return not self.images


def read_row(units: UnitStore, number: int, cells: Mapping[Any, Any]) -> Row:
    """Raises InputError naming row and column for cells that are missing, too many, or not what they have to be."""
    given = {name: cells[name] for name in COLUMNS if is_given(cells.get(name))}
    if not given:
        raise InputError(f"row {number}: none of the columns is given; expected layer and unit, or images and masks")
    ways = [way for way in (_REGISTERED, _UNKNOWN) if given.keys() & set(way)]
    if len(ways) > 1:
        first, second = (next(name for name in way if name in given) for way in ways)
        raise InputError(
            f"row {number}: columns {first!r} and {second!r} are both given; expected layer and unit of the registered "
            "network, or images and masks of another unit"
        )
    for name in ways[0]:
        if name not in given:
            raise cell_error(number, name, f"is not given; expected {_NEEDED[name]}")
    if ways[0] == _UNKNOWN:
        images, masks = (_files(number, name, given[name]) for name in _UNKNOWN)
        if len(images) != len(masks):
            raise cell_error(
                number, "masks", f"holds {len(masks)} masks for {len(images)} pictures; expected one for each"
            )
        return Row(number, images=images, masks=masks)
    layer = _named(number, "layer", given["layer"], _layer)
    _named(number, "layer", layer, units.check_layer)
    unit = _named(number, "unit", given["unit"], _unit)
    _named(number, "unit", unit, lambda value: units.check(layer, value))
    return Row(number, layer, unit)


def read_exemplars(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """The pictures, uint8 (k, 3, H, W), and masks, uint8 (k, 1, H, W) of 0 and 1, of a row that holds some.

    Raises InputError naming row, column and picture.
    """
    images, masks = [], []
    most = MAX_PIXELS // len(row.images)
    for i, (image, mask) in enumerate(zip(row.images, row.masks, strict=True)):
        pixels = _nth(row.number, "images", i, lambda cell=image: np.asarray(decode_image(image_bytes(cell), most)))
        if images and pixels.shape != images[0].shape:
            expected = f"picture 0 is {_size(images[0])}; expected pictures of one size in a row"
            raise cell_error(row.number, "images", f"picture {i} is {_size(pixels)} pixels, and {expected}")
        inside = _nth(row.number, "masks", i, lambda cell=mask: decode_mask(image_bytes(cell), most))
        if inside.shape != pixels.shape[:2]:
            expected = f"expected the size of its picture, {_size(pixels)}"
            raise cell_error(row.number, "masks", f"mask {i} is {_size(inside)} pixels; {expected}")
        images.append(pixels)
        masks.append(inside)
    return np.moveaxis(np.stack(images), -1, 1), np.stack(masks)[:, None].astype(np.uint8)


def _files(number: int, name: str, cell: Any) -> tuple[Any, ...]:
    what = "pictures" if name == "images" else "masks"
    if isinstance(cell, np.ndarray) and cell.ndim == 1:
        cell = cell.tolist()
    if not isinstance(cell, (list, tuple)):
        raise cell_error(number, name, f"expected a list of {what}, got {type(cell).__name__}")
    if not cell:
        raise cell_error(number, name, f"holds no {what}; expected at least one")
    if len(cell) > MAX_IMAGES:
        raise cell_error(number, name, f"holds {len(cell):,} {what}; at most {MAX_IMAGES} are accepted")
    return tuple(cell)


def _layer(cell: Any) -> str:
    """The name of a layer; one of digits may come as a number."""
    if isinstance(cell, str):
        return cell
    return str(_unit(cell, "the name of a layer"))


def _unit(cell: Any, what: str = "the number of a unit, a whole one from 0") -> int:
    """A whole number, however it came: tables turn 3 into 3.0 where another row has none, and text has "3"."""
    if isinstance(cell, str) and re.fullmatch(r"[0-9]{1,18}(\.0)?", cell.strip()):
        return int(cell.strip().partition(".")[0])
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        cell = int(cell)
    if isinstance(cell, (int, np.integer)) and not isinstance(cell, bool) and 0 <= cell < 2**63:
        return int(cell)
    raise InputError(f"expected {what}, got {truncated_repr(cell)}")


def _named(number: int, name: str, cell: Any, reader: Callable[[Any], Any]) -> Any:
    try:
        return reader(cell)
    except InputError as error:
        raise cell_error(number, name, error) from None


def _nth(number: int, name: str, i: int, reader: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return reader()
    except InputError as error:
        raise cell_error(number, name, f"{'picture' if name == 'images' else 'mask'} {i}: {error}") from None


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


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
    milan: Milan
    work = WORK

    def load(self, directory: Path, device: torch.device) -> None:
        self.milan = read_package(directory, device)

    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        settings = self.milan.override({name: params.get(name) for name in _PARAMS})
        self.check_work(len(rows) * settings.hypotheses * settings.length)
        units = self.milan.units
        assert units is not None  # a version has some
        asked = [read_row(units, number, cells) for number, cells in enumerate(rows.to_dict("records"))]
        wanted = [
            Unit(row.layer, row.unit, None if row.is_registered else partial(read_exemplars, row)) for row in asked
        ]
        form = {"exemplars": bool(params.get("exemplars")), "text": in_spark()}
        described = self.milan.describe(wanted, settings, self.progress)
        return pd.DataFrame([unit.answer(**form) for unit in described])
