"""One row of a request, checked cell by cell: a unit of the registered network, or the exemplars of an unknown one.

A mask is a picture as large as its exemplar. Its grey levels above 127 are in; of a mask of the levels 0 and 1 only,
as arrays of truth values are often saved, the ones. Levels of which none is above 127 say neither, and are refused.
"""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from conceptry.models.errors import InputError, shown
from conceptry.models.images import FORMATS, decode_image, image_bytes
from conceptry.models.milan.network_units import NetworkUnits
from conceptry.models.serving import at, is_given

MAX_PICTURES = 100  # of one row
MAX_PIXELS = 2**24  # of the pictures of one row together: some 100 photographs of 400 x 400
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


def read_row(units: NetworkUnits, number: int, cells: Mapping[Any, Any]) -> Row:
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
            raise at(number, name, f"is not given; expected {_NEEDED[name]}")
    if ways[0] == _UNKNOWN:
        images, masks = (_files(number, name, given[name]) for name in _UNKNOWN)
        if len(images) != len(masks):
            raise at(number, "masks", f"holds {len(masks)} masks for {len(images)} pictures; expected one for each")
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
            raise at(row.number, "images", f"picture {i} is {_size(pixels)} pixels, and {expected}")
        inside = _nth(row.number, "masks", i, lambda cell=mask: _mask(image_bytes(cell), most))
        if inside.shape != pixels.shape[:2]:
            expected = f"expected the size of its picture, {_size(pixels)}"
            raise at(row.number, "masks", f"mask {i} is {_size(inside)} pixels; {expected}")
        images.append(pixels)
        masks.append(inside)
    return np.moveaxis(np.stack(images), -1, 1), np.stack(masks)[:, None].astype(np.uint8)


def _files(number: int, name: str, cell: Any) -> tuple[Any, ...]:
    what = "pictures" if name == "images" else "masks"
    if isinstance(cell, np.ndarray) and cell.ndim == 1:
        cell = cell.tolist()
    if not isinstance(cell, (list, tuple)):
        raise at(number, name, f"expected a list of {what}, got {type(cell).__name__}")
    if not cell:
        raise at(number, name, f"holds no {what}; expected at least one")
    if len(cell) > MAX_PICTURES:
        raise at(number, name, f"holds {len(cell):,} {what}; at most {MAX_PICTURES} are accepted")
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
    raise InputError(f"expected {what}, got {shown(cell)}")


def _named(number: int, name: str, cell: Any, reader: Callable[[Any], Any]) -> Any:
    try:
        return reader(cell)
    except InputError as error:
        raise at(number, name, error) from None


def _nth(number: int, name: str, i: int, reader: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return reader()
    except InputError as error:
        raise at(number, name, f"{'picture' if name == 'images' else 'mask'} {i}: {error}") from None


def _mask(content: bytes, max_pixels: int) -> np.ndarray:
    """Truth values (H, W) of the file of a mask."""
    picture = decode_image(content, max_pixels)
    with Image.open(io.BytesIO(content), formats=FORMATS) as file:
        if file.has_transparency_data and np.asarray(file.convert("RGBA"))[..., 3].min() < 255:
            raise InputError("has transparent pixels, which are neither in nor out; expected black and white")
    levels = np.asarray(picture.convert("L"))
    highest = int(levels.max())
    if 1 < highest <= 127:
        raise InputError(f"its highest grey level is {highest}; expected levels above 127 where the unit is active")
    return levels > (127 if highest > 1 else 0)


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
