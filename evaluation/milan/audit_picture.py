"""An audit as a picture: the share of matching units per layer, and below it the clearest matches with exemplars."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from conceptry.evaluation.milan.audit_page import layers_of
from conceptry.evaluation.milan.auditing import Audit, Match
from conceptry.evaluation.milan.overlay import drawn
from conceptry.evaluation.plots import ACCENT, INK, MUTED, SECOND, new_figure, quiet

ROWS, PICTURES = 8, 8  # matches of each network, exemplars of each match
_WIDTH, _ROW = 7.4, 0.82  # inches


def draw_audit(audits: Sequence[Audit], words: Sequence[str]) -> Figure:
    """Bars of the shares per layer, with counts; below, the clearest matches of each network that have exemplars."""
    layers = [*layers_of(audits), None]
    columns = [_clearest(audit) for audit in audits]
    rows = max(len(column) for column in columns)
    bars = 0.9 + 0.3 * len(layers) * len(audits)
    figure = new_figure(_WIDTH * max(1, len(audits) if rows else 1), bars + _ROW * rows + (0.4 if rows else 0))
    if not rows:
        _draw_shares(figure.subplots(), audits, layers, words)
        return figure
    upper, lower = figure.subfigures(2, 1, height_ratios=[bars, _ROW * rows + 0.4], squeeze=False)[:, 0]
    _draw_shares(upper.subplots(), audits, layers, words)
    grid = lower.subplots(rows, len(audits), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for column, (audit, matches) in enumerate(zip(audits, columns, strict=True)):
        for row, match in enumerate(matches):
            assert match.strip is not None
            axes = grid[row, column]
            axes.imshow(drawn(match.strip, PICTURES), aspect="equal", interpolation="antialiased")
            axes.set_anchor("W")
            name = f"{audit.title}   " if len(audits) > 1 and row == 0 else ""
            title = f"{name}{match.unit.layer} {match.unit.unit}   {match.unit.description}"
            axes.set_title(title, loc="left", fontsize=9, color=INK, pad=3, parse_math=False)
    return figure


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
    title = f"Units described by {', '.join(words[:8])}{' ...' if len(words) > 8 else ''}"
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    if len(audits) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=MUTED, loc="lower right")


def _clearest(audit: Audit) -> list[Match]:
    """Those of the largest PMI, or score, in the order of the network."""
    shown = [match for match in audit.matches if match.strip is not None]
    ranked = sorted(shown, key=lambda match: -_clarity(match))[:ROWS]
    return [match for match in shown if match in ranked]


def _clarity(match: Match) -> float:
    value = match.unit.score if match.unit.pmi is None else match.unit.pmi
    return float("-inf") if value is None else value
