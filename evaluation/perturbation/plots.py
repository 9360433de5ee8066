"""Figures of perturbations: the grid of the papers, and the path of the search for the sparsest counterfactual.

The grid shows start, result and change, one column an image, several versions below one another. The path shows what
the search tried, and which of it flips the prediction. Results are also written as images. Lengths are points, from the
top left corner of the page.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from conceptry.evaluation.drawing.style import ACCENT, GRID, INK, MUTED, SECOND, check_style, new_figure, quiet
from conceptry.evaluation.perturbation.columns import SMALL, Column, aim, columns_of, stretch
from conceptry.models.errors import InputError

SIGNED = LinearSegmentedColormap.from_list("signed", [ACCENT, "white", SECOND])
LEFT, GAP, LINE, MARGIN = 50.0, 7.0, 12.0, 10.0
_FOOTER = "Below a result: probability of the class before → after, orange where it is not reached."
_CHANGE = "Change: orange brighter, blue darker, each scaled to its own strongest."


FIGURES = ("grid", "path")
VIEWS = (*FIGURES, "results")
SUFFIXES = (".png", ".svg", ".pdf")


def draw(records: Sequence[dict], view: str | None = None, **style: Any) -> Figure:
    """Draw perturbations, as a grid or as paths of the sparsest search.

    Args:
        records: records of `client.record_of`, whose images (`start`, `image`, `delta`) are base64 text or bytes of
            files, or PIL images. Those of several versions (`version`) to one request are drawn below one another.
        view: "grid" (for None) or "path".
        **style: none is known.

    Raises:
        InputError: for another view, for any style, and for paths of records that are not of a search.
    """
    check_style("perturbation", view, FIGURES, style)
    return draw_paths(records) if view == "path" else draw_grid(records)


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
        page.image(x, y, cell, tall, column.start)
        y += tall + GAP / 2
        for number, side in enumerate(column.sides):
            if titles:
                y += LINE * 1.5
            rows = []
            if number in apart:
                rows.append(("start", y))
                page.image(x, y, cell, tall, column.start if side.start is None else side.start)
                y += tall + GAP / 2
            page.image(x, y, cell, tall, side.result)
            page.text(x + cell / 2, y + tall + 2, side.caption, 7, MUTED if side.reached else SECOND, ha="center")
            rows += [("result", y), ("change", y + tall + LINE)]
            page.image(x, rows[-1][1], cell, tall, side.change, signed=True)
            if side.mean is not None:
                rows.append(("mean", rows[-1][1] + tall + GAP / 2))
                page.image(x, rows[-1][1], cell, tall, (side.mean + 1) / 2)
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

    def image(self, x: float, y: float, width: float, height: float, pixels: np.ndarray, signed: bool = False) -> None:
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


MOST = 12
_KEPT = (0.5, 0.25, 0.1, 0.05, 0.025, 0.01, 0.005)  # 1 - q: ticks of the bar
_COLOURS = LinearSegmentedColormap.from_list("q", ["#0b2f6b", ACCENT, "#4cc3a5", "#c9d94a", SECOND])


def draw_paths(records: Sequence[dict]) -> Figure:
    """Changed pixels against epsilon for every attempt, coloured by q, filled where the prediction flips.

    Lines join attempts of one q whose radius narrows; squares are attempts that were held to some of the pixels. The
    answer is ringed. Raises InputError where a record is not of a search.
    """
    if any(not record["path"] for record in records):
        raise InputError("there is no path: ask for the sparsest counterfactual by --params '{\"sparsest\": true}'")
    if len(records) > MOST:
        raise InputError(f"the paths of {len(records)} searches do not fit; at most {MOST} are drawn")
    columns = min(len(records), 3)
    rows = -(-len(records) // columns)
    figure = new_figure(max(3.4 * columns, 5.0) + 0.8, 2.9 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False)
    kept = [1 - point["q"] for record in records for point in record["path"]]
    norm = LogNorm(min(kept), max(max(kept), 1.01 * min(kept)))
    for number, record in enumerate(records):
        _draw(quiet(grid.flat[number], "both"), record, norm, first=number % columns == 0)
    for axes in list(grid.flat)[len(records) :]:
        axes.set_axis_off()
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS.reversed()), ax=grid, fraction=0.04, pad=0.02, aspect=30)
    bar.set_ticks([k for k in _KEPT if norm.vmin <= k <= norm.vmax])  # type: ignore[operator]  # both are set
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{1 - value:g}")
    bar.ax.invert_yaxis()
    bar.ax.tick_params(length=0, colors=MUTED, labelsize=8)
    bar.outline.set_visible(False)  # type: ignore[operator]  # a spine
    bar.set_label("q", color=MUTED, fontsize=9, rotation=0, labelpad=8)
    marks: list[tuple[str, dict[str, Any]]] = [
        ("flips", {"marker": "o", "color": MUTED}),
        ("does not", {"marker": "o", "color": MUTED, "markerfacecolor": "white"}),
        ("held to fewer pixels", {"marker": "s", "color": MUTED}),
        ("answer", {"marker": "o", "color": INK, "markerfacecolor": "none", "markersize": 10}),
    ]
    handles = [Line2D([], [], linestyle="none", label=name, **{"markersize": 5, **how}) for name, how in marks]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False, labelcolor=MUTED)
    return figure


def _draw(axes: Axes, record: dict, norm: LogNorm, first: bool) -> None:
    free = [point for point in record["path"] if point["pixels"] is None]
    for q in sorted({point["q"] for point in free}):
        points = sorted((p for p in free if p["q"] == q), key=lambda p: p["epsilon"])
        if len(points) > 2:
            xy = [[p[name] for p in points] for name in ("epsilon", "changed")]
            axes.plot(*xy, color=_colour(q, norm), linewidth=0.9, alpha=0.5, zorder=2)
    for point in record["path"]:
        colour = _colour(point["q"], norm)
        face = colour if point["success"] else "white"
        axes.plot(
            point["epsilon"], point["changed"], "o" if point["pixels"] is None else "s", color=colour,
            markerfacecolor=face, markersize=4.5, markeredgewidth=1.0, linestyle="none", zorder=3 + point["success"],
        )  # fmt: skip
    axes.plot(record["epsilon"], record["changed"], "o", color=INK, markerfacecolor="none", markersize=11, zorder=5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    radii = [point["epsilon"] for point in record["path"]]
    # Radii of photographs have many digits and spread far: only powers of ten have room then.
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if max(radii) < 100 * min(radii) else (1,)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.margins(0.09)
    axes.set_xlabel("epsilon")
    if first:
        axes.set_ylabel("pixels changed")
    found = f"{record['changed']:.1%} of the pixels" if record["success"] else "no flip was found"
    axes.set_title(
        f"{record['before'][0]['class']} → {aim(record)}: {found}", loc="left", fontsize=10, parse_math=False
    )


def _colour(q: float, norm: LogNorm) -> tuple[float, float, float, float]:
    return _COLOURS.reversed()(float(norm(1 - q)))


def save_records(records: Sequence[dict], output: Path, view: str | None, style: Mapping[str, Any]) -> list[Path]:
    """One picture of all records, as a grid or as paths of the sparsest search; or the results as they are.

    The view `results` writes one .png file for each record, numbered where there are several, at the network's own
    size. Raises InputError where records have no path, and for another suffix of results.
    """
    if view == "results":
        if output.suffix != ".png":
            raise InputError(f"results are written as .png, got {output}")
        numbered = [output.with_stem(f"{output.stem}-{k}") for k in range(len(records))]
        files = [output] if len(records) == 1 else numbered
        for record, file in zip(records, files, strict=True):
            file.write_bytes(base64.b64decode(record["image"]))
        return files
    draw(records, view, **style).savefig(output, dpi=200)
    return [output]
