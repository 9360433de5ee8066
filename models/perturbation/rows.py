"""Rows of a request, checked cell by cell: images to pixels, classes to indices; from a server or from Python.

| mode | image | target | source |
|---|---|---|---|
| probe | start; noise or grey where it is not given | class to look for | - |
| counterfactual | image to change | class to reach; none: away from the source | class to leave, or the predicted |
| explain_error | misread image | its true class | the wrong class, or the predicted |
| invert | image to match | - | image to start from; noise or grey where it is not given |

An image of a server's row is the content of a file, as bytes or base64. In Python it may be a path as well, a PIL
image, a uint8 array (height, width, 3) or (height, width), or a uint8 tensor (3, height, width), all of which the
network's own preprocessing resizes and crops; or a floating tensor (C, height, width) of pixels in [0, 1] as the
network sees them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conceptry.models.errors import InputError, cell_error
from conceptry.models.images import SUFFIXES, decode_image, image_bytes, open_image, to_rgb
from conceptry.models.perturbation.class_scores import ClassScores
from conceptry.models.perturbation.settings import COUNTERFACTUAL, EXPLAIN_ERROR, INVERT, PROBE, Settings
from conceptry.models.perturbation.tasks import as_pixels, pixel_shape

COLUMNS = ("image", "target", "source")
# What a mode makes of a column: needed, optional, or (where it is not listed) refused.
_NEEDED = {PROBE: ("target",), COUNTERFACTUAL: ("image",), EXPLAIN_ERROR: ("image", "target"), INVERT: ("image",)}
_OPTIONAL = {PROBE: ("image",), COUNTERFACTUAL: ("target", "source"), EXPLAIN_ERROR: ("source",), INVERT: ("source",)}
_WHAT = {"image": "a picture", "target": "a class", "source": "a class"}


@dataclass(frozen=True)
class Row:
    """A row that can be answered. number: its place in the request, from 0; shape: (C, H, W) of its pixels.

    image: pixels (1, C, H, W) of the picture that the mode is about; start: those to start from, None for noise or
    grey (a probe) and for the picture itself.
    """

    number: int
    shape: tuple[int, ...]
    image: Tensor | None = None
    start: Tensor | None = None
    target: int | None = None
    source: int | None = None

    @property
    def kind(self) -> tuple:
        """Rows of one kind can be in one batch."""
        return self.shape, self.image is None, self.start is None

    @property
    def is_probe(self) -> bool:
        """Whether no image was given."""
        return self.image is None and self.start is None


def read_row(
    scores: ClassScores,
    settings: Settings,
    number: int,
    cells: Mapping[Any, Any],
    read_image: Callable[[Any], np.ndarray | Tensor],
) -> Row:
    """A row of the columns image, target and source; None is a cell without a value. read_image: `decoded` or `opened`.

    Raises InputError naming row and column for a cell that is missing, not wanted, or not what it has to be.
    """
    mode = settings.mode
    given = {name: cells[name] for name in COLUMNS if cells.get(name) is not None}
    for name in _NEEDED[mode]:
        if name not in given:
            raise cell_error(number, name, f"is not given; {mode} needs {_WHAT[name]} in every row")
    for name in given:
        if name not in (*_NEEDED[mode], *_OPTIONAL[mode]):
            taken = " and ".join((*_NEEDED[mode], *_OPTIONAL[mode]))
            raise cell_error(number, name, f"is given, and {mode} takes {taken} only")

    def read(name: str, reader: Callable[[Any], Any]) -> Any:
        try:
            return reader(given[name]) if name in given else None
        except InputError as error:
            raise cell_error(number, name, error) from None

    def pixels(value: object) -> Tensor:
        return as_pixels(scores, read_image(value), settings)

    image = read("image", pixels)
    if mode == PROBE:
        shape = tuple(image.shape[1:]) if image is not None else _own_shape(scores, number)
        return Row(number, shape, start=image, target=read("target", scores.index_of))
    shape = tuple(image.shape[1:])
    if mode == INVERT:
        start = read("source", pixels)
        if start is not None and tuple(start.shape[1:]) != shape:
            height, width = start.shape[2:]
            raise cell_error(number, "source", f"is {width} x {height} pixels, and image is {shape[2]} x {shape[1]}")
        return Row(number, shape, image, start)
    target, source = read("target", scores.index_of), read("source", scores.index_of)
    return Row(number, shape, image, target=target, source=source)


def _own_shape(scores: ClassScores, number: int) -> tuple[int, ...]:
    try:
        return pixel_shape(scores.model)
    except InputError as error:
        raise cell_error(number, "image", error) from None


def decoded(value: object) -> np.ndarray:
    """The content of an image file, bytes or base64, as uint8 (1, H, W, 3). Names of files mean nothing here."""
    return np.asarray(decode_image(image_bytes(value)))[None]


def opened(value: Any) -> np.ndarray | Tensor:
    """An image in any of the forms of Python: uint8 (1, H, W, 3), or pixels (1, C, H, W)."""
    if isinstance(value, Tensor):
        if value.ndim == 3 and value.is_floating_point():
            return value[None]
        if value.ndim != 3 or value.dtype != torch.uint8 or value.shape[0] != 3:
            got = f"{value.dtype} of shape {tuple(value.shape)}"
            raise InputError(f"a tensor is pixels (C, height, width) in [0, 1], or uint8 (3, height, width), got {got}")
        value = value.permute(1, 2, 0).cpu().numpy()
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or not (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4))):
            got = f"{value.dtype} of shape {value.shape}"
            raise InputError(
                f"an array is uint8 (height, width, 3), got {got}; pixels in [0, 1] are a torch tensor "
                "(C, height, width)"
            )
        value = Image.fromarray(value)
    if isinstance(value, str):
        value = _path_or_text(value)
    if not isinstance(value, (Path, Image.Image)):
        return decoded(value)
    return np.asarray(open_image(value) if isinstance(value, Path) else to_rgb(value))[None]


def _path_or_text(text: str) -> str | Path:
    """The file that a text names, or the text where it can only be base64."""
    path = Path(text)
    try:
        return path if path.suffix.lower() in SUFFIXES or path.is_file() else text
    except (OSError, ValueError):  # base64 is longer than any name
        return text


def cells_of(images: Any, target: Any, source: Any, mode: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The cells of the rows that are asked for in Python, and the names of their images.

    Args:
        images: one image or several; a table or dictionaries of the columns image, target and source; None for probes.
        target: classes, one for all rows or one for each; of one image several make a row each.
        source: the same; images where the mode is to invert.

    Raises:
        InputError: where there is nothing to explain, and where the counts do not fit one another.
    """
    records = _records(images)
    if records is not None:
        if target is not None or source is not None:
            raise InputError("a table has its own targets and sources; leave target and source out")
        return records, [_name_of(cells.get("image")) for cells in records]
    columns = {
        "image": _listed(images, _is_image),
        "target": _listed(target, _is_class),
        "source": _listed(source, _is_image if mode == INVERT else _is_class),
    }
    counts = {name: len(values) for name, values in columns.items() if values is not None}
    if not counts or not all(counts.values()):
        raise InputError("there is nothing to explain; expected at least one image, or a target to probe")
    rows = max(counts.values())
    if wrong := [name for name, count in counts.items() if count not in (1, rows)]:
        said = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputError(f"{wrong[0]}: expected one for all rows or one for each, got {said}")
    wide = {name: values * rows if len(values) == 1 else values for name, values in columns.items() if values}
    records = [{name: values[row] for name, values in wide.items()} for row in range(rows)]
    return records, [_name_of(cells.get("image")) for cells in records]


