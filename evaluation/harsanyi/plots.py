"""Figures of Harsanyi interactions, of one explanation and of many samples.

An explanation is drawn as its And-Or graph, as its patterns on the sample, or as an overview, and written as a page to
explore the graph in. Many samples are drawn as strengths, orders, learned baselines, and what denoising costs; these
functions take arrays. Entry 0 of a table of interactions is the empty pattern, which is no interaction and is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter

from conceptry.evaluation.drawing.images import image_of
from conceptry.evaluation.drawing.style import ACCENT, INK, MUTED, SECOND, check_style, new_figure, quiet
from conceptry.evaluation.harsanyi.graph.figure import draw_graph, save_graph
from conceptry.evaluation.harsanyi.graph.page import write_page
from conceptry.evaluation.harsanyi.marks import (
    beside,
    count_axis,
    count_text,
    dots,
    legend,
    line_axes,
    line_styles,
    nothing,
    ranks_shown,
    shortened,
    text_width,
    trust,
)
from conceptry.evaluation.harsanyi.patterns import draw_explanation, draw_patterns
from conceptry.models.errors import InputError, plural
from conceptry.models.harsanyi.graph import AndOrGraph
from conceptry.models.harsanyi.interactions.indices import SALIENT_SHARE

VIEWS = ("graph", "patterns", "explanation")
SUFFIXES = (".png", ".svg", ".pdf", ".html")
# of the view graph; see `draw_graph`
STYLES: dict[str, type] = {"title": str, "highlight": str, "colours": str, "max_patterns": int, "rows": int}
AND_COLOUR, OR_COLOUR = "#3d4b5c", "#c3ccd6"  # kinds are told in grey: blue and orange mean signs
HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
SHARES = (0.7, 0.8, 0.9, 0.95)
FLOOR = 1e-6  # of the strongest: below it is rounding


def draw(records: Sequence[dict], view: str | None = None, **style: Any) -> Figure:
    """Draw one explanation: its And-Or graph, its patterns on the sample, or an overview with Shapley values.

    Args:
        records: the one record to draw, see `patterns`; an explained image is in it as `picture`: base64 text or bytes
            of its file, or a PIL image.
        view: "graph" (for None), "patterns" or "explanation".
        **style: options of `draw_graph`, for the view graph alone: title, highlight, colours, max_patterns, rows.

    Raises:
        InputError: for another view or style, and for more than one record.
    """
    view = check_style("harsanyi", view, VIEWS, {})
    _check_style(style, view, "")
    if len(records) != 1:
        raise InputError(f"harsanyi draws one explanation in a figure, got {len(records)}")
    record = records[0]
    if view == "graph":
        title = style.pop("title", None) or _title(record)
        return draw_graph(_graph(record), title=title, **style)
    if "picture" in record:
        segments = np.asarray(record["sample"]["segments"])
        image = image_of(record["picture"]).resize(segments.shape[::-1])
        record = record | {"sample": record["sample"] | {"picture": image, "segments": segments}}
    return draw_patterns(record) if view == "patterns" else draw_explanation(record)


def draw_strengths(interactions_by_row: Sequence[np.ndarray], labels: Sequence[str] | None = None) -> Figure:
    """
    |I| of each sample in descending order, as shares of its strongest, with the median and the line of salience.

    Args:
        interactions_by_row: one array per sample, entry 0 the empty pattern; lengths may differ
        labels: one per sample: samples of one label share a colour and a median (versions, classes)
    """
    strengths = _descending(interactions_by_row)
    largest = strengths[:, :1]
    shares = np.divide(strengths, largest, out=np.zeros_like(strengths), where=largest > 0)
    names = [""] * len(shares) if labels is None else [str(label) for label in labels]
    if len(names) != len(shares):
        raise InputError(f"labels: expected one per sample, {len(shares)}, got {len(names)}.")
    groups = list(dict.fromkeys(names))
    figure, axes = line_axes("Strengths |I| in descending order")
    ranks = ranks_shown(shares.shape[1])
    for group, (colour, dash) in zip(groups, line_styles(len(groups)), strict=True):
        rows = shares[[name == group for name in names]]
        axes.plot(ranks, rows[:, ranks - 1].T, color=colour, linewidth=0.7, alpha=0.3)
        note = f" ({count_text(np.median((rows > SALIENT_SHARE).sum(1)))} salient)"
        # Matplotlib hides labels that begin with an underscore, so none does.
        name = " " + (shortened(group, 150, 9) if group else "median") + note
        axes.plot(
            ranks, np.median(rows, 0)[ranks - 1], color=colour, linestyle=dash, linewidth=2, label=name, **dots(ranks)
        )
    axes.axhline(SALIENT_SHARE, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    beside(axes, SALIENT_SHARE, f"salient:\nabove {SALIENT_SHARE:.0%}")
    lowest = np.min(shares, where=shares > 0, initial=SALIENT_SHARE / 5)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(max(lowest / 1.5, 1e-4), 1.3)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_ylabel("share of the sample's strongest (log scale)")
    count_axis(axes, shares.shape[1], "rank of the pattern")
    if not largest.any():
        nothing(axes, "every interaction is zero")
    legend(axes)
    return figure


def draw_cumulative(interactions_by_row: Sequence[np.ndarray]) -> Figure:
    """Share of the total strength that the strongest patterns hold, and how many of them hold 70, 80, 90 and 95 %."""
    strengths = _descending(interactions_by_row)
    total = strengths.sum(1, keepdims=True)
    shares = np.divide(strengths.cumsum(1), total, out=np.zeros_like(strengths), where=total > 0)
    median = np.median(shares, 0)
    figure, axes = line_axes("How few patterns hold how much of the strength")
    # At least `share` up to rounding: a cumulative sum may end at 1 - 1e-16.
    needed = {share: int(np.argmax(median >= share - 1e-9)) + 1 for share in SHARES if median[-1] >= share - 1e-9}
    steps = [k for n in needed.values() for k in (max(n - 1, 1), n)]
    ranks = np.union1d(ranks_shown(shares.shape[1]), np.array(steps, int))
    from_zero = np.r_[ranks[0], ranks]  # the first pattern's step starts at nothing
    axes.plot(from_zero, np.c_[np.zeros(len(shares)), shares[:, ranks - 1]].T, color=ACCENT, linewidth=0.7, alpha=0.3,
              drawstyle="steps-post")  # fmt: skip
    axes.plot(from_zero, np.r_[0, median[ranks - 1]], color=ACCENT, linewidth=2, drawstyle="steps-post")
    right = count_axis(axes, shares.shape[1], "number of patterns, strongest first")
    for share, count in needed.items():
        axes.plot([count, right], [share, share], color=SECOND, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.plot([count], [share], "o", color=SECOND, markersize=6, zorder=3)
        beside(axes, share, f"{share:.0%}: {plural(count, 'pattern')}")
    if not needed:
        nothing(axes, "every interaction is zero")
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("share of the sum of |I| (median of the samples)" if len(shares) > 1 else "share of the sum of |I|")
    return figure


def draw_error_curve(
    table: pd.DataFrame,
    registered: float | None = None,
    measured: tuple[float, float] | None = None,
    *,
    max_error: float = 0.1,
    min_ratio: float = 0.95,
) -> Figure:
    """
    Draw what keeping fewer patterns costs: normalised error and explain ratio against the number kept.

    Args:
        table: columns kept, error (square error over the sum of v^2) and ratio (explain ratio); several rows of one
            `kept` (several samples) are drawn as their median
        registered: number of patterns that the registered version keeps; left out, the fewest within both limits
        measured: error and ratio of the registered version, which the curve does not hold where each sample keeps a
            number of its own; left out, they are read off the curve
        max_error, min_ratio: limits of the registered version, drawn as lines
    """
    if not (table["kept"].to_numpy() >= 1).any():
        raise InputError("error curve: expected at least one row with patterns kept, got none.")
    medians = table.loc[table["kept"] >= 1].groupby("kept", as_index=False)[["error", "ratio"]].median()
    kept, errors, ratios = medians.to_numpy(float).T  # ascending in kept
    within = kept[(errors < max_error) & (ratios > min_ratio)]
    chosen = registered if registered is not None else within.min() if len(within) else None
    at = None if chosen is None else float(np.clip(chosen, kept[0], kept[-1]))  # its place on the axis
    figure = new_figure(6.4, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_title("What is lost when only the strongest patterns are kept", loc="left", fontsize=11)
    shown = np.maximum(errors, FLOOR)
    error, ratio = measured or (None, None)
    for axes, values, level, limit, name in (
        (upper, shown, error, max_error, "normalised error (log scale)"),
        (lower, ratios, ratio, min_ratio, "explain ratio"),
    ):
        quiet(axes, grid="both")
        axes.plot(kept, values, color=ACCENT, linewidth=1.8, **dots(kept))
        axes.axhline(limit, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        beside(axes, limit, f"limit {limit:g}")
        axes.set_ylabel(name)
        if at is not None:
            axes.axvline(at, color=SECOND, linewidth=0.8, linestyle=(0, (1, 2)))
            level = np.interp(at, kept, values) if level is None else max(level, FLOOR)
            axes.scatter([at], [level], s=110, facecolors="none", edgecolors=SECOND, linewidths=2.2, zorder=3)
    if chosen is not None and at is not None:
        origin = "as registered" if registered is not None else "fewest within both limits"
        upper.annotate(
            f"{origin}: {count_text(chosen)} kept", (at, 1), xycoords=("data", "axes fraction"), xytext=(5, -4),
            textcoords="offset points", va="top", fontsize=9, color=SECOND, bbox=HALO,
            ha="right" if np.log(at) > np.log(kept.min() * kept.max()) / 2 else "left",
        )  # fmt: skip
    upper.set_yscale("log")
    levels = [max_error, *shown, *([] if error is None else [max(error, FLOOR)])]
    upper.set_ylim(min(levels) / 2, max(levels) * 12)
    upper.yaxis.set_minor_locator(NullLocator())
    upper.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    lower.set_ylim(min(0.9, ratios.min(), 1.0 if ratio is None else ratio) - 0.03, 1.02)
    count_axis(lower, kept.max(), "patterns kept", first=kept.min())
    upper.tick_params(labelbottom=False)
    return figure


def draw_optimisation(l1: Sequence[np.ndarray]) -> Figure:
    """
    Sum of |I| against the step while the baseline is learned, as shares of its start, with each sample's best iterate.

    Args:
        l1: one array per sample, entry k the L1 after k steps; lengths may differ
    """
    if not len(l1) or not all(len(row) for row in l1):
        raise InputError("optimisation: expected at least one sample with at least one L1, got none.")
    relative = np.full((len(l1), max(map(len, l1))), np.nan)
    for row, values in zip(relative, l1, strict=True):
        row[: len(values)] = np.asarray(values, float) / values[0] if values[0] else 1.0  # nothing to shrink: stays
    best = np.nanargmin(relative, 1)
    lowest = relative[np.arange(len(l1)), best]
    figure, axes = line_axes("Learning the baseline: sum of |I| against the step")
    steps = np.arange(relative.shape[1])
    if len(l1) > 1:
        axes.plot(steps, relative.T, color=ACCENT, linewidth=0.7, alpha=0.3)
    median = "median of the samples" if len(l1) > 1 else "sum of |I|"
    axes.plot(steps, np.nanmedian(relative, 0), color=ACCENT, linewidth=2, label=median, **dots(steps))
    axes.plot(best, lowest, "o", color=SECOND, markersize=6 if len(l1) == 1 else 4, linestyle="none",
              label="best iterate, kept", zorder=3)  # fmt: skip
    first = float(np.median([values[0] for values in l1]))
    last = float(np.median([np.min(values) for values in l1]))
    middle = float(np.median(lowest))
    axes.axhline(middle, color=SECOND, linewidth=0.8, linestyle=(0, (1, 2)))
    beside(axes, middle, f"{'median ' * (len(l1) > 1)}{first:.4g} → {last:.4g}\n{middle:.0%} of the start")
    axes.set_ylim(0, max(1.0, np.nanquantile(relative, 0.99)) * 1.08)
    axes.set_xlim(-0.02 * max(steps[-1], 1), max(steps[-1], 1) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("step")
    axes.set_ylabel("share of the L1 at the first step")
    legend(axes, "upper right")  # the curves fall
    return figure


def draw_orders(
    counts: np.ndarray,
    strengths: np.ndarray,
    or_counts: np.ndarray | None = None,
    or_strengths: np.ndarray | None = None,
) -> Figure:
    """
    Salient interactions by order: their number and their total strength; AND and OR apart where OR is given.

    Args:
        counts, strengths, or_counts, or_strengths: (n + 1,), entry k of order k (entry 0, the empty pattern, is left
            out); sums of one sample or means over several
    """
    figure = new_figure(6.8, 4.6)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, ands, ors, name in zip(
        panels, (counts, strengths), (or_counts, or_strengths), ("number", "total strength |I|"), strict=True
    ):
        quiet(axes)
        orders = np.arange(1, len(ands))
        width = 0.66 if ors is None else 0.4
        axes.bar(orders - (0 if ors is None else width / 2), np.asarray(ands)[1:], width, color=AND_COLOUR, label="AND")
        if ors is not None:
            axes.bar(orders + width / 2, np.asarray(ors)[1:], width, color=OR_COLOUR, edgecolor=AND_COLOUR,
                     hatch="////", linewidth=0.6, label="OR")  # fmt: skip
        labels = [[count_text(value) if value else "" for value in bars.datavalues] for bars in axes.containers]  # type: ignore[attr-defined]
        room = 6 * 72 * width / len(orders)  # points a bar has for its number
        sizes = [size for size in (8, 7, 6) if all(text_width(x, size) <= room for row in labels for x in row)]
        if sizes:
            for bars, row in zip(axes.containers, labels, strict=True):
                axes.bar_label(bars, row, padding=2, fontsize=sizes[0], color=MUTED)  # type: ignore[arg-type]
        if any(map(any, labels)):
            axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
        else:
            nothing(axes, "none")
            axes.set_yticks([])
        axes.set_ylabel(name)
    if or_counts is not None:
        panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9, frameon=False, labelcolor=INK)
    panels[0].set_title("Salient interactions by order (number of players)", loc="left", fontsize=11)
    panels[1].set_xlabel("order")
    panels[1].set_xticks(np.arange(1, len(counts)))
    panels[1].set_xlim(0.4, len(counts) - 0.4)
    return figure


def _descending(interactions_by_row: Sequence[np.ndarray]) -> np.ndarray:
    """|I| (samples, patterns) in descending order without the empty pattern; shorter rows end in zeros."""
    rows = [np.sort(np.abs(np.asarray(row, float)[1:]))[::-1] for row in interactions_by_row]
    if not rows or not max(map(len, rows)):
        raise InputError("interactions: expected at least one sample with at least one player, got none.")
    table = np.zeros((len(rows), max(map(len, rows))))
    for target, row in zip(table, rows, strict=True):
        target[: len(row)] = row
    return table


def save_records(records: Sequence[dict], output: Path, view: str | None, style: Mapping[str, Any]) -> list[Path]:
    """Write each record to a file, numbered where there are several; returns the files.

    Suffix .html gives a page, any other a picture of the kind `view`. `style` holds options of `draw_graph`, of which a
    page takes title and highlight. Raises InputError for a style that does not go with the file.
    """
    view = view or VIEWS[0]
    _check_style(style, view, output.suffix)
    numbered = [output.with_stem(f"{output.stem}-{k}") for k in range(len(records))]
    files = [output] if len(records) == 1 else numbered
    for record, file in zip(records, files, strict=True):
        record = record | {"file": Path(record["file"]).name}
        if file.suffix == ".html":
            write_page(_graph(record), file, style.get("title") or _title(record), style.get("highlight"))
        else:
            save_graph(draw([record], view, **style), file)
    return files


def write_graph(
    graph: AndOrGraph, path: Path, title: str | None = None, highlight: str | None = None, **style: Any
) -> None:
    """Write an And-Or graph as a page (.html) or a picture; see `AndOrGraph.save`."""
    figsize = style.pop("figsize", None)
    _check_style(style, "graph", path.suffix)
    if path.suffix == ".html":
        write_page(graph, path, title, highlight)
    else:
        save_graph(draw_graph(graph, title=title, highlight=highlight, figsize=figsize, **style), path)


def _title(record: Mapping[str, Any]) -> str:
    """The target, and where the sample is from; an explanation made in Python has no file."""
    return f"{record['target']}: {record['file']}" if record.get("file") else f"Patterns behind {record['target']}"


def _graph(record: Mapping[str, Any]) -> AndOrGraph:
    """The graph of a record; those of versions before graphs had notes say in the record how far to believe them."""
    return replace(AndOrGraph.from_json(record["graph"]), note=trust(record))


def _check_style(style: Mapping[str, Any], view: str, suffix: str) -> None:
    allowed = ("title", "highlight") if suffix == ".html" else tuple(STYLES) if view == "graph" else ()
    for name, value in style.items():
        if name not in allowed:
            what = "an HTML page" if suffix == ".html" else f"the view {view}"
            raise InputError(f"{what} has no style {name!r}; expected {', '.join(allowed) or 'none'}")
        if not isinstance(value, STYLES[name]) or isinstance(value, bool):
            raise InputError(f"the style {name} must be of type {STYLES[name].__name__}, got {value!r}")
