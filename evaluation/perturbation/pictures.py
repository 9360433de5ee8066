"""The grid of the papers: start, result and change, one column a picture, versions below each other.

Records are those of `asking.record_of`; with `version` in them, those of several versions to the same request are drawn
below one another. Lengths are points, from the top left corner of the page.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from conceptry.evaluation.perturbation.columns import SMALL, Column, columns_of, stretch
from conceptry.evaluation.plots import ACCENT, GRID, INK, MUTED, SECOND, new_figure

SIGNED = LinearSegmentedColormap.from_list("signed", [ACCENT, "white", SECOND])
LEFT, GAP, LINE, MARGIN = 50.0, 7.0, 12.0, 10.0
_FOOTER = "Below a result: probability of the class before → after, orange where it is not reached."
_CHANGE = "Change: orange brighter, blue darker, each scaled to its own strongest."


def draw_grid(records: Sequence[dict]) -> Figure:
    """Start, result and change of each record; both directions of an error side by side."""
    versions = list(dict.fromkeys(record.get("version", "") for record in records))
    by_version = [[record for record in records if record.get("version", "") == name] for name in versions]
    columns: list[tuple[bool, list[Column]]] = []  # those of one picture stay together
    for same in zip(*by_version, strict=True):
        columns.append((same[0]["probe"], columns_of(same)))
    size = max(columns[0][1][0].start.shape[:2])
    cell, most = (58.0, 10) if size <= SMALL else (130.0, 4)
    blocks = _blocks(columns, most)
    width = LEFT + max(len(block) for block in blocks) * (cell + GAP) + MARGIN
    noises = max(record.get("mean_of", 0) for record in records)
    titles = versions if len(versions) > 1 else []
    width = max(width, 430.0 if titles else 330.0)  # for the footer and the names
    heights = [_height(block, cell, len(versions), bool(titles)) for block in blocks]
    footer = [_FOOTER, _CHANGE]
    if noises:
        footer.append(f"Mean: of the results from {noises} noises, contrast raised alike for all.")
    page = _Page(width, MARGIN + sum(heights) + LINE * (0.5 + 0.85 * len(footer)))
    stretch([side for block in blocks for column in block for side in column.sides])
    top = MARGIN
    for block, height in zip(blocks, heights, strict=True):
        _draw_block(page, block, cell, top, titles)
        top += height
    for line, text in enumerate(footer):
        page.text(MARGIN, top + line * LINE * 0.85, text, 7, MUTED)
    return page.figure


def _draw_block(page: "_Page", block: list[Column], cell: float, top: float, titles: Sequence[str]) -> None:
    heading, tall = _lines(block) * LINE, cell * _aspect(block)
    apart = _apart(block)
    for k, column in enumerate(block):
        x, y = LEFT + k * (cell + GAP), top + heading
        page.text(x + cell / 2, y - 4, column.heading, 9, INK, ha="center", va="bottom", weight="bold")
        page.picture(x, y, cell, tall, column.start)
        y += tall + GAP / 2
        for number, side in enumerate(column.sides):
            if titles:
                y += LINE * 1.5
            rows = []
            if number in apart:
                rows.append(("start", y))
                page.picture(x, y, cell, tall, column.start if side.start is None else side.start)
                y += tall + GAP / 2
            page.picture(x, y, cell, tall, side.result)
            page.text(x + cell / 2, y + tall + 2, side.caption, 7, MUTED if side.reached else SECOND, ha="center")
            rows += [("result", y), ("change", y + tall + LINE)]
            page.picture(x, rows[-1][1], cell, tall, side.change, signed=True)
            if side.mean is not None:
                rows.append(("mean", rows[-1][1] + tall + GAP / 2))
                page.picture(x, rows[-1][1], cell, tall, (side.mean + 1) / 2)
            if not k:
                for text, at in rows:
                    page.text(LEFT - 6, at + tall / 2, text, 8, MUTED, ha="right", va="center")
                if titles:
                    page.text(LEFT, rows[0][1] - 3, titles[number], 8, INK, va="bottom")
            y = rows[-1][1] + tall + GAP / 2
    page.text(LEFT - 6, top + heading + tall / 2, "start", 8, MUTED, ha="right", va="center")


def _height(block: list[Column], cell: float, versions: int, titled: bool) -> float:
    tall = cell * _aspect(block)
    with_mean = block[0].sides[0].mean is not None
    each = 2 * tall + LINE + GAP / 2 + titled * LINE * 1.5 + with_mean * (tall + GAP / 2)
    starts = 1 + len(_apart(block))
    return _lines(block) * LINE + starts * (tall + GAP / 2) + versions * each + GAP * 1.5


def _apart(block: list[Column]) -> set[int]:
    """The versions, by number, that do not start where the first one does."""
    return {number for column in block for number, side in enumerate(column.sides) if side.start is not None}


def _lines(block: list[Column]) -> int:
    return max(1 + column.heading.count("\n") for column in block)


def _aspect(block: list[Column]) -> float:
    """Height over width of the pictures, of the tallest one."""
    return max(column.start.shape[0] / column.start.shape[1] for column in block)


def _blocks(columns: Sequence[tuple[bool, list[Column]]], most: int) -> list[list[Column]]:
    """Rows of at most `most` columns; probes and perturbed pictures do not share one."""
    blocks: list[list[Column]] = []
    last: bool | None = None
    for probe, group in columns:
        if probe is not last or len(blocks[-1]) + len(group) > most:
            blocks.append([])
        blocks[-1] += group
        last = probe
    return blocks


class _Page:
    """A figure of `width` x `height` points."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = new_figure(width / 72, height / 72)
        self.figure.set_layout_engine("none")

    def text(self, x: float, y: float, text: str, size: float, colour: str, va: str = "top", **how: Any) -> None:
        self.figure.text(
            x / self.width, 1 - y / self.height, text, fontsize=size, color=colour, va=va, parse_math=False,
            linespacing=1.0, **how,
        )  # fmt: skip

    def picture(
        self, x: float, y: float, width: float, height: float, pixels: np.ndarray, signed: bool = False
    ) -> None:
        axes: Axes = self.figure.add_axes(
            (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        )
        smooth = "nearest" if max(pixels.shape[:2]) <= SMALL else "antialiased"
        if signed:
            axes.imshow(pixels, cmap=SIGNED, vmin=-1, vmax=1, interpolation=smooth)
        else:
            axes.imshow(pixels, interpolation=smooth)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=GRID, linewidth=0.6)
