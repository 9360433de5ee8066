"""The grid of the papers: start, result and change, one column a picture, versions below each other.

Records are those of `asking.record_of`; with `version` in them, those of several versions to the same request are drawn
below one another. Lengths are points, from the top left corner of the page.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from conceptry.evaluation.plots import ACCENT, GRID, INK, MUTED, SECOND, new_figure

SIGNED = LinearSegmentedColormap.from_list("signed", [ACCENT, "white", SECOND])
SMALL = 64  # pixels: pictures up to this size keep their pixels and fit ten to a row
STRONG = 0.97  # quantile of the pixels of means from which on they are black or white
LEFT, GAP, LINE, MARGIN = 50.0, 7.0, 12.0, 10.0
_FOOTER = "Below a result: probability of the class before → after, orange where it is not reached. "
_CHANGE = "Change: orange brighter, blue darker, each scaled to its own largest."


@dataclass
class _Column:
    """One column of the grid: its heading, the start, and what each version made of it."""

    heading: str
    start: np.ndarray
    sides: list["_Side"] = field(default_factory=list)


@dataclass
class _Side:
    """What one version made of a start; mean: of probes from several noises, -1 to 1, where there is one."""

    result: np.ndarray
    change: np.ndarray
    caption: str
    reached: bool
    mean: np.ndarray | None


def draw_grid(records: Sequence[dict]) -> Figure:
    """Start, result and change of each record; both directions of an error side by side."""
    versions = list(dict.fromkeys(record.get("version", "") for record in records))
    by_version = [[record for record in records if record.get("version", "") == name] for name in versions]
    columns: list[tuple[bool, list[_Column]]] = []  # those of one picture stay together
    for same in zip(*by_version, strict=True):
        columns.append((same[0]["probe"], _columns(same)))
    size = max(columns[0][1][0].start.shape[:2])
    cell, most = (58.0, 10) if size <= SMALL else (130.0, 4)
    blocks = _blocks(columns, most)
    width = LEFT + max(len(block) for block in blocks) * (cell + GAP) + MARGIN
    width = max(width, 460.0 if len(versions) > 1 else 420.0)
    titles = versions if len(versions) > 1 else []
    heights = [_height(block, cell, len(versions), bool(titles)) for block in blocks]
    page = _Page(width, MARGIN + sum(heights) + LINE * 2.2)
    _stretch([side for block in blocks for column in block for side in column.sides])
    top = MARGIN
    for block, height in zip(blocks, heights, strict=True):
        _draw_block(page, block, cell, top, titles)
        top += height
    page.text(MARGIN, top, _FOOTER, 7, MUTED)
    noises = max(record.get("mean_of", 0) for record in records)
    more = f" Mean: of the results from {noises} noises, contrast raised alike for all." if noises else ""
    page.text(MARGIN, top + LINE * 0.85, _CHANGE + more, 7, MUTED)
    return page.figure


def _draw_block(page: "_Page", block: list[_Column], cell: float, top: float, titles: Sequence[str]) -> None:
    heading, tall = _lines(block) * LINE, cell * _aspect(block)
    for k, column in enumerate(block):
        x, y = LEFT + k * (cell + GAP), top + heading
        page.text(x + cell / 2, y - 4, column.heading, 9, INK, ha="center", va="bottom", weight="bold")
        page.picture(x, y, cell, tall, column.start)
        y += tall + GAP / 2
        for number, side in enumerate(column.sides):
            if titles:
                y += LINE * 1.5
            page.picture(x, y, cell, tall, side.result)
            page.text(x + cell / 2, y + tall + 2, side.caption, 7, MUTED if side.reached else SECOND, ha="center")
            rows = [("result", y), ("change", y + tall + LINE)]
            page.picture(x, rows[1][1], cell, tall, side.change, signed=True)
            if side.mean is not None:
                rows.append(("mean", rows[1][1] + tall + GAP / 2))
                page.picture(x, rows[2][1], cell, tall, (side.mean + 1) / 2)
            if not k:
                for text, at in rows:
                    page.text(LEFT - 6, at + tall / 2, text, 8, MUTED, ha="right", va="center")
                if titles:
                    page.text(LEFT, y - 3, titles[number], 8, INK, va="bottom")
            y = rows[-1][1] + tall + GAP / 2
    page.text(LEFT - 6, top + heading + tall / 2, "start", 8, MUTED, ha="right", va="center")


def _stretch(sides: Sequence[_Side]) -> None:
    """Means of noise are pale: the strongest pixels of all of them become black or white."""
    means = [np.abs(side.mean).ravel() for side in sides if side.mean is not None]
    strong = float(np.quantile(np.concatenate(means), STRONG)) if means else 0.0
    for side in sides:
        if side.mean is not None:
            side.mean = np.clip(side.mean / (strong or 1.0), -1, 1)


def _height(block: list[_Column], cell: float, versions: int, titled: bool) -> float:
    tall = cell * _aspect(block)
    with_mean = block[0].sides[0].mean is not None
    each = 2 * tall + LINE + GAP / 2 + titled * LINE * 1.5 + with_mean * (tall + GAP / 2)
    return _lines(block) * LINE + tall + GAP / 2 + versions * each + GAP * 1.5


def _lines(block: list[_Column]) -> int:
    return max(1 + column.heading.count("\n") for column in block)


def _aspect(block: list[_Column]) -> float:
    """Height over width of the pictures, of the tallest one."""
    return max(column.start.shape[0] / column.start.shape[1] for column in block)


def _blocks(columns: Sequence[tuple[bool, list[_Column]]], most: int) -> list[list[_Column]]:
    """Rows of at most `most` columns; probes and perturbed pictures do not share one."""
    blocks: list[list[_Column]] = []
    last: bool | None = None
    for probe, group in columns:
        if probe is not last or len(blocks[-1]) + len(group) > most:
            blocks.append([])
        blocks[-1] += group
        last = probe
    return blocks


def _columns(same: Sequence[dict]) -> list[_Column]:
    """The columns of one request, answered by several versions: one, or one for each direction of an error."""
    found = []
    for direction in range(1 + len(same[0]["other"])):
        column = _Column("", picture_of(same[0]["start"]))
        for record in same:
            side = record["other"][direction - 1] if direction else record
            goal = side["target"] or side["after"][0]["class"]
            caption = f"{probability(record['before'], goal)} → {probability(side['after'], goal)}"
            change = picture_of(side["delta"]).astype(np.float64).mean(axis=-1) / 127.5 - 1
            mean = picture_of(record["mean"]) / 127.5 - 1 if "mean" in record else None
            column.sides.append(_Side(picture_of(side["image"]), change, caption, bool(side["success"]), mean))
            column.heading = column.heading or _heading(record, goal, direction)
        found.append(column)
    return found


def _heading(record: dict, goal: str, direction: int) -> str:
    """The class of a probe, the direction of an error, or from where to where."""
    if record["probe"]:
        return _short(goal)
    if record["other"]:
        return f"{'mistaken for' if direction else 'truth'}\n{_short(goal)}"
    before = _short(record["before"][0]["class"])
    arrow = " → " if len(before) + len(goal) <= 8 else " →\n"
    return f"{before}{arrow}{_short(goal)}"


def _short(name: str, length: int = 20) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def probability(entries: Sequence[dict], name: str) -> str:
    """The probability of a class among those listed, or a bound on it where it is not among them."""
    for entry in entries:
        if entry["class"] == name:
            return f"{entry['probability']:.2f}"
    least = min((entry["probability"] for entry in entries), default=0.0)
    return f"<{max(least, 0.01):.2f}"


def picture_of(text: str) -> np.ndarray:
    """The pixels uint8 (H, W, 3) of a picture in a record."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


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
