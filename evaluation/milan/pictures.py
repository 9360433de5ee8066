"""Units as pictures: a row each, what is said of it beside the exemplars that drive it most.

Records are those of `asking.record_of`; with `version` in them, those of several versions to the same unit share its
row. Lengths are points, from the top left corner of the page.
"""

import base64
import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from conceptry.evaluation.milan.overlay import shaded
from conceptry.evaluation.plots import GRID, INK, MUTED, SECOND, new_figure

SHOWN = 8  # exemplars of a unit
FINE = 224  # pixels that the outline of a mask is drawn in
CELL, SPACE, TEXT, MARGIN = 56.0, 4.0, 236.0, 14.0
LETTERS = {11: 38, 9: 46, 7.5: 56}  # that the column of text has room for, by size
_SOURCE = "The pictures that drive each unit most, bright where it is active."
_WRONG = " Orange: not what the unit is known to be."


def draw_units(records: Sequence[dict]) -> Figure:
    """One row for each unit: its name, descriptions, and its first exemplars, dark where the unit is not active."""
    rows = _by_unit(records)
    texts = [_lines(same) for same in rows]
    heights = [max(sum(line[1] * 1.3 for line in lines) + 4, CELL) + 16 for lines in texts]
    shown = max((min(len(same[0]["images"]), SHOWN) for same in rows), default=0)
    width = 2 * MARGIN + TEXT + max(shown * (CELL + SPACE), 170.0)
    page = Page(width, MARGIN + sum(heights) + 20)
    top = MARGIN
    for number, (same, lines, height) in enumerate(zip(rows, texts, heights, strict=True)):
        if number:
            page.rule(top - 8)
        y = top
        for text, size, colour, weight in lines:
            page.text(MARGIN, y, text, size, colour, weight=weight)
            y += size * 1.3
        images, masks = same[0]["images"][:SHOWN], same[0]["masks"][:SHOWN]
        for place, pixels in enumerate(_exemplars(images, masks)):
            page.picture(MARGIN + TEXT + place * (CELL + SPACE), top, CELL, CELL, pixels)
        if not images:
            page.text(MARGIN + TEXT, top + CELL / 2, "no exemplars were delivered", 8, MUTED, va="center")
        top += height
    wrong = any(record.get("right") is False for record in records)
    page.text(MARGIN, top, _SOURCE + wrong * _WRONG, 7, MUTED)
    return page.figure


def _by_unit(records: Sequence[dict]) -> list[list[dict]]:
    """The records of each unit, in the order of the first; several where several versions have the same exemplars."""
    rows: dict[tuple[str, str, str], list[dict]] = {}
    for record in records:
        rows.setdefault((record["sample"], *map("".join, (record["images"], record["masks"]))), []).append(record)
    return list(rows.values())


def _lines(same: Sequence[dict]) -> list[tuple[str, float, str, str]]:
    """(text, size, colour, weight) of each line beside the exemplars of a unit."""
    first = same[0]
    lines = [(unit_name(first), 8.0, MUTED, "normal")]
    if first.get("truth"):
        lines[0] = (f"{unit_name(first)}: {', '.join(first['truth'])}", 8.0, MUTED, "normal")
    for record in same:
        said = record["description"] or "inactive: no exemplar drives it above its level"
        colour = INK if record["description"] else MUTED
        if record.get("right") is False:
            colour = SECOND
        lines += [(part, 11.0, colour, "bold") for part in textwrap.wrap(said, LETTERS[11])]
        known = f"score {record['score']:.2f}   PMI {record['pmi']:.2f}" if record["description"] else ""
        note = "   ".join(filter(None, (record.get("version"), known)))
        if note:
            lines.append((note, 7.5, MUTED, "normal"))
        if record is not same[-1]:
            lines.append(("", 3.0, MUTED, "normal"))
        others = [entry["text"] for entry in record["alternatives"]][: 3 if len(same) == 1 else 0]
        if others:
            also = textwrap.shorten(f"or: {'; '.join(others)}", 2 * LETTERS[7.5], placeholder=" …")
            lines += [(part, 7.5, MUTED, "normal") for part in textwrap.wrap(also, LETTERS[7.5])]
    return lines


def unit_name(record: dict) -> str:
    """How a unit is named in pictures and tables: its layer and number, or what the data calls it."""
    return f"{record['layer']}, unit {record['unit']}" if record["layer"] else record["sample"]


def _exemplars(images: Sequence[str], masks: Sequence[str]) -> np.ndarray:
    """Pictures uint8 (k, H, W, 3), shaded outside of their masks, from base64 of PNG files."""
    if not images:
        return np.empty((0, 1, 1, 3), np.uint8)
    pixels = np.stack([np.asarray(_opened(image).convert("RGB")) for image in images])
    active = np.stack([np.asarray(_opened(mask).convert("L")) > 0 for mask in masks])
    fine = max(1, FINE // max(pixels.shape[1:3]))  # small pictures in finer pixels: outlines hide less of them
    pixels, active = (array.repeat(fine, axis=1).repeat(fine, axis=2) for array in (pixels, active))
    return shaded(pixels.transpose(0, 3, 1, 2), active[:, None].astype(np.uint8))


def _opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


class Page:
    """A figure of `width` x `height` points."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = new_figure(width / 72, height / 72)
        self.figure.set_layout_engine("none")

    def text(self, x: float, y: float, text: str, size: float, colour: str, va: str = "top", **how: Any) -> None:
        self.figure.text(
            x / self.width, 1 - y / self.height, text, fontsize=size, color=colour, va=va, parse_math=False, **how
        )

    def picture(self, x: float, y: float, width: float, height: float, pixels: np.ndarray) -> None:
        axes = self._axes(x, y, width, height)
        axes.imshow(pixels, interpolation="antialiased" if max(pixels.shape) > 64 else "nearest", aspect="auto")
        axes.set_axis_off()

    def bar(self, x: float, y: float, width: float, height: float, colour: str, alpha: float = 1.0) -> None:
        axes = self._axes(x, y, width, height)
        axes.patch.set(facecolor=colour, alpha=alpha)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)

    def rule(self, y: float) -> None:
        self.bar(MARGIN, y, self.width - 2 * MARGIN, 0.6, GRID)

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        place = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(place)
