"""Pictures of ablations: accuracy against the number of units ablated, and an edit before and after."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from conceptry.evaluation.milan.analysing import LayerAnalysis
from conceptry.evaluation.milan.editing import Edit, Scored
from conceptry.evaluation.plots import ACCENT, INK, MUTED, SECOND, new_figure, quiet


def draw_analysis(layers: Sequence[LayerAnalysis], title: str, order: str) -> Figure:
    """A panel for each layer (across) and each part of the data (down); the band is one standard deviation."""
    parts = [part.part for part in layers[0].parts]
    figure = new_figure(max(2.7 * len(layers), 5.4) + 0.4, 2.5 * len(parts) + 0.9)
    grid = figure.subplots(len(parts), len(layers), sharey=True, squeeze=False)
    for column, each in enumerate(layers):
        for row, part in enumerate(each.parts):
            axes = grid[row, column]
            _draw_curves(axes, each.counts, part, order)
            if not row:
                name = f"{each.layer}, {len(each.order)} of {each.n_units} units"
                axes.set_title(name, loc="left", fontsize=10, parse_math=False)
            if not column:
                axes.set_ylabel(f"accuracy, {part.part}" if len(parts) > 1 else "accuracy", fontsize=9)
            if row == len(each.parts) - 1:
                axes.set_xlabel("units ablated", fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK, parse_math=False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False, fontsize=9, labelcolor=MUTED)
    return figure


def some_words(words: Sequence[str], most: int) -> str:
    """The first words, and how many there are besides."""
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def draw_edit(edit: Edit) -> Figure:
    """Left: each part before, after, and after random ablation. Right: the curves of the part that was worst."""
    figure = new_figure(9.4, 3.9)
    bars, curves = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_parts(bars, edit)
    worst = min(edit.parts, key=lambda part: part.described[0])
    _draw_curves(curves, edit.counts, worst, "named by their descriptions")
    number = edit.counts[edit.chosen]
    curves.axvline(number, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    side = "right" if number > edit.counts[-1] / 2 else "left"
    curves.annotate(
        f"{number} chosen", (number, curves.get_ylim()[0]), (-5 if side == "right" else 5, 4),
        textcoords="offset points", ha=side, fontsize=8.5, color=MUTED,
    )  # fmt: skip
    curves.set_xlabel("units silenced", fontsize=9)
    curves.set_title(f"accuracy, {worst.part}", loc="left", fontsize=10)
    curves.legend(frameon=False, fontsize=8.5, labelcolor=MUTED, loc="upper left", bbox_to_anchor=(0, -0.15), ncols=2)
    text = f"{edit.network}: {number} of {edit.n_units} units silenced, described by {some_words(edit.words, 5)}"
    figure.suptitle(text, x=0.01, ha="left", fontsize=11, color=INK, parse_math=False)
    return figure


def _draw_parts(axes: Axes, edit: Edit) -> None:
    quiet(axes)
    k, places = edit.chosen, np.arange(len(edit.parts), dtype=float)
    bars = {
        "before": ([part.described[0] for part in edit.parts], None, "#b8c1cb"),
        "after": ([part.described[k] for part in edit.parts], None, ACCENT),
        "after as many random units": (
            [part.random[:, k].mean() for part in edit.parts],
            [part.random[:, k].std(ddof=1) for part in edit.parts],
            SECOND,
        ),
    }
    for shift, (name, (heights, spread, colour)) in zip((-0.27, 0, 0.27), bars.items(), strict=True):
        axes.bar(places + shift, heights, 0.25, color=colour, label=name, yerr=spread, ecolor=INK, capsize=2)
        for x, height, extra in zip(places + shift, heights, spread or [0.0] * len(heights), strict=True):
            axes.text(x, height + extra + 0.012, f"{height:.2f}", ha="center", va="bottom", fontsize=8.5, color=INK)
    axes.set_xticks(places, [f"{part.part}\n{part.n_pictures:,} pictures" for part in edit.parts])
    axes.set_ylim(0, 1.12)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_title("accuracy", loc="left", fontsize=10)
    axes.legend(
        frameon=False, fontsize=8.5, labelcolor=MUTED, loc="upper left", bbox_to_anchor=(0, -0.15), ncols=3,
        columnspacing=1.2, handlelength=1.2,
    )  # fmt: skip


def _draw_curves(axes: Axes, counts: Sequence[int], part: Scored, name: str) -> None:
    quiet(axes)
    mean, spread = part.random.mean(axis=0), part.random.std(axis=0, ddof=1)
    axes.fill_between(counts, mean - spread, mean + spread, color=SECOND, alpha=0.18, linewidth=0)
    axes.plot(counts, mean, color=SECOND, linewidth=1.6, label=f"random, {len(part.random)} orders")
    axes.plot(counts, part.described, color=ACCENT, linewidth=2, marker="o", markersize=3.5, label=name)
    axes.margins(x=0.02)
