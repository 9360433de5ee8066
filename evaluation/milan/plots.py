"""Figures of MILAN: units with their descriptions beside the exemplars that drive them most, and scores as bars.

The scores say how often descriptions are right, by kind of unit, beside the baselines and the chance levels.
Descriptions are also written as tables. Lengths are points, from the top left corner of the page.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageOps

from conceptry.evaluation.cells import write_rows
from conceptry.evaluation.drawing.images import image_of
from conceptry.evaluation.drawing.strips import shaded
from conceptry.evaluation.drawing.style import ACCENT, GRID, INK, MUTED, SECOND, check_style, new_figure

VIEWS = ("units",)
SHOWN = 8  # exemplars of a line
FINE = 224  # pixels of an exemplar's side: outlines of masks are fine in them
SMALL = 64
CELL, SPACE, TEXT, MARGIN = 56.0, 4.0, 236.0, 14.0
LETTERS = {11: 38, 9: 46, 7.5: 56}  # that the column of text has room for, by size
_SOURCE = "The pictures that drive each unit most, bright where it is active."
_WRONG = " Orange: not what the unit is known to be."


def draw(records: Sequence[dict], view: str | None = None, **style: Any) -> Figure:
    """Draw units, a row for each: its name, its descriptions, and its first exemplars, dark where it is not active.

    Args:
        records: records of `client.record_of`, with `images` and `masks` of k exemplars each: base64 text or bytes of
            files, or PIL images. Those of several versions (`version`) to one unit share its row.
        view: "units", the only one.
        **style: none is known.

    Raises:
        InputError: for another view, and for any style.
    """
    check_style("milan", view, VIEWS, style)
    rows = _by_unit(records)
    texts = [_lines(same) for same in rows]
    heights = [
        max(sum(line[1] * 1.3 for line in lines) + 4, _strips(same) * (CELL + SPACE) - SPACE, CELL) + 16
        for same, lines in zip(rows, texts, strict=True)
    ]
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
        for line in range(_strips(same)):
            part = slice(line * SHOWN, (line + 1) * SHOWN)
            images, masks = same[0]["images"][part], same[0]["masks"][part]
            place = (MARGIN + TEXT, top + line * (CELL + SPACE), len(images) * (CELL + SPACE) - SPACE, CELL)
            page.image(*place, _strip(images, masks))
        if not same[0]["images"]:
            page.text(MARGIN + TEXT, top + CELL / 2, "no exemplars were delivered", 8, MUTED, va="center")
        top += height
    wrong = any(record.get("right") is False for record in records)
    page.text(MARGIN, top, _SOURCE + wrong * _WRONG, 7, MUTED)
    return page.figure


def _by_unit(records: Sequence[dict]) -> list[list[dict]]:
    """The records of each unit, in the order of the first; several where several versions have the same exemplars."""
    rows: dict[tuple, list[dict]] = {}
    for record in records:
        files = (*record["images"], *record["masks"])
        same = record["sample"], *(file.tobytes() if isinstance(file, Image.Image) else file for file in files)
        rows.setdefault(same, []).append(record)
    return list(rows.values())


def _strips(same: Sequence[dict]) -> int:
    """Lines of exemplars: two where the descriptions of several versions take their height anyway."""
    full = -(-len(same[0]["images"]) // SHOWN)
    return min(full, 2 if len(same) > 2 else 1)


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
    """Name of a unit in figures and tables: its layer and number, or what the data calls it."""
    return f"{record['layer']}, unit {record['unit']}" if record["layer"] else record["sample"]


def _strip(images: Sequence[Any], masks: Sequence[Any]) -> np.ndarray:
    """Images side by side, uint8 (FINE, W, 3), shaded outside of their masks.

    One image of all: axes of their own for each would take longer to make than what they show.
    """
    pixels = np.stack([_square(image_of(image), "white") for image in images])
    active = np.stack([_square(image_of(mask).convert("L"), 255) > 127 for mask in masks])
    found = shaded(pixels.transpose(0, 3, 1, 2), active[:, None].astype(np.uint8))
    gap = np.full((FINE, round(FINE * SPACE / CELL), 3), 255, np.uint8)
    return np.concatenate([part for image in found for part in (image, gap)][:-1], axis=1)


def _square(image: Image.Image, beyond: str | int) -> np.ndarray:
    """The picture fitted into a square of FINE pixels; small ones keep their pixels, photographs are smoothed."""
    small = max(image.size) <= SMALL or image.mode == "L"
    kind = Image.Resampling.NEAREST if small else Image.Resampling.BICUBIC
    return np.asarray(ImageOps.pad(image, (FINE, FINE), kind, beyond))


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

    def image(self, x: float, y: float, width: float, height: float, pixels: np.ndarray) -> None:
        place = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place)
        axes.imshow(pixels, interpolation="antialiased", aspect="auto")
        axes.set_axis_off()

    def bar(self, x: float, y: float, width: float, height: float, colour: str, alpha: float = 1.0) -> None:
        corner = (x / self.width, 1 - (y + height) / self.height)
        self.figure.add_artist(
            Rectangle(corner, width / self.width, height / self.height, facecolor=colour, alpha=alpha, linewidth=0)
        )

    def rule(self, y: float) -> None:
        self.bar(MARGIN, y, self.width - 2 * MARGIN, 0.6, GRID)


BASELINE = "#9fb3c8"
LINE, BAR, LEFT, WIDTH = 16.0, 10.0, 144.0, 230.0
_HEADINGS = {
    "property_set": "Units of two properties, held out together: exactly the two named",
    "property_set_single": "Units of one property: exactly that named",
    "planted": "Planted concepts: named",
    "colour_units": "Arithmetic of colours: the colour named",
}
_BARS = {
    "{}": ("this version", ACCENT),
    "clip_dissect_{}": ("CLIP-Dissect", BASELINE),
    "net_dissect_{}": ("Network Dissection", BASELINE),
    "{}_shuffled": ("truths shuffled", SECOND),
    "{}_random": ("random pictures", SECOND),
}


def draw_scores(metrics: Mapping[str, float]) -> Figure:
    """Bars from 0 to 1 for each kind of unit that `metrics` has a score of."""
    groups = {
        heading: [(name, metrics[key.format(kind)], colour) for key, (name, colour) in _BARS.items()
                  if key.format(kind) in metrics]
        for kind, heading in _HEADINGS.items()
        if kind in metrics
    }  # fmt: skip
    page = Page(430, 24 + sum(LINE * len(bars) + 30 for bars in groups.values()))
    y = MARGIN
    for heading, bars in groups.items():
        page.text(MARGIN, y, heading, 9, INK, weight="bold")
        y += 17
        for name, score, colour in bars:
            ink = INK if colour == ACCENT else MUTED
            page.text(LEFT - 8, y + BAR / 2 + 1, name, 8, ink, ha="right", va="center")
            page.bar(LEFT, y + 1, WIDTH, BAR, GRID, 0.45)
            page.bar(LEFT, y + 1, max(WIDTH * score, 1.0), BAR, colour)
            page.text(LEFT + WIDTH + 6, y + BAR / 2 + 1, f"{score:.2f}", 8, ink, va="center")
            y += LINE
        y += 13
    page.text(MARGIN, y, "Blue: this version. Grey: baselines on the same units. Orange: chance.", 7, MUTED)
    return page.figure


_PANELS = {
    "correlation": "Correlation",
    "auprc": "AUPRC, most active 2 %",
    "cosy_auc": "CoSy's AUC",
    "cosy_mad": "CoSy's MAD",
}
_CHANCE = {"cosy_auc": 0.5}  # of those that are not about 0
_CONTROLS = ("constant", "shuffled", "random network")
_ROW, _PANEL, _GAP, _NAMES = 26.0, 128.0, 44.0, 132.0


def draw_activation_scores(table: pd.DataFrame) -> Figure:
    """Bars with intervals of each score of `activation_metrics.describers_table`, a row for each describer."""
    shown = [score for score in _PANELS if score in table.columns]
    page = Page(_NAMES + len(shown) * (_PANEL + _GAP) + MARGIN, 76 + _ROW * len(table) + 22)
    page.text(
        MARGIN, MARGIN, "Do units respond to the pictures that show what is said of them?", 11, INK, weight="bold"
    )
    rows: list[dict[str, Any]] = [{str(name): cell for name, cell in row.items()} for row in table.to_dict("records")]
    for k, score in enumerate(shown):
        left, known = _NAMES + k * (_PANEL + _GAP), [row for row in rows if np.isfinite(row[score])]
        page.text(left, 46, _PANELS[score], 9, INK, weight="bold")
        if score in _CHANCE:
            page.bar(left + _PANEL * _CHANCE[score] - 0.4, 64, 0.8, _ROW * len(known) - 8, MUTED, 0.6)
            page.text(left + _PANEL * _CHANCE[score], 62 + _ROW * len(known), "chance", 6.5, MUTED, ha="center")
        most = max(1.0, *(row[f"{score}_high"] for row in known))
        for j, row in enumerate(rows):
            y = 68 + j * _ROW
            if not k:
                ink = INK if not j else MUTED
                page.text(_NAMES - 10, y + BAR / 2, row["describer"], 8.5, ink, ha="right", va="center")
                if row["says"]:
                    page.text(_NAMES - 10, y + BAR + 5, f"says {row['says']}", 6.5, MUTED, ha="right", va="center")
            if row not in known:
                continue
            ink, colour = (INK, ACCENT) if not j else (MUTED, SECOND if row["describer"] in _CONTROLS else BASELINE)
            page.bar(left, y, _PANEL, BAR, GRID, 0.45)
            page.bar(left, y, max(_PANEL * row[score] / most, 1.0), BAR, colour)
            low, high = (_PANEL * min(max(row[f"{score}_{end}"] / most, 0.0), 1.0) for end in ("low", "high"))
            page.bar(left + low, y + BAR / 2 - 0.6, max(high - low, 0.6), 1.2, INK)
            places = 3 if most == 1 else 2
            said = f"{round(row[score], places) + 0.0:.{places}f}"  # without a sign of 0
            page.text(left + _PANEL + 5, y + BAR / 2, said, 8.5, ink, va="center")
    units = max(row["units"] for row in rows)
    said = f"Means over {units} units, with intervals (95 %). Blue: this version. Grey: baselines. Orange: controls."
    page.text(MARGIN, 68 + _ROW * len(rows) + 6, said, 7, MUTED)
    return page.figure


SUFFIXES = (".png", ".svg", ".pdf", ".csv")
COLUMNS = ("layer", "unit", "description", "score", "log_likelihood", "pmi", "active")


def save_records(records: Sequence[dict], output: Path, view: str | None, style: Mapping[str, Any]) -> list[Path]:
    """Draw all records, or write a .csv with a row for each, and the column version where there are several."""
    if output.suffix == ".csv":
        columns = ["version", *COLUMNS] if any("version" in record for record in records) else list(COLUMNS)
        write_rows(output, columns, ([record.get(name, "") for name in columns] for record in records))
    else:
        draw(records, view, **style).savefig(output, dpi=200)
    return [output]
