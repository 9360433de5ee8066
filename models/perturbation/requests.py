"""One row of a request, checked cell by cell: pictures to pixels, classes to indices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from conceptry.models.errors import InputError
from conceptry.models.images import decode_image, image_bytes
from conceptry.models.perturbation.classifier import ClassScores
from conceptry.models.perturbation.settings import COUNTERFACTUAL, EXPLAIN_ERROR, INVERT, PROBE, Settings
from conceptry.models.perturbation.tasks import as_pixels, pixel_shape
from conceptry.models.serving import at, is_given

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


def read_row(scores: ClassScores, settings: Settings, number: int, cells: Mapping[Any, Any]) -> Row:
    """Raises InputError naming row and column for a cell that is missing, not wanted, or not what it has to be."""
    mode = settings.mode
    given = {name: cells[name] for name in _WHAT if is_given(cells.get(name))}
    for name in _NEEDED[mode]:
        if name not in given:
            raise at(number, name, f"is not given; {mode} needs {_WHAT[name]} in every row")
    for name in given:
        if name not in (*_NEEDED[mode], *_OPTIONAL[mode]):
            taken = " and ".join((*_NEEDED[mode], *_OPTIONAL[mode]))
            raise at(number, name, f"is given, and {mode} takes {taken} only")

    def read(name: str, reader: Any) -> Any:
        try:
            return reader(given[name]) if name in given else None
        except InputError as error:
            raise at(number, name, error) from None

    def pixels(value: object) -> Tensor:
        picture = np.asarray(decode_image(image_bytes(value)))
        return as_pixels(scores, picture[None], settings)

    image = read("image", pixels)
    if mode == PROBE:
        shape = tuple(image.shape[1:]) if image is not None else _own_shape(scores, number)
        return Row(number, shape, start=image, target=read("target", scores.index_of))
    shape = tuple(image.shape[1:])
    if mode == INVERT:
        start = read("source", pixels)
        if start is not None and tuple(start.shape[1:]) != shape:
            height, width = start.shape[2:]
            raise at(number, "source", f"is {width} x {height} pixels, and image is {shape[2]} x {shape[1]}")
        return Row(number, shape, image, start)
    target, source = read("target", scores.index_of), read("source", scores.index_of)
    return Row(number, shape, image, target=target, source=source)


def _own_shape(scores: ClassScores, number: int) -> tuple[int, ...]:
    try:
        return pixel_shape(scores.model)
    except InputError as error:
        raise at(number, "image", error) from None
