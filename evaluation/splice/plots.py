"""Figures of SpLiCE: an image beside its words, and how fidelity falls as words are taken away."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from conceptry.evaluation.drawing.images import image_of
from conceptry.evaluation.drawing.style import ACCENT, GRID, INK, MUTED, SECOND, check_style, new_figure, quiet
from conceptry.evaluation.splice.summary import facts
from conceptry.evaluation.tables import summary_title
from conceptry.models.errors import plural
from conceptry.models.splice.explanation import UNSURE

VIEWS = ("words",)
SUFFIXES = (".png", ".svg", ".pdf")
MAX_BARS = 8


def draw(records: Sequence[dict], view: str | None = None, **style: Any) -> Figure:
    """Draw explanations, one row for each: the image, its words as bars in descending order, how faithful they are.

    Args:
        records: answers of a version, each with `concepts`, `l0`, `cosine` and what was explained: an `image` (base64
            text or bytes of its file, or a PIL image), a `text`, or neither for an embedding.
        view: "words", the only one.
        **style: none is known.

    Raises:
        InputError: for another view, for any style, and for an `image` that is none.
    """
    check_style("splice", view, VIEWS, style)
    rows = [min(len(record["concepts"]), MAX_BARS) for record in records]
    heights = [max(2.4, 0.34 * count + 1.0) for count in rows]
    figure = new_figure(7.6, sum(heights))
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr]  # constrained, as made
    grid = figure.subplots(len(records), 2, squeeze=False, height_ratios=heights, width_ratios=[1, 1.9])
    widest = max((c["weight"] for record in records for c in record["concepts"][:1]), default=1.0)
    for (left, right), record in zip(grid, records, strict=True):
        _draw_input(left, record)
        _bars(right, record["concepts"][:MAX_BARS], widest)
        hidden = len(record["concepts"]) - MAX_BARS
        more = f"  (+{hidden} more)" if hidden > 0 else ""
        said = f"{plural(record['l0'], 'word')}, cosine {record['cosine']:.2f}{said_of_sure(record)}{more}"
        right.set_title(said, loc="left", fontsize=10, color=SECOND if is_unsure(record) else MUTED)
        if is_unsure(record):
            for bar in right.patches:
                bar.set_color(GRID)
    return figure


def is_unsure(record: Mapping[str, Any]) -> bool:
    """Whether fewer than one in five answers like this one name what is in the picture."""
    sure = record.get("sure")  # null, which tables give as NaN, for texts
    return sure is not None and sure < UNSURE


def said_of_sure(record: Mapping[str, Any]) -> str:
    """What is added to the facts of an answer whose encoder has been judged: how often such answers are right."""
    sure = record.get("sure")
    if sure is None or math.isnan(sure):
        return ""
    return f", {'UNSURE' if is_unsure(record) else 'sure'} {sure:.2f}"


def save_records(records: Sequence[dict], output: Path, view: str | None, style: Mapping[str, Any]) -> list[Path]:
    """Draw all records into one file; return it."""
    draw(records, view, **style).savefig(output)
    return [output]


def _draw_input(axes: Axes, record: dict) -> None:
    axes.set_axis_off()
    if "image" in record:
        image = image_of(record["image"])
        # Small images keep their pixels; photographs are smoothed.
        axes.imshow(image, interpolation="nearest" if max(image.size) <= 128 else "antialiased")
        return
    text = fill(record["text"], 24, max_lines=6) if "text" in record else "an embedding"
    colour = INK if "text" in record else MUTED
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=11, color=colour, parse_math=False)


def _bars(axes: Axes, concepts: Sequence[dict], widest: float, notes: Sequence[str] = ()) -> None:
    quiet(axes, grid="")
    words = [entry["concept"] for entry in concepts]
    weights = [entry["weight"] for entry in concepts]
    axes.barh(range(len(words)), weights, color=ACCENT, height=0.62)
    axes.set_yticks(range(len(words)), words, fontsize=12, color=INK, parse_math=False)
    axes.set_ylim(max(len(words), 3) - 0.5, -0.5)
    axes.set_xlim(0, widest * 1.15)
    axes.set_xticks([])
    for position, weight in enumerate(weights):
        text = f"{weight:.3f}   {notes[position]}" if notes else f"{weight:.3f}"
        axes.text(weight + widest * 0.015, position, text, va="center", fontsize=9, color=MUTED)
    if not words:
        axes.text(0, 0, "no word: the penalty outweighs every one of them", va="center", fontsize=10, color=MUTED)


def draw_summary(record: dict) -> Figure:
    """The words of a data set or class as bars of their mean weight, with the share of pictures that name each."""
    entries = record["concepts"]
    figure = new_figure(6.8, 0.27 * max(len(entries), 3) + 0.9)
    axes = figure.subplots()
    widest = max((entry["weight"] for entry in entries), default=1.0)
    shares = [f"in {entry['share']:.0%}" for entry in entries]
    if shares:  # the first says what the others mean
        shares[0] += " of the pictures"
    _bars(axes, entries, widest, shares)
    axes.set_xlim(0, widest * 1.45)
    axes.set_title(summary_title(record), loc="left", fontsize=12, pad=24, parse_math=False)
    axes.annotate(
        f"mean weight of each word; {facts(record)}",
        (0, 1),
        xycoords="axes fraction",
        textcoords="offset points",
        xytext=(0, 8),
        fontsize=9,
        color=MUTED,
    )
    return figure


def draw_frontier(frontier: pd.DataFrame, l0: float, cosine: float) -> Figure:
    """Mean cosine against mean l0 over the penalties, with the registered setting marked."""
    figure = new_figure(6.4, 4.2)
    axes = quiet(figure.subplots(), grid="both")
    shown = frontier.loc[frontier["l0"] > 0]
    axes.plot(shown["l0"], shown["cosine"], color=ACCENT, marker="o", markersize=5, linewidth=1.8)
    for penalty, x, y in _labelled(shown):
        axes.annotate(
            f"{penalty:g}",
            (x, y),
            textcoords="offset points",
            xytext=(5, -11),
            fontsize=8,
            color=MUTED,
        )
    axes.scatter([l0], [cosine], s=130, facecolors="none", edgecolors=SECOND, linewidths=2.2, zorder=3)
    axes.annotate(
        "as registered",
        (l0, cosine),
        textcoords="offset points",
        xytext=(-8, 10),
        ha="right",
        fontsize=9,
        color=SECOND,
    )
    axes.set_xscale("log")
    axes.margins(x=0.08)
    low, high = float(np.min(shown["l0"])), float(np.max(shown["l0"]))
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low * 0.8 <= t <= high * 1.25]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("words per picture (mean l0, log scale)")
    axes.set_ylabel("cosine of z and z_hat (mean)")
    axes.set_title("Fewer words or a closer recomposition: one point per l1_penalty", loc="left", fontsize=11)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(GRID)
    return figure


def _labelled(shown: pd.DataFrame, apart: float = 0.07) -> list[tuple[float, float, float]]:
    """(penalty, l0, cosine) of the points that get a label: each `apart` (a share of the axes) from the one before."""
    x, y = np.log(shown["l0"].to_numpy(float)), shown["cosine"].to_numpy(float)
    width, height = max(np.ptp(x), 1e-9), max(np.ptp(y), 1e-9)
    kept: list[int] = []
    for i in range(len(shown)):
        if not kept or np.hypot((x[i] - x[kept[-1]]) / width, (y[i] - y[kept[-1]]) / height) >= apart:
            kept.append(i)
    return [tuple(shown[["l1_penalty", "l0", "cosine"]].iloc[i]) for i in kept]


def draw_probe(record: dict) -> Figure:
    """Draw the accuracy of sparse probes over their number of words, beside that of probes of whole embeddings."""
    figure = new_figure(6.6, 3.8)
    axes = figure.subplots()
    quiet(axes)
    # Of several C with as many words the first; none that reads no word, which a logarithm has no place for.
    curve = pd.DataFrame(list({each["concepts"]: each for each in record["curve"][::-1] if each["concepts"]}.values()))
    axes.fill_between(curve["concepts"], curve["low"], curve["high"], color=ACCENT, alpha=0.15, linewidth=0)
    axes.plot(curve["concepts"], curve["accuracy"], color=ACCENT, marker="o", markersize=4, label="words")
    axes.plot(record["concepts"], record["accuracy"]["probe_accuracy"]["mean"], color=ACCENT, marker="o", markersize=9)
    for name, title, style in (("embedding", "whole embeddings", "--"), ("recomposed", "recomposed", ":")):
        axes.axhline(record["accuracy"][f"probe_accuracy_{name}"]["mean"], color=SECOND, linestyle=style, label=title)
    axes.axhline(record["constant"], color=MUTED, linewidth=1, label="most frequent class")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(_ticks(curve["concepts"].tolist()))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("words that the probe reads")
    axes.set_ylabel(f"accuracy on {plural(record['count'], 'held-out picture')}")
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure


def _ticks(counts: Sequence[int]) -> list[float]:
    """Counts that are far enough apart to be read on a logarithmic axis."""
    ticks: list[float] = []
    for count in sorted(set(counts)):
        if not ticks or count >= 1.3 * ticks[-1]:
            ticks.append(float(count))
    return ticks