def _records(images: Any) -> list[dict[str, Any]] | None:
    """The rows of a table or of dictionaries; None for anything else."""
    if hasattr(images, "columns") and hasattr(images, "to_dict"):  # a pandas frame, which nothing else here needs
        images = images.astype(object).where(images.notna(), None).to_dict("records")
    elif isinstance(images, Mapping):
        images = [images]
    if not isinstance(images, Sequence) or not images or not all(isinstance(cells, Mapping) for cells in images):
        return None
    for row, cells in enumerate(images):
        if unknown := [name for name in cells if name not in COLUMNS]:
            raise InputError(f"row {row}: unknown column {unknown[0]!r}; expected some of {', '.join(COLUMNS)}")
    return [dict(cells) for cells in images]


def _listed(values: Any, is_one: Callable[[Any], bool]) -> list[Any] | None:
    if values is None or is_one(values):
        return None if values is None else [values]
    if isinstance(values, (np.ndarray, Tensor)) and not values.ndim:
        return [values.item()]
    if not isinstance(values, Iterable):
        raise InputError(f"expected one or several of them, got a {type(values).__name__}")
    return list(values)


def _is_image(value: Any) -> bool:
    if isinstance(value, (np.ndarray, Tensor)):
        return value.ndim < 4
    return isinstance(value, (str, bytes, bytearray, Path, Image.Image))


def _is_class(value: Any) -> bool:
    return isinstance(value, (str, int, float, np.number))


def _name_of(image: Any) -> str:
    if isinstance(image, Path) or (isinstance(image, str) and isinstance(_path_or_text(image), Path)):
        return str(image)
    return str(getattr(image, "filename", "") or "")
