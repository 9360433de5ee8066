"""Figures of what is done to units: accuracy under ablation, an edit before and after, and audits.

An audit shows the share of matching units per layer, and below it the clearest matches with their exemplars.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from conceptry.evaluation.drawing.strips import strip_pixels
from conceptry.evaluation.drawing.style import ACCENT, INK, MUTED, SECOND, new_figure, quiet
from conceptry.evaluation.units.ablation import Edit, LayerAnalysis, PartAccuracy
from conceptry.evaluation.units.audit import Audit, Match
from conceptry.evaluation.units.html.audit import layers_of, title_of


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
    """List the first words, and say how many there are besides."""
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
    axes.set_xticks(places, [f"{part.part}\n{part.n_images:,} pictures" for part in edit.parts])
    axes.set_ylim(0, 1.12)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_title("accuracy", loc="left", fontsize=10)
    axes.legend(
        frameon=False, fontsize=8.5, labelcolor=MUTED, loc="upper left", bbox_to_anchor=(0, -0.15), ncols=3,
        columnspacing=1.2, handlelength=1.2,
    )  # fmt: skip


def _draw_curves(axes: Axes, counts: Sequence[int], part: PartAccuracy, name: str) -> None:
    quiet(axes)
    mean, spread = part.random.mean(axis=0), part.random.std(axis=0, ddof=1)
    axes.fill_between(counts, mean - spread, mean + spread, color=SECOND, alpha=0.18, linewidth=0)
    axes.plot(counts, mean, color=SECOND, linewidth=1.6, label=f"random, {len(part.random)} orders")
    axes.plot(counts, part.described, color=ACCENT, linewidth=2, marker="o", markersize=3.5, label=name)
    axes.margins(x=0.02)


ROWS, EXEMPLARS = 8, 8  # of each of the two columns of matches; exemplars of each match
_WIDTH, _ROW = 4.8, 0.85  # of a column and of a match, inches
_TOP, _BOTTOM, _LEGEND = 0.4, 0.45, 0.24  # above and below the bars, and of a legend above them


def draw_audit(audits: Sequence[Audit], words: Sequence[str]) -> Figure:
    """Bars of the shares per layer, with counts; below, the clearest matches that have exemplars, of one network in
    two columns, of two networks in one column each.
    """
    layers = [*layers_of(audits), None]
    columns = [_clearest(audit, ROWS * (3 - len(audits))) for audit in audits]
    if len(columns) == 1:
        half = -(-len(columns[0]) // 2)
        columns = [columns[0][:half], columns[0][half:]]
    rows = max(len(column) for column in columns)
    # Every place is known, so nothing has to be laid out: dozens of small axes would take seconds.
    bars = 0.35 + 0.08 * len(layers) + 0.2 * len(layers) * len(audits)
    above = _TOP + (_LEGEND if len(audits) > 1 else 0)
    width, height = 2 * _WIDTH, above + bars + _BOTTOM + _ROW * rows
    figure = new_figure(width, height)
    figure.set_layout_engine("none")

    def place(left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes between these distances in inches from the left and from the top."""
        return figure.add_axes((left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height))

    margin = 0.25 + 0.085 * max(len(layer or "all") for layer in layers)
    _draw_shares(place(margin, above, width - 0.15, above + bars), audits, layers, words)
    for column, matches in enumerate(columns):
        title = f"{audits[column].title}:  " if len(audits) > 1 else ""
        for row, match in enumerate(matches):
            left, top = column * _WIDTH + 0.1, above + bars + _BOTTOM + row * _ROW
            _draw_match(place(left, top + 0.22, left + _WIDTH - 0.2, top + _ROW - 0.05), match, title)
    return figure


def _draw_match(axes: Axes, match: Match, title: str) -> None:
    if match.unit.strip is not None:
        axes.imshow(strip_pixels(match.unit.strip, EXEMPLARS), interpolation="antialiased")
    axes.set_anchor("W")
    axes.set_axis_off()
    text = f"{title}{match.unit.layer} {match.unit.unit}  {match.unit.description}"
    short = text if len(text) < 70 else f"{text[:69]}\N{HORIZONTAL ELLIPSIS}"
    axes.set_title(short, loc="left", fontsize=9, color=INK, pad=3, parse_math=False)


def _draw_shares(axes: Axes, audits: Sequence[Audit], layers: Sequence[str | None], words: Sequence[str]) -> None:
    quiet(axes, "x")
    height = 0.8 / len(audits)
    places = np.arange(len(layers), dtype=float)
    for k, audit in enumerate(audits):
        shares = [audit.share(layer) for layer in layers]
        at = places + (k - (len(audits) - 1) / 2) * height
        colour = (ACCENT, SECOND)[k]
        axes.barh(at, shares, height=0.86 * height, color=colour, label=audit.title)
        for y, layer, share in zip(at, layers, shares, strict=True):
            total = sum(audit.units.values()) if layer is None else audit.units.get(layer)
            if total is not None:
                text = f" {audit.count(layer):,} of {total:,}"
                axes.text(share, y, text, va="center", fontsize=8, color=MUTED)
    axes.set_yticks(places, ["all" if layer is None else layer for layer in layers])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlim(left=0, right=axes.get_xlim()[1] or 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    pad = 6 + (72 * _LEGEND if len(audits) > 1 else 0)
    axes.set_title(title_of(words, 8), loc="left", fontsize=11, pad=pad, parse_math=False)
    if len(audits) > 1:
        axes.legend(
            frameon=False, fontsize=9, labelcolor=MUTED, loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=2
        )


def _clearest(audit: Audit, most: int) -> list[Match]:
    """The surest matches that have exemplars, in the order of the network."""
    shown = [match for match in audit.matches if match.unit.strip is not None]
    ranked = sorted(shown, key=lambda match: -match.unit.certainty)[:most]
    return [match for match in shown if match in ranked]
